"""Names and values in the shared registry. Pure.

Everything about one EID-Prefix (E) is in one bucket, and so in one slot of a cluster:

    r{b}E   the registration: parts one after the other, each with its length in two octets
    n{b}E   the last nonces of its xTRs under each key
    q{b}    how many changes there were in the bucket       l{b}   the log of the last of them
    x{b}    the expiry of each E                            h{b}   the hub that keeps this bucket
    c{b}    the channel that changes are published on

Times are of the server's clock, in seconds; `shifted` converts them to the hub's. So the hubs' clocks do not matter.
"""

from __future__ import annotations

from binascii import crc_hqx
from struct import Struct
from typing import Final

import msgspec

from lispmob.errors import MalformedMessage
from lispmob.hub.map_server import packed_part
from lispmob.hub.map_server.commit import Put
from lispmob.hub.map_server.part import XtrRegistration
from lispmob.hub.store import stored_rows
from lispmob.wire.address import EidPrefix

BUCKETS: Final = 1024
SLOTS: Final = 16384
VERSION: Final = 1  # of all this; a hub of another version does not use it
VERSION_KEY: Final = b"lispmob:version"
KEPT_LONGER_S: Final = 30.0  # the server removes a registration itself this long after its expiry
_ANSWER: Final = Struct(">cdQ")
_CHANGE: Final = Struct(">QdcQH")
_SIZE: Final = Struct(">H")
# Of register.lua
_MUST_GROW, _GROW_IF_COUNTING, _NAMED, _MERGED, _DECIDED = 1, 2, 4, 8, 16


def slot_of(bucket: int) -> int:
    """The cluster slot of a bucket: CRC-16 of the text in braces (Redis cluster specification)."""
    return crc_hqx(b"%d" % bucket, 0) % SLOTS


def bucket_of(prefix: EidPrefix) -> int:
    """The bucket of an EID-Prefix."""
    return bucket_named(stored_rows.key_of(prefix))


def bucket_named(name: bytes) -> int:
    """The same by its octets."""
    return crc_hqx(name, 0) % BUCKETS


def key(kind: bytes, bucket: int, name: bytes = b"") -> bytes:
    """A key of a bucket."""
    return b"%b{%d}%b" % (kind, bucket, name)


def channel_of(bucket: int) -> bytes:
    """The channel of its changes."""
    return b"c{%d}" % bucket


class Answer(msgspec.Struct, frozen=True):
    """A script's answer. `at`: the server's clock; `count`: changes of the bucket; `value`: before the step."""

    code: int
    at: float
    count: int
    value: bytes


def read_answer(octets: bytes) -> Answer:
    """An answer of register.lua or look.lua. ValueError for invalid octets."""
    if len(octets) < _ANSWER.size:
        raise ValueError(f"an answer of {len(octets)} octets")
    code, at, count = _ANSWER.unpack_from(octets)
    return Answer(int(code), at, count, octets[_ANSWER.size :])


class Change(msgspec.Struct, frozen=True):
    """A published change. `kind`: r registered, m moved, w withdrawn, e expired."""

    count: int
    at: float
    kind: str
    hub: int
    prefix: EidPrefix
    value: bytes


def read_change(octets: bytes) -> Change:
    """A message of a channel. ValueError for invalid octets."""
    if len(octets) < _CHANGE.size:
        raise ValueError(f"a message of {len(octets)} octets")
    count, at, kind, hub, size = _CHANGE.unpack_from(octets)
    end = _CHANGE.size + size
    prefix = stored_rows.prefix_of(octets[_CHANGE.size : end])
    return Change(count, at, kind.decode("latin-1"), hub, prefix, octets[end:])


def parts_of(value: bytes, ahead_s: float) -> tuple[bytes, ...]:
    """The parts of a value, given how far the server's clock is ahead. ValueError for an invalid value."""
    found, at = [], 0
    while at < len(value):
        end = at + _SIZE.size + int.from_bytes(value[at : at + _SIZE.size])
        if end > len(value) or end - at < packed_part.LEAST_OCTETS + _SIZE.size:
            raise ValueError("a registration that is damaged")
        try:
            packed_part.record_of(value[at + _SIZE.size : end])
        except MalformedMessage as error:
            raise ValueError(f"a registration that is damaged: {error.why}") from None
        found.append(packed_part.shifted(value[at + _SIZE.size : end], -ahead_s))
        at = end
    return tuple(found)


def value_of(parts: tuple[bytes, ...], ahead_s: float) -> bytes:
    """Parts as a value."""
    moved = [packed_part.shifted(part, ahead_s) for part in parts]
    return b"".join(_SIZE.pack(len(part)) + part for part in moved)


def part_octets(part: XtrRegistration) -> bytes:
    """The part without times, which the server fills in, and without the key index, which differs between hubs."""
    return packed_part.without_key(packed_part.pack(part, 0.0))


def register_arguments(
    put: Put,
    hub: int,
    *,
    others: bytes = b"",
    former: bytes | None = None,
    kept_s: float = 0.0,
) -> list[bytes]:
    """Keys and arguments of register.lua, after the number of keys.

    `former`: the value that `others` was computed from; None: none was. `kept_s`: the lifetime of the others.
    """
    bucket, name = bucket_of(put.prefix), stored_rows.key_of(put.prefix)
    flags = {True: _MUST_GROW, None: _GROW_IF_COUNTING, False: 0}[put.must_grow]
    flags |= (_NAMED if put.is_named else 0) | (_MERGED if put.part.wants_merge else 0)
    flags |= _DECIDED if former is not None else 0
    part = b"" if put.is_withdrawal else part_octets(put.part)
    kept_ms = int(1000 * (max(put.lifetime_s, kept_s) + KEPT_LONGER_S))
    return [
        *(key(kind, bucket, name) for kind in (b"r", b"n")),
        *(key(kind, bucket) for kind in (b"q", b"l", b"x")),
        name,
        put.part.nonce.to_bytes(8),
        b"%d" % flags,
        b"%d" % int(1000 * put.lifetime_s),
        part,
        put.part.xtr,
        others,
        former or b"",
        b"%d" % kept_ms,
        channel_of(bucket),
        hub.to_bytes(8),
        *(bytes.fromhex(owner) for owner in put.owners),
    ]


def look_arguments(prefix: EidPrefix) -> list[bytes]:
    """Keys of look.lua."""
    bucket = bucket_of(prefix)
    return [key(b"r", bucket, stored_rows.key_of(prefix)), key(b"q", bucket)]


def sweep_arguments(bucket: int, hub: int, lease_ms: int, limit: int) -> list[bytes]:
    """Keys and arguments of sweep.lua."""
    return [
        *(key(kind, bucket) for kind in (b"h", b"x", b"q", b"l")),
        hub.to_bytes(8),
        b"%d" % lease_ms,
        b"%d" % limit,
        channel_of(bucket),
        key(b"r", bucket),
    ]

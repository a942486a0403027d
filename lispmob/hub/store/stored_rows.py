"""The format of registrations in the state file: keys and values as octets, times of the calendar's clock. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from struct import Struct
from typing import Final
from zlib import crc32

from lispmob.hub.map_server import packed_part
from lispmob.hub.map_server.nonces import FLOOR, eid_name
from lispmob.wire.address import EidPrefix

_CRC_OCTETS: Final = 4
_PREFIX: Final = Struct(">IB")  # Instance-ID, mask length; the address follows
_OCTETS: Final = {4: 4, 6: 16}


def key_of(prefix: EidPrefix) -> bytes:
    """The key of a registration."""
    return _PREFIX.pack(prefix.instance_id, prefix.mask_len) + prefix.number.to_bytes(_OCTETS[prefix.family])


def prefix_of(key: bytes) -> EidPrefix:
    """The EID-Prefix of a key. ValueError for an invalid key."""
    if len(key) < _PREFIX.size:
        raise ValueError(f"{len(key)} octets are no EID-Prefix")
    instance_id, mask_len = _PREFIX.unpack_from(key)
    return EidPrefix.of_octets(key[_PREFIX.size :], mask_len, instance_id)


def covering_keys(prefix: EidPrefix) -> list[bytes]:
    """The keys of all EID-Prefixes that hold this one, itself included."""
    wider = (EidPrefix.make(prefix.address, mask_len, prefix.instance_id) for mask_len in range(prefix.mask_len + 1))
    return list(map(key_of, wider))


def join(parts: Sequence[bytes], later_s: float) -> bytes:
    """The parts of a registration as one value, on a clock that is this much ahead, with a CRC at the end."""
    moved = [packed_part.shifted(part, later_s) for part in parts]
    value = b"".join([len(part).to_bytes(2) + part for part in moved])
    return value + crc32(value).to_bytes(_CRC_OCTETS)


def split(value: bytes, later_s: float, now: float) -> tuple[bytes, ...]:
    """The parts of a value, on a clock that is this much ahead and shows `now`. ValueError for an invalid value."""
    size = len(value) - _CRC_OCTETS
    if size < 0 or crc32(value[:size]) != int.from_bytes(value[size:]):
        raise ValueError("a value that is damaged")
    parts, at = [], 0
    while at < size:
        end = at + 2 + int.from_bytes(value[at : at + 2])
        if end > size or end - at < packed_part.LEAST_OCTETS + 2:
            raise ValueError("a value whose parts are of no length that a part has")
        parts.append(packed_part.without_key(packed_part.shifted(value[at + 2 : end], later_s, now=now)))
        at = end
    return tuple(parts)


def nonce_name(text: str) -> bytes:
    """The name of a count, from its text in files of version 2. ValueError."""
    if not text:
        return FLOOR
    if len(text) == 32 and "/" not in text:
        return bytes.fromhex(text)
    eid, _, named = text.partition(", ")
    return eid_name(EidPrefix.parse(eid), is_named=bool(named))

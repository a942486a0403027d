"""A part of a registration as octets: one object of some 130 octets in place of a dozen of some 800. Pure.

     expires at | registered at | interval      three doubles, in seconds
     octets of the source | flags | key | nonce 1, 1, 1 and 8 octets
     source | Site-ID, if any | xTR-ID, if any | record as on the wire

Fields that every Map-Register needs are read in place; the rest is decoded when the record is needed.
"""

from __future__ import annotations

from functools import lru_cache
from ipaddress import ip_address
from struct import Struct
from typing import Final

from lispmob.hub.map_server.nonces import eid_name
from lispmob.hub.map_server.part import MAX_LIFETIME_S, XtrRegistration
from lispmob.wire.address import EidPrefix, IpAddress
from lispmob.wire.header import SITE_ID_OCTETS, XTR_ID_OCTETS
from lispmob.wire.reader import Reader
from lispmob.wire.record import MappingRecord, take_record

_HEAD: Final = Struct(">dddBBBQ")
_DOUBLE: Final = Struct(">d")
_TIMES: Final = Struct(">dd")
_NONCE: Final = Struct(">Q")
LEAST_OCTETS: Final = _HEAD.size
_KEY_AT: Final = 26
_NONCE_AT: Final = 27
_SOURCE_OCTETS_AT: Final = 24
_FLAGS_AT: Final = 25
# Of a record (RFC 9301, 5.4), and of a locator in it
_LOCATOR_COUNT_AT: Final = 4
_EID_AFI_AT: Final = 10
_EID_AT: Final = 12
_LOCATOR_AFI_AT: Final = 6
_LOCATOR_AT: Final = 8
_OCTETS: Final = {b"\0\1": 4, b"\0\2": 16}  # by AFI
_IS_IPV6: Final = 1 << 128
_PROXIED: Final = 1
_MERGED: Final = 2
_HAS_XTR_ID: Final = 4
_HAS_SITE_ID: Final = 8
_IS_NAMED: Final = 16  # its xTR-ID tells it apart: not all zero
_SIGNS: Final = 32  # with LISP-SEC
_NO_KEY: Final = 0  # else 1 for the first key of the site, and so on
_LAST_KEY: Final = 255
_CACHED: Final = 8192  # ours: records of the most requested prefixes


def pack(part: XtrRegistration, interval_s: float) -> bytes:
    """The part, with another interval than its own. The state file has the same octets."""
    xtr_id, site_id, source = part.xtr_id, part.site_id, part.source.packed
    flags = part.proxy_map_reply | part.wants_merge << 1 | (_SIGNS if part.has_lisp_sec else 0)
    key = _NO_KEY if part.key_index is None or part.key_index >= _LAST_KEY else part.key_index + 1
    tail = b""
    if site_id is not None:
        flags |= _HAS_SITE_ID
        tail = site_id
    if xtr_id is not None:
        flags |= _HAS_XTR_ID | (_IS_NAMED if any(xtr_id) else 0)
        tail += xtr_id
    head = _HEAD.pack(part.expires_at, part.registered_at, interval_s, len(source), flags, key, part.nonce)
    return head + source + tail + (part.encoded or part.record.encode())


def unpack(packed: bytes) -> XtrRegistration:
    """The decoded part. `xtr` of one without an xTR-ID is its address."""
    expires_s, registered_s, interval_s, source_octets, flags, key, nonce = _HEAD.unpack_from(packed)
    at = _HEAD.size + source_octets
    source = packed[_HEAD.size : at]
    site_id = xtr_id = None
    if flags & _HAS_SITE_ID:
        site_id = packed[at : at + SITE_ID_OCTETS]
        at += SITE_ID_OCTETS
    if flags & _HAS_XTR_ID:
        xtr_id = packed[at : at + XTR_ID_OCTETS]
        at += XTR_ID_OCTETS
    encoded = packed[at:]
    return XtrRegistration(
        xtr_id if flags & _IS_NAMED and xtr_id is not None else source,
        _decoded(encoded),
        expires_s,
        registered_s,
        nonce,
        ip_address(source),
        bool(flags & _PROXIED),
        bool(flags & _MERGED),
        xtr_id,
        site_id,
        encoded,
        interval_s,
        bool(flags & _SIGNS),
        None if key == _NO_KEY else key - 1,
    )


def nonce_name(packed: bytes, prefix: EidPrefix) -> bytes:
    """The name of its nonces, one for this prefix alone if possible."""
    flags = packed[_FLAGS_AT]
    is_named = bool(flags & _IS_NAMED)
    return xtr_of(packed) if is_named and flags & _MERGED else eid_name(prefix, is_named=is_named)


def expires_at(packed: bytes) -> float:
    """In monotonic seconds."""
    at: float = _DOUBLE.unpack_from(packed)[0]
    return at


def registered_at(packed: bytes) -> float:
    """In monotonic seconds."""
    at: float = _DOUBLE.unpack_from(packed, 8)[0]
    return at


def nonce_of(packed: bytes) -> int:
    """Of the Map-Register."""
    return int.from_bytes(packed[_NONCE_AT : _NONCE_AT + _NONCE.size])


def is_proxied(packed: bytes) -> bool:
    """Whether the Map-Server answers for it."""
    return bool(packed[_FLAGS_AT] & _PROXIED)


def has_lisp_sec(packed: bytes) -> bool:
    """Whether the ETR signs its answers."""
    return bool(packed[_FLAGS_AT] & _SIGNS)


def without_key(packed: bytes) -> bytes:
    """The part without the site key that authenticated it."""
    return packed[:_KEY_AT] + bytes((_NO_KEY,)) + packed[_KEY_AT + 1 :]


def wants_merge(packed: bytes) -> bool:
    """Whether it is merged with other xTRs' parts."""
    return bool(packed[_FLAGS_AT] & _MERGED)


def xtr_of(packed: bytes) -> bytes:
    """The identity of the xTR: its xTR-ID, or else its address."""
    at, end = _HEAD.size, _HEAD.size + packed[_SOURCE_OCTETS_AT]
    flags = packed[_FLAGS_AT]
    if flags & _IS_NAMED:
        at = end + (SITE_ID_OCTETS if flags & _HAS_SITE_ID else 0)
        end = at + XTR_ID_OCTETS
    return packed[at:end]


def addresses(packed: bytes) -> set[int]:
    """Its source and all of its locators, as numbers (`number_of`). Plain addresses are read in place."""
    found = {_number(packed[_HEAD.size : _HEAD.size + packed[_SOURCE_OCTETS_AT]])}
    at = _record_at(packed)
    octets = _OCTETS.get(packed[at + _EID_AFI_AT : at + _EID_AT])
    locators, at = packed[at + _LOCATOR_COUNT_AT], at + _EID_AT + (octets or 0)
    for _ in range(locators if octets else 0):
        octets = _OCTETS.get(packed[at + _LOCATOR_AFI_AT : at + _LOCATOR_AT])
        if octets is None:
            break
        at += _LOCATOR_AT + octets
        found.add(_number(packed[at - octets : at]))
    if octets is None:
        found.update(number_of(ip) for locator in record_of(packed).locators for ip in locator.ips)
    return found


def number_of(address: IpAddress) -> int:
    """A unique number for an address."""
    return int(address) if address.version == 4 else int(address) | _IS_IPV6


def _number(octets: bytes) -> int:
    return int.from_bytes(octets) if len(octets) == 4 else int.from_bytes(octets) | _IS_IPV6


def record_of(packed: bytes) -> MappingRecord:
    """The mapping."""
    return _decoded(packed[_record_at(packed) :])


def record_octets(packed: bytes) -> int:
    """The length of the record."""
    return len(packed) - _record_at(packed)


def is_same_record(packed: bytes, other: bytes) -> bool:
    """Whether two parts have the same mapping."""
    return packed[_record_at(packed) :] == other[_record_at(other) :]


def is_refresh(packed: bytes, former: bytes) -> bool:
    """Whether only times and nonce differ: same lifetime, same mapping."""
    expires_s, registered_s = _TIMES.unpack_from(packed)
    was_to_expire_s, was_registered_s = _TIMES.unpack_from(former)
    is_as_long = abs((expires_s - registered_s) - (was_to_expire_s - was_registered_s)) < 1.0
    return (
        is_as_long
        and packed[_SOURCE_OCTETS_AT:_NONCE_AT] == former[_SOURCE_OCTETS_AT:_NONCE_AT]
        and (packed[_HEAD.size :] == former[_HEAD.size :])
    )


def is_same_place(packed: bytes, other: bytes) -> bool:
    """Whether two parts have the same source and the same mapping."""
    source = slice(_HEAD.size, _HEAD.size + packed[_SOURCE_OCTETS_AT])
    return packed[source] == other[source] and is_same_record(packed, other)


def shifted(packed: bytes, by_s: float, least_heard_at: float = float("-inf"), *, now: float = float("inf")) -> bytes:
    """With all times shifted from one clock to another. It was last heard at `least_heard_at` at the earliest, and now
    at the latest.

    So no clock that was set back extends the lifetime of a part.
    """
    expires_s, registered_s = _TIMES.unpack_from(packed)
    lifetime_s = min(expires_s - registered_s, MAX_LIFETIME_S)
    heard_s = min(max(registered_s + by_s, least_heard_at), now)
    return _TIMES.pack(heard_s + lifetime_s, heard_s) + packed[_TIMES.size :]


def _record_at(packed: bytes) -> int:
    flags = packed[_FLAGS_AT]
    at = _HEAD.size + packed[_SOURCE_OCTETS_AT]
    if flags & _HAS_SITE_ID:
        at += SITE_ID_OCTETS
    return at + XTR_ID_OCTETS if flags & _HAS_XTR_ID else at


@lru_cache(_CACHED)
def _decoded(record: bytes) -> MappingRecord:
    """A record that was encoded here, or decoded from a message before."""
    return take_record(Reader(record))

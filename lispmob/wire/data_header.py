"""The LISP header of data packets, between the outer UDP header and the inner packet (RFC 9300, 5.1)."""

from __future__ import annotations

from struct import Struct
from typing import Final

import msgspec

from lispmob.errors import MalformedMessage
from lispmob.wire.checksum import internet_checksum
from lispmob.wire.ip_udp import IPV4_OCTETS, IPV6_OCTETS

DATA_HEADER_OCTETS: Final = 8
CONTROL_INSTANCE_ID: Final = 0xFFFFFF  # NAT-traversal draft: the inner packet is a control message for this node

_WORDS: Final = Struct(">II")
_N, _L, _E, _V, _I = (1 << bit for bit in (31, 30, 29, 28, 27))
_KEY_SHIFT: Final = 24


class DataHeader(msgspec.Struct, frozen=True):
    """The eight octets. On the public Internet nothing but the Instance-ID may be used (RFC 9300, 4.1).

    `nonce` (N, 24 bits) excludes `map_versions` (V, source and destination, 12 bits each). `wants_echo` (E) needs N.
    `locator_status_bits` (L) are 32, or 8 beside an `instance_id` (I, 24 bits). `key_number` (KK) 0: clear text.
    """

    nonce: int | None = None
    wants_echo: bool = False
    locator_status_bits: int | None = None
    map_versions: tuple[int, int] | None = None
    instance_id: int | None = None
    key_number: int = 0

    def encode(self) -> bytes:
        """The eight octets. ValueError for a nonce together with Map-Versions, or for a number that does not fit."""
        first, second = self.key_number << _KEY_SHIFT, 0
        if self.nonce is not None:
            first |= _N | self.wants_echo * _E | _bounded(self.nonce, 24)
        if self.map_versions is not None:
            if self.nonce is not None:
                raise ValueError("a data header has no room for both a nonce and Map-Versions")
            source, destination = self.map_versions
            first |= _V | _bounded(source, 12) << 12 | _bounded(destination, 12)
        if self.instance_id is not None:
            first |= _I
            second = _bounded(self.instance_id, 24) << 8
        if self.locator_status_bits is not None:
            first |= _L
            second |= _bounded(self.locator_status_bits, 32 if self.instance_id is None else 8)
        return _WORDS.pack(first, second)

    #  0                   1                   2                   3
    #  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
    # +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    # |N|L|E|V|I|R|K|K|      Nonce (24), or two Map-Versions (12, 12) |
    # |      Instance-ID (24) and status bits (8), or status bits (32)|
    @classmethod
    def decode(cls, data: bytes) -> DataHeader:
        """Read the header at the start of `data`. Fields without their flag are ignored. Raises `data_short`."""
        if len(data) < DATA_HEADER_OCTETS:
            raise MalformedMessage("data_short", f"{len(data)} octets, fewer than a data header")
        first, second = _WORDS.unpack_from(data)
        has_nonce = bool(first & _N)
        status_bits = second & 0xFF if first & _I else second
        return cls(
            nonce=first & 0xFFFFFF if has_nonce else None,
            wants_echo=has_nonce and bool(first & _E),
            locator_status_bits=status_bits if first & _L else None,
            map_versions=(first >> 12 & 0xFFF, first & 0xFFF) if first & _V and not has_nonce else None,
            instance_id=second >> 8 if first & _I else None,
            key_number=first >> _KEY_SHIFT & 3,
        )


def split_data_packet(payload: bytes) -> tuple[DataHeader, bytes]:
    """Read the UDP payload of a clear-text data packet: its header, and the inner packet truncated to its own length.

    Raises `data_short` without room for an IPv4 header, `data_key` for encrypted packets, and `data_inner` for an inner
    packet of another IP version, longer than what was received, or with a wrong IPv4 header checksum.
    """
    if len(payload) < DATA_HEADER_OCTETS + IPV4_OCTETS:
        raise MalformedMessage("data_short", f"{len(payload)} octets, fewer than headers")
    header = DataHeader.decode(payload)
    if header.key_number:
        raise MalformedMessage("data_key", f"encrypted with key {header.key_number}")
    inner = payload[DATA_HEADER_OCTETS:]
    return header, inner[: _inner_length(inner)]


def _inner_length(inner: bytes) -> int:
    version = inner[0] >> 4
    if version == 4:
        header_octets, length = (inner[0] & 0x0F) * 4, int.from_bytes(inner[2:4])
        if not IPV4_OCTETS <= header_octets <= length <= len(inner):
            raise MalformedMessage("data_inner", f"IPv4 header of {header_octets} octets, total length {length}")
        if internet_checksum(inner[:header_octets]):
            raise MalformedMessage("data_inner", "IPv4 header checksum")
        return length
    if version == 6 and len(inner) >= IPV6_OCTETS:
        length = IPV6_OCTETS + int.from_bytes(inner[4:6])
        if length <= len(inner):
            return length
        raise MalformedMessage("data_inner", f"IPv6 packet of {length} octets, {len(inner)} received")
    raise MalformedMessage("data_inner", f"inner IP version {version} in {len(inner)} octets")


def _bounded(value: int, bits: int) -> int:
    if not 0 <= value < 1 << bits:
        raise ValueError(f"{value} does not fit {bits} bits of the data header")
    return value

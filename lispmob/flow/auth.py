"""The AUTH TLV authenticates flow messages by the key of an EID-Prefix. Pure.

The MAC is the first 16 octets of HMAC-SHA-256 over

    "lispmob flow 1" 00 | source 16 | destination 16 | source port 2 | destination port 2 | message, its MAC zero

with IPv4 addresses as ::ffff:a.b.c.d. The addresses are EIDs, which no NAT on the path rewrites.
"""

from __future__ import annotations

import hmac
from ipaddress import IPv4Address, IPv6Address
from typing import Final, TypeAlias

import msgspec

from lispmob.flow.message import AUTH_OCTETS

IpAddress: TypeAlias = IPv4Address | IPv6Address

MIN_KEY_OCTETS: Final = 16
_LABEL: Final = b"lispmob flow 1\0"
_TLV: Final = b"\x81" + bytes([AUTH_OCTETS])
_HMAC_SHA_256: Final = 1
_MAC_OCTETS: Final = 16


class FlowKey(msgspec.Struct, frozen=True):
    """A key and its number (0 to 255) on the wire."""

    key_id: int
    secret: bytes


class Way(msgspec.Struct, frozen=True):
    """Source and destination of a message: EIDs and UDP ports."""

    source: IpAddress
    source_port: int
    destination: IpAddress
    destination_port: int

    def reversed(self) -> Way:
        """Source and destination of the answer."""
        return Way(self.destination, self.destination_port, self.source, self.source_port)


def sign(octets: bytes, way: Way, key: FlowKey) -> bytes:
    """Append an AUTH TLV to the message."""
    unsigned = octets + _TLV + bytes([key.key_id, _HMAC_SHA_256]) + bytes(_MAC_OCTETS)
    return unsigned[:-_MAC_OCTETS] + _mac(unsigned, way, key)


def key_id_of(octets: bytes) -> tuple[int, int]:
    """Key ID and algorithm of a message that has an AUTH TLV."""
    return octets[-AUTH_OCTETS], octets[-AUTH_OCTETS + 1]


def is_signed_by(octets: bytes, way: Way, key: FlowKey) -> bool:
    """True when the AUTH TLV at the end names this key and its MAC is correct."""
    if key_id_of(octets) != (key.key_id, _HMAC_SHA_256):
        return False
    unsigned = octets[:-_MAC_OCTETS] + bytes(_MAC_OCTETS)
    return hmac.compare_digest(octets[-_MAC_OCTETS:], _mac(unsigned, way, key))


def _mac(unsigned: bytes, way: Way, key: FlowKey) -> bytes:
    ports = way.source_port.to_bytes(2) + way.destination_port.to_bytes(2)
    covered = _LABEL + _in_16(way.source) + _in_16(way.destination) + ports + unsigned
    return hmac.digest(key.secret, covered, "sha256")[:_MAC_OCTETS]


def _in_16(address: IpAddress) -> bytes:
    return bytes(10) + b"\xff\xff" + address.packed if address.version == 4 else address.packed

"""IPv4-embedded IPv6 addresses (RFC 6052), and how a host learns the prefix of its NAT64 translator.

Which octets hold the IPv4 address, by the length of the prefix. Octet 8 is always zero.

    /32   prefix 0-3    IPv4 4-7
    /40   prefix 0-4    IPv4 5-7, 9
    /48   prefix 0-5    IPv4 6-7, 9-10
    /56   prefix 0-6    IPv4 7, 9-11
    /64   prefix 0-7    IPv4 9-12
    /96   prefix 0-11   IPv4 12-15
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address, IPv6Network
from typing import Final

import msgspec

from lispmob.wire.address import IpAddress

WELL_KNOWN: Final = IPv6Network("64:ff9b::/96")
"""RFC 6052, 2.1: the prefix of translators without a network-specific prefix."""
LENGTHS: Final = (32, 40, 48, 56, 64, 96)
IPV4_ONLY_NAME: Final = "ipv4only.arpa"
"""RFC 7050: a name without IPv6 addresses. A DNS64 server that synthesizes one embeds one of `IPV4_ONLY`."""
IPV4_ONLY: Final = (IPv4Address("192.0.0.170"), IPv4Address("192.0.0.171"))

PREF64: Final = 38  # IANA, IPv6 Neighbor Discovery Option Formats
_PREF64_OCTETS: Final = 16
_PREF64_LENGTHS: Final = (96, 64, 56, 48, 40, 32)  # RFC 8781, 4.1, by the prefix length code
_LIFETIME_UNIT_S: Final = 8
_PLACES: Final = {length: tuple(place for place in range(length // 8, 16) if place != 8)[:4] for length in LENGTHS}


class Pref64(msgspec.Struct, frozen=True):
    """A router's advertisement of a NAT64 prefix (RFC 8781). `lifetime_s` 0 withdraws the prefix."""

    prefix: IPv6Network
    lifetime_s: int


def may_be_prefix(network: IPv6Network) -> bool:
    """True for a prefix that may embed IPv4 addresses."""
    octets = network.network_address.packed
    return network.prefixlen in LENGTHS and (network.prefixlen != 96 or octets[8] == 0)


def embed(prefix: IPv6Network, address: IPv4Address) -> IPv6Address:
    """The IPv6 address that a translator with this prefix maps to `address`. ValueError for an invalid prefix."""
    if not may_be_prefix(prefix):
        raise ValueError(
            f"{prefix}: a prefix of a translator has {', '.join(map(str, LENGTHS))} bits, and octet 8 is 0"
        )
    octets = bytearray(prefix.network_address.packed)
    for place, octet in zip(_PLACES[prefix.prefixlen], address.packed, strict=True):
        octets[place] = octet
    return IPv6Address(bytes(octets))


def extract(prefix: IPv6Network, address: IpAddress) -> IPv4Address | None:
    """The IPv4 address embedded in this address; None when it is not in the prefix."""
    if address.version == 4 or address not in prefix:
        return None
    return _embedded(address.packed, prefix.prefixlen)


def prefix_of(synthesized: IpAddress, known: Iterable[IPv4Address] = IPV4_ONLY) -> IPv6Network | None:
    """The prefix in which this address embeds one of the `known` addresses (RFC 7050, 3).

    None when it embeds none of them, or when several prefix lengths fit: then the prefix is ambiguous.
    """
    if synthesized.version == 4:
        return None
    octets, wanted = synthesized.packed, frozenset(known)
    fitting = [length for length in LENGTHS if _embedded(octets, length) in wanted and octets[8] == 0]
    if len(fitting) != 1:
        return None
    return IPv6Network((octets, fitting[0]), strict=False)


def take_pref64(option: bytes) -> Pref64 | None:
    """Read a PREF64 option of a Router Advertisement, type and length included; None for anything else.

     0                   1                   2                   3
     0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
    |   Type = 38   |  Length = 2   |     Scaled Lifetime     | PLC |
    |               the highest 96 bits of the prefix ...
    """
    if len(option) != _PREF64_OCTETS or option[0] != PREF64 or option[1] != 2:
        return None
    scaled, code = int.from_bytes(option[2:4]) >> 3, option[3] & 7
    if code >= len(_PREF64_LENGTHS):
        return None
    prefix = IPv6Network((option[4:] + bytes(4), _PREF64_LENGTHS[code]), strict=False)
    return Pref64(prefix, scaled * _LIFETIME_UNIT_S) if may_be_prefix(prefix) else None


def _embedded(octets: bytes, length: int) -> IPv4Address:
    return IPv4Address(bytes(octets[place] for place in _PLACES[length]))

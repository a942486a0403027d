"""Addresses as they stand on the wire: AFI-encoded, and the EID-Prefix made of them.

An address field is `AFI (2 octets) | address`, unpadded and unaligned. Python's own `ipaddress` types carry IPv4 and
IPv6; `None` stands for AFI 0, "no address". LCAF bodies are in `lcaf.py`, which also holds the field's codec.
"""

from __future__ import annotations

from enum import IntEnum
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import TypeAlias

from lispmob.values import dataclass

IpAddress: TypeAlias = IPv4Address | IPv6Address
IpNetwork: TypeAlias = IPv4Network | IPv6Network


class Afi(IntEnum):
    """Address family numbers (IANA) that a LISP message may carry."""

    NONE = 0
    IPV4 = 1
    IPV6 = 2
    MAC = 6
    DISTINGUISHED_NAME = 17
    LCAF = 16387


@dataclass(frozen=True, slots=True)
class MacAddress:
    """A 48-bit MAC address (AFI 6)."""

    octets: bytes

    def __post_init__(self) -> None:
        if len(self.octets) != 6:
            raise ValueError(f"a MAC address has 6 octets, not {len(self.octets)}")

    def __str__(self) -> str:
        return self.octets.hex(":")


@dataclass(frozen=True, slots=True)
class DistinguishedName:
    """A distinguished name (AFI 17, RFC 9735): octets without NUL; the terminating NUL is the codec's."""

    name: bytes

    def __post_init__(self) -> None:
        if b"\0" in self.name:
            raise ValueError("a distinguished name holds no NUL octet")

    def __str__(self) -> str:
        return self.name.decode("ascii", "backslashreplace")


@dataclass(frozen=True, slots=True)
class EidPrefix:
    """An EID-Prefix: an IP prefix in an Instance-ID (0: the default instance). Host bits are always clear."""

    network: IpNetwork
    instance_id: int = 0

    @classmethod
    def host(cls, address: IpAddress, instance_id: int = 0) -> EidPrefix:
        """The /32 or /128 of one address."""
        return cls(ip_network(address), instance_id)

    @classmethod
    def make(cls, address: IpAddress, mask_len: int, instance_id: int = 0) -> EidPrefix:
        """Build from address and mask length; host bits beyond the mask are cleared. ValueError for a longer mask."""
        return cls(ip_network((address, mask_len), strict=False), instance_id)

    @classmethod
    def parse(cls, text: str) -> EidPrefix:
        """Read "10.1.0.0/16" or "[4660]10.1.0.0/16" (the Instance-ID in brackets). ValueError for anything else."""
        instance_id, rest = 0, text.strip()
        if rest.startswith("["):
            number, closed, rest = rest[1:].partition("]")
            if not closed:
                raise ValueError(f"{text!r}: no closing bracket after the Instance-ID")
            instance_id = int(number, 0)
            if not 0 <= instance_id < 1 << 32:
                raise ValueError(f"{text!r}: an Instance-ID has 32 bits")
        return cls(ip_network(rest, strict=False), instance_id)

    @property
    def family(self) -> int:
        """4 or 6."""
        return self.network.version

    @property
    def mask_len(self) -> int:
        """Prefix length in bits."""
        return self.network.prefixlen

    @property
    def address(self) -> IpAddress:
        """The first address of the prefix."""
        return self.network.network_address

    def contains(self, address: IpAddress) -> bool:
        """True when the address (taken to be of the same Instance-ID) lies in the prefix; False across families."""
        return address.version == self.network.version and address in self.network

    def covers(self, other: EidPrefix) -> bool:
        """True when `other` is this prefix or a more-specific one of it, in the same Instance-ID and family."""
        mine, its = self.network, other.network
        if isinstance(mine, IPv4Network):
            return self.instance_id == other.instance_id and isinstance(its, IPv4Network) and its.subnet_of(mine)
        return self.instance_id == other.instance_id and isinstance(its, IPv6Network) and its.subnet_of(mine)

    def __str__(self) -> str:
        return f"[{self.instance_id}]{self.network}" if self.instance_id else str(self.network)


def parse_ip(text: str) -> IpAddress:
    """Read an IPv4 or IPv6 address; ValueError for anything else."""
    return ip_address(text)

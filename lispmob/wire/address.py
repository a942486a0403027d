"""AFI-encoded addresses, and the EID-Prefix.

An address field is `AFI (2 octets) | address`, unpadded and unaligned. Python's own `ipaddress` types carry IPv4 and
IPv6; `None` stands for AFI 0, "no address". LCAF bodies are in `lcaf.py`, which also holds the field's codec.
"""

from __future__ import annotations

from enum import IntEnum
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final, NamedTuple, TypeAlias

import msgspec

IpAddress: TypeAlias = IPv4Address | IPv6Address
IpNetwork: TypeAlias = IPv4Network | IPv6Network
_WIDTHS: Final = {4: 32, 6: 128}
_FAMILIES: Final = {4: 4, 16: 6}  # by octets


class Afi(IntEnum):
    """Address family numbers (IANA) that a LISP message may carry."""

    NONE = 0
    IPV4 = 1
    IPV6 = 2
    MAC = 6
    DISTINGUISHED_NAME = 17
    LCAF = 16387


class MacAddress(msgspec.Struct, frozen=True):
    """A 48-bit MAC address (AFI 6)."""

    octets: bytes

    def __post_init__(self) -> None:
        if len(self.octets) != 6:
            raise ValueError(f"a MAC address has 6 octets, not {len(self.octets)}")

    def __str__(self) -> str:
        return self.octets.hex(":")


class DistinguishedName(msgspec.Struct, frozen=True):
    """A distinguished name (AFI 17, RFC 9735): octets without NUL. The codec adds and removes the terminating NUL."""

    name: bytes

    def __post_init__(self) -> None:
        if b"\0" in self.name:
            raise ValueError("a distinguished name holds no NUL octet")

    def __str__(self) -> str:
        return self.name.decode("ascii", "backslashreplace")


class _Prefix(NamedTuple):
    instance_id: int
    family: int
    number: int
    mask_len: int


class EidPrefix(_Prefix):
    """An EID-Prefix: an IP prefix in an Instance-ID (0: the default instance). Host bits are always clear.

    `family` is 4 or 6, `number` the first address as a number, `mask_len` the prefix length in bits. The class is a
    tuple of numbers, because a Map-Server stores and compares millions of them.
    """

    __slots__ = ()

    def __new__(cls, network: IpNetwork, instance_id: int = 0) -> EidPrefix:
        number = int(network.network_address)
        return tuple.__new__(cls, (instance_id, network.version, number, network.prefixlen))

    @classmethod
    def host(cls, address: IpAddress, instance_id: int = 0) -> EidPrefix:
        """The /32 or /128 of an address."""
        family = address.version
        return tuple.__new__(cls, (instance_id, family, int(address), _WIDTHS[family]))

    @classmethod
    def make(cls, address: IpAddress, mask_len: int, instance_id: int = 0) -> EidPrefix:
        """Build from address and mask length; clears host bits beyond the mask. ValueError for a longer mask."""
        family, number = address.version, int(address)
        width = _WIDTHS[family]
        if mask_len != width:
            if not 0 <= mask_len < width:
                raise ValueError(f"{mask_len} is no mask length for {address}")
            number = number >> (width - mask_len) << (width - mask_len)
        return tuple.__new__(cls, (instance_id, family, number, mask_len))

    @classmethod
    def of_octets(cls, address: bytes, mask_len: int, instance_id: int = 0) -> EidPrefix:
        """Build from the 4 or 16 octets of an address without host bits. ValueError for another length."""
        family = _FAMILIES.get(len(address))
        if family is None or mask_len > _WIDTHS[family]:
            raise ValueError(f"{len(address)} octets and {mask_len} bits are no prefix")
        return tuple.__new__(cls, (instance_id, family, int.from_bytes(address), mask_len))

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
    def width(self) -> int:
        """Bits of an address of this prefix's family: 32 or 128."""
        return _WIDTHS[self.family]

    @property
    def network(self) -> IpNetwork:
        """The IP prefix, without its Instance-ID."""
        if self.family == 4:
            return IPv4Network((self.number, self.mask_len))
        return IPv6Network((self.number, self.mask_len))

    @property
    def address(self) -> IpAddress:
        """The first address of the prefix."""
        return IPv4Address(self.number) if self.family == 4 else IPv6Address(self.number)

    def contains(self, address: IpAddress) -> bool:
        """True when the address (taken to be of the same Instance-ID) lies in the prefix; False across families."""
        shift = _WIDTHS[self.family] - self.mask_len
        return address.version == self.family and int(address) >> shift == self.number >> shift

    def covers(self, other: EidPrefix) -> bool:
        """True when `other` is this prefix or a more-specific one of it, in the same Instance-ID and family."""
        if self[:2] != other[:2] or self.mask_len > other.mask_len:
            return False
        shift = _WIDTHS[self.family] - self.mask_len
        return other.number >> shift == self.number >> shift

    def __repr__(self) -> str:
        return f"EidPrefix.parse({str(self)!r})"

    def __str__(self) -> str:
        text = f"{self.address}/{self.mask_len}"
        return f"[{self.instance_id}]{text}" if self.instance_id else text


def parse_ip(text: str) -> IpAddress:
    """Read an IPv4 or IPv6 address; ValueError for anything else."""
    return ip_address(text)

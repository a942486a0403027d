"""Netlink messages as octets: their header, their attributes, and the numbers of rtnetlink.

struct nlmsghdr: length (32 bits), type (16), flags (16), sequence (32), port (32)
then a body of fixed length, and attributes: length (16), type (16), value, padded to 4 octets
"""

from __future__ import annotations

import socket
import struct
import sys
from collections.abc import Iterator
from typing import Final, NamedTuple

# <linux/netlink.h>
NETLINK_ROUTE: Final = 0
NETLINK_SOCK_DIAG: Final = 4
NETLINK_NETFILTER: Final = 12
ERROR, DONE = 2, 3
REQUEST, MULTI, ACK = 0x1, 0x2, 0x4
DUMP_INTERRUPTED: Final = 0x10
DUMP, EXCLUSIVE, CREATE = 0x300, 0x200, 0x400
REPLACE: Final = 0x100
NESTED: Final = 0x8000
_TYPE_MASK: Final = 0x3FFF

# <linux/rtnetlink.h>
RTM_NEWLINK, RTM_DELLINK, RTM_GETLINK, RTM_SETLINK = 16, 17, 18, 19
RTM_NEWADDR, RTM_DELADDR, RTM_GETADDR = 20, 21, 22
RTM_NEWROUTE, RTM_DELROUTE, RTM_GETROUTE = 24, 25, 26
RTM_NEWNEIGH, RTM_DELNEIGH, RTM_GETNEIGH = 28, 29, 30
RTM_NEWRULE, RTM_DELRULE, RTM_GETRULE = 32, 33, 34
RTM_NEWNDUSEROPT: Final = 68
RTM_NEWNEXTHOP, RTM_DELNEXTHOP, RTM_GETNEXTHOP = 104, 105, 106
RTMSG: Final = struct.Struct("=BBBBBBBBI")  # family, dst_len, src_len, tos, table, protocol, scope, type, flags
IFINFOMSG: Final = struct.Struct("=BxHiII")  # family, type, index, flags, change
FAMILIES: Final = {4: int(socket.AF_INET), 6: int(socket.AF_INET6)}
VERSIONS: Final = {number: version for version, number in FAMILIES.items()}

HEADER: Final = struct.Struct("=IHHII")
_ATTRIBUTE: Final = struct.Struct("=HH")
_AT_PORT: Final = 12


class Raw(NamedTuple):
    """One message, still encoded; `data` begins with the header."""

    type: int
    flags: int
    data: bytes

    @property
    def body(self) -> bytes:
        """What is behind the header."""
        return self.data[HEADER.size :]

    @property
    def port(self) -> int:
        """Who made the request that it is about: the number of a process, mostly; 0: the kernel by itself."""
        return int(struct.unpack_from("=I", self.data, _AT_PORT)[0])

    @property
    def family(self) -> int:
        """First octet of every rtnetlink body: AF_INET, AF_INET6 or 0."""
        return self.data[HEADER.size]

    @property
    def is_default_route(self) -> bool:
        """True for a whole default route and for half of one."""
        return self.data[HEADER.size + 1] <= 1


def messages(datagram: bytes) -> Iterator[Raw]:
    """Split one datagram into messages; a truncated tail is left out."""
    at = 0
    while at + HEADER.size <= len(datagram):
        length, kind, flags, _, _ = HEADER.unpack_from(datagram, at)
        if not HEADER.size <= length <= len(datagram) - at:
            return
        yield Raw(kind, flags, datagram[at : at + length])
        at += padded(length)


def request(kind: int, flags: int, body: bytes) -> bytes:
    """One request: header and body."""
    return HEADER.pack(HEADER.size + len(body), kind, REQUEST | flags, 1, 0) + body


def attributes(octets: bytes) -> Iterator[tuple[int, bytes]]:
    """(type, value) of each attribute; ends at the first that does not fit."""
    at = 0
    while at + _ATTRIBUTE.size <= len(octets):
        length, kind = _ATTRIBUTE.unpack_from(octets, at)
        if not _ATTRIBUTE.size <= length <= len(octets) - at:
            return
        yield kind & _TYPE_MASK, octets[at + _ATTRIBUTE.size : at + length]
        at += padded(length)


def number_in(value: bytes | None) -> int:
    """The number that is the value of an attribute, in the host's order; 0 where there is no such attribute."""
    return int.from_bytes(value or b"", sys.byteorder)


def put(kind: int, value: bytes) -> bytes:
    """One attribute."""
    length = _ATTRIBUTE.size + len(value)
    return (_ATTRIBUTE.pack(length, kind) + value).ljust(padded(length), b"\0")


def put_u32(kind: int, number: int) -> bytes:
    """One attribute that is a number in the host's order."""
    return put(kind, struct.pack("=I", number))


def padded(length: int) -> int:
    """The place of what follows."""
    return (length + 3) & ~3

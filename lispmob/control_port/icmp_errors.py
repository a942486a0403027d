"""What ICMP answers to datagrams that a socket sent (IP_RECVERR of ip(7), IPV6_RECVERR of ipv6(7)).

Any host on the way can forge such an error: it may explain a silence to users, and must never cause one.
"""

from __future__ import annotations

import socket
from ipaddress import ip_address
from struct import Struct
from typing import Final, Literal, TypeAlias

import msgspec

from lispmob.wire.address import IpAddress

Reason: TypeAlias = Literal["port", "host", "prohibited", "refused-here"]
"""No listener on the port; no route to the host; forbidden on the path; forbidden by this host's own firewall."""

READ_LIMIT: Final = 16  # ours: errors per turn of the loop
ANCILLARY_OCTETS: Final = 512

# Linux, <linux/in.h>, <linux/in6.h>: not in every supported Python's socket module
_RECVERR: Final = {4: (socket.IPPROTO_IP, 11), 6: (socket.IPPROTO_IPV6, 25)}
# errno, origin, type, code, pad, info, data (struct sock_extended_err, <linux/errqueue.h>)
_EXTENDED: Final = Struct("@IBBBBII")
_ORIGIN_ICMP: Final = {4: 2, 6: 3}
_UNREACHABLE_TYPE: Final = {4: 3, 6: 1}
_PORT_CODE: Final = {4: 3, 6: 4}
_PROHIBITED_CODES: Final = {4: frozenset({9, 10, 13}), 6: frozenset({1, 5, 6})}
_NOT_ABOUT_REACH: Final = {4: frozenset({2, 4}), 6: frozenset[int]()}  # protocol; fragmentation needed


class Unreachable(msgspec.Struct, frozen=True):
    """A datagram to `destination` and `port` was not delivered, for this reason."""

    destination: IpAddress
    port: int
    reason: Reason


def enable(one: socket.socket, family: int) -> None:
    """Have the kernel keep errors for `read_errors`. Pending ones make the next call on the socket fail once."""
    level, option = _RECVERR[family]
    one.setsockopt(level, option, 1)


def read_errors(one: socket.socket, family: int) -> tuple[int, list[Unreachable]]:
    """How many errors were waiting, and those of them that give a reason."""
    found: list[Unreachable] = []
    for count in range(READ_LIMIT):
        try:
            _, ancillary, _, destination = one.recvmsg(1, ANCILLARY_OCTETS, socket.MSG_ERRQUEUE | socket.MSG_DONTWAIT)
        except OSError:
            return count, found
        found += [
            error for level, kind, octets in ancillary if (error := _read(family, level, kind, octets, destination))
        ]
    return READ_LIMIT, found


def _read(family: int, level: int, kind: int, octets: bytes, destination: tuple[str, int]) -> Unreachable | None:
    if (level, kind) != _RECVERR[family] or len(octets) < _EXTENDED.size or not destination:
        return None
    _, origin, icmp_type, code, _, _, _ = _EXTENDED.unpack_from(octets)
    if origin != _ORIGIN_ICMP[family] or icmp_type != _UNREACHABLE_TYPE[family] or code in _NOT_ABOUT_REACH[family]:
        return None
    reason: Reason = (
        "port" if code == _PORT_CODE[family] else "prohibited" if code in _PROHIBITED_CODES[family] else "host"
    )
    return Unreachable(ip_address(destination[0].partition("%")[0]), destination[1], reason)

"""The local address and interface of one datagram, in ancillary data: IP_PKTINFO and IPV6_PKTINFO (ip(7), ipv6(7))."""

from __future__ import annotations

import socket
from functools import lru_cache
from ipaddress import ip_address
from struct import Struct
from typing import Final

from lispmob.wire.address import IpAddress

IP_PKTINFO: Final = 8  # Linux, <linux/in.h>: not in every supported Python's socket module
ADDRESSES_KEPT: Final = 256

_PKTINFO4: Final = Struct("@i4s4s")  # ifindex, local address, destination in the header
_PKTINFO6: Final = Struct("@16si")  # address, ifindex


def put_packet_info(family: int, source: IpAddress | None, ifindex: int) -> tuple[int, int, bytes]:
    """The ancillary datum that makes a datagram leave from this address and interface; None and 0 leave the choice."""
    if family == 4:
        octets = source.packed if source is not None else bytes(4)
        return socket.IPPROTO_IP, IP_PKTINFO, _PKTINFO4.pack(ifindex, octets, bytes(4))
    octets = source.packed if source is not None else bytes(16)
    return socket.IPPROTO_IPV6, socket.IPV6_PKTINFO, _PKTINFO6.pack(octets, ifindex)


def take_packet_info(family: int, ancillary: list[tuple[int, int, bytes]]) -> tuple[IpAddress, int] | None:
    """The address and interface at which a datagram arrived; None if the kernel has not said so."""
    for level, kind, octets in ancillary:
        if family == 4 and (level, kind) == (socket.IPPROTO_IP, IP_PKTINFO) and len(octets) >= _PKTINFO4.size:
            ifindex, _, destination = _PKTINFO4.unpack_from(octets)
            return _address_in(destination), ifindex
        if family == 6 and (level, kind) == (socket.IPPROTO_IPV6, socket.IPV6_PKTINFO) and len(octets) >= 20:
            address, ifindex = _PKTINFO6.unpack_from(octets)
            return _address_in(address), ifindex
    return None


@lru_cache(ADDRESSES_KEPT)
def _address_in(octets: bytes) -> IpAddress:
    """One of our addresses, which are few."""
    return ip_address(octets)

"""Asks the kernel where it would route a packet (RTM_GETROUTE): the answer includes all programs' rules."""

from __future__ import annotations

import errno
import os
import socket
import struct
import sys
from ipaddress import ip_address
from typing import Final

import msgspec

from lispmob.errors import KernelRefused
from lispmob.netlink.connection import ask, open_netlink
from lispmob.netlink.message import FAMILIES, RTM_GETROUTE, RTMSG, attributes, put
from lispmob.wire.address import IpAddress

# <linux/netlink.h>, <linux/rtnetlink.h>
_DST, _SRC, _IIF, _OIF, _PREFSRC = 1, 2, 3, 4, 7
_MARK, _UID, _IP_PROTO, _SPORT, _DPORT = 16, 25, 27, 28, 29
_UNICAST: Final = 1
_NO_ROUTE: Final = frozenset({errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EACCES, errno.EINVAL, errno.EAGAIN})
_PORT_PROTOCOLS: Final = {6, 17}  # the protocols for which the kernel accepts ports


class RouteFound(msgspec.Struct, frozen=True):
    """The route of a packet: the interface, and the source that it would get. `why_not`: no route, or not outside."""

    interface: str | None
    source: IpAddress | None = None
    why_not: str | None = None


def route_of(
    destination: IpAddress,
    source: IpAddress | None = None,
    *,
    mark: int = 0,
    uid: int | None = None,
    from_interface: str | None = None,
    protocol: int | None = None,
    ports: tuple[int, int] | None = None,
) -> RouteFound:
    """The kernel's route for a packet of this host, or for one that comes in by an interface. Raises KernelRefused."""
    version = destination.version
    wanted = put(_DST, destination.packed)
    length = destination.max_prefixlen
    if source is not None:
        wanted += put(_SRC, source.packed)
    if mark:
        wanted += put(_MARK, struct.pack("=I", mark))
    if uid is not None:
        wanted += put(_UID, struct.pack("=I", uid))
    if protocol in _PORT_PROTOCOLS:
        wanted += put(_IP_PROTO, bytes([protocol]))
        if ports is not None:
            wanted += put(_SPORT, struct.pack("!H", ports[0])) + put(_DPORT, struct.pack("!H", ports[1]))
    try:
        if from_interface is not None:
            wanted += put(_IIF, struct.pack("=i", socket.if_nametoindex(from_interface)))
        source_length = length if source is not None else 0
        header = RTMSG.pack(FAMILIES[version], length, source_length, 0, 0, 0, 0, 0, 0)
        with open_netlink() as kernel:
            message = next(ask(kernel, RTM_GETROUTE, 0, header, wanted))
    except OSError as error:
        if error.errno in _NO_ROUTE:
            return RouteFound(None, why_not=os.strerror(error.errno or 0))
        raise KernelRefused(f"route to {destination}: {error.strerror or error}") from error
    if message[7] != _UNICAST:
        return RouteFound(None, why_not="it is for this host itself, or for a group")
    found = dict(attributes(message[RTMSG.size :]))
    try:
        name = socket.if_indextoname(int.from_bytes(found.get(_OIF, b"\0\0\0\0"), sys.byteorder))
    except OSError:
        return RouteFound(None, why_not="the interface of its route has just gone")
    preferred = found.get(_PREFSRC)
    return RouteFound(name, ip_address(preferred) if preferred else source)

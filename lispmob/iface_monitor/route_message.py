"""Reads the default routes in rtnetlink's route messages: what a move waits for, so only the attributes that it needs.

struct rtmsg, then attributes; of several next hops RTA_MULTIPATH has a struct rtnexthop each:
length (16 bits), flags (8), weight - 1 (8), ifindex (32), then attributes
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator, Mapping
from ipaddress import IPv4Address, IPv6Address, ip_network
from typing import Final, NamedTuple

from msgspec.structs import replace

from lispmob.iface_monitor.default_routes import HIGH_HALF, LOW_HALF, ROUTE_PROTOCOL, WHOLE, Candidate
from lispmob.iface_monitor.nexthops import dump_nexthops, ways_out
from lispmob.netlink.message import HEADER, RTMSG, VERSIONS, Raw, attributes, number_in, padded
from lispmob.wire.address import IpAddress

# linux/rtnetlink.h
_DST, _SRC, _OIF, _GATEWAY, _PRIORITY, _PREFSRC, _MULTIPATH, _TABLE, _VIA, _NH_ID = 1, 2, 4, 5, 6, 7, 9, 15, 18, 30
_UNICAST: Final = 1
REFUSALS: Final = {6: "blackhole", 7: "unreachable", 8: "prohibit", 9: "throw"}  # RTN_*
KIND_OF: Final = {refusal: kind for kind, refusal in REFUSALS.items()}
_ADDRESS: Final[Mapping[int, type[IPv4Address] | type[IPv6Address]]] = {
    int(socket.AF_INET): IPv4Address,
    int(socket.AF_INET6): IPv6Address,
}
_RTNEXTHOP: Final = struct.Struct("=HBBi")
_FAMILY: Final = struct.Struct("=H")  # struct rtvia begins with it


class _Hop(NamedTuple):
    """What distinguishes the next hops of a route."""

    ifindex: int = 0
    gateway: IpAddress | None = None
    refusal: str = ""


def candidates(raw: Raw) -> list[Candidate]:
    """The next hops of a route message for a default route, or for half of one; one that refuses has a single hop.

    Our own routes are ignored: otherwise we would react to ourselves.
    """
    family, dst_len, src_len, _, short_table, protocol, _, kind, _ = RTMSG.unpack_from(raw.data, HEADER.size)
    refusal = REFUSALS.get(kind, "")
    if family not in VERSIONS or protocol == ROUTE_PROTOCOL or dst_len > 1 or (kind != _UNICAST and not refusal):
        return []
    found = dict(attributes(raw.data[HEADER.size + RTMSG.size :]))
    source = found.get(_SRC) if src_len else None
    route = Candidate(
        family=VERSIONS[family],
        table=number_in(found.get(_TABLE)) or short_table,
        part=WHOLE if not dst_len else HIGH_HALF if any(found.get(_DST, b"")) else LOW_HALF,
        ifindex=0,
        gateway=None,
        metric=number_in(found.get(_PRIORITY)),
        preferred_source=_ADDRESS[family](found[_PREFSRC]) if _PREFSRC in found else None,
        source=ip_network((source, src_len), strict=False) if source else None,
        refusal=refusal,
        nexthop=number_in(found.get(_NH_ID)),
    )
    if refusal:
        return [route]
    return [
        replace(route, ifindex=hop.ifindex, gateway=hop.gateway, refusal=hop.refusal)
        for hop in _hops(found, family, route.nexthop)
    ]


def destination_of(raw: Raw) -> bytes:
    """The octets of a route's destination; none for a default route. It is the first or second attribute."""
    return next((value for kind, value in attributes(raw.data[HEADER.size + RTMSG.size :]) if kind == _DST), b"")


def _hops(found: Mapping[int, bytes], family: int, nexthop: int) -> list[_Hop]:
    """Interface and gateway of each, or that there is a black hole."""
    if listed := found.get(_MULTIPATH):
        return list(_listed(listed, family))
    if _OIF in found:
        return [_Hop(number_in(found[_OIF]), _gateway(found, family))]
    ways = ways_out(nexthop, dump_nexthops()) if nexthop else ()
    return [_Hop(refusal="blackhole") if way.is_blackhole else _Hop(way.ifindex, way.gateway) for way in ways]


def _listed(octets: bytes, family: int) -> Iterator[_Hop]:
    at = 0
    while at + _RTNEXTHOP.size <= len(octets):
        length, _, _, ifindex = _RTNEXTHOP.unpack_from(octets, at)
        if not _RTNEXTHOP.size <= length <= len(octets) - at:
            return
        found = dict(attributes(octets[at + _RTNEXTHOP.size : at + length]))
        yield _Hop(ifindex, _gateway(found, family))
        at += padded(length)


def _gateway(found: Mapping[int, bytes], family: int) -> IpAddress | None:
    if _GATEWAY in found:
        return _ADDRESS[family](found[_GATEWAY])
    if via := found.get(_VIA):  # of another family than the route
        return _ADDRESS[_FAMILY.unpack_from(via)[0]](via[_FAMILY.size :])
    return None

"""Asks the kernel (RTM_GETROUTE) for the interface and the source address towards a destination.

The answer includes all rules, tables and preferences. The kernel is asked only if there is a choice. The query
describes our own control messages (UDP 4342); with an interface given, our own routes cannot be the answer.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import sys
from collections.abc import Iterable
from ipaddress import ip_address
from typing import Final

from lispmob.iface_monitor.snapshot import Choice, NetworkState, UplinkPolicy
from lispmob.netlink.connection import ask, open_netlink
from lispmob.netlink.message import FAMILIES, RTM_GETROUTE, RTMSG, attributes, put
from lispmob.wire.address import IpAddress

# linux/rtnetlink.h
_AT_DST_LEN, _AT_TYPE = 1, 7  # octets of struct rtmsg
_DST, _OIF, _PREFSRC, _IP_PROTO, _SPORT, _DPORT = 1, 4, 7, 27, 28, 29
_UNICAST: Final = 1
_FIB_MATCH: Final = 0x2000
_CONTROL_PORT: Final = 4342


def choices(state: NetworkState, policy: UplinkPolicy) -> tuple[Choice, ...]:
    """The kernel's choices towards the destinations of the policy, if there are alternatives."""
    found: list[Choice] = []
    for family in (4, 6):
        destination = next((address for address in policy.destinations if address.version == family), None)
        if destination is None:
            continue
        found += [choice for ifindex in _to_ask(state, policy, family) if (choice := _ask(destination, ifindex))]
    return tuple(found)


def _to_ask(state: NetworkState, policy: UplinkPolicy, family: int) -> Iterable[int]:
    """Interfaces with a choice of addresses; 0, for any interface, if there are several of them."""
    routed = {route.ifindex for route in state.default_routes if route.family == family}
    if len(routed) > 1:
        yield 0
    for ifindex in sorted(routed):
        own = [local for local in state.addresses if local.ifindex == ifindex and local.address.version == family]
        if sum(policy.accepts(local) for local in own) > 1:
            yield ifindex


def _ask(destination: IpAddress, ifindex: int) -> Choice | None:
    """None if there is no route, or the query fails."""
    family = FAMILIES[destination.version]
    # Without an interface: also by which route, to distinguish a default route from one to the destination's network.
    flags = 0 if ifindex else _FIB_MATCH
    body = RTMSG.pack(family, destination.max_prefixlen, 0, 0, 0, 0, 0, 0, flags)
    body += put(_DST, destination.packed) + put(_IP_PROTO, bytes([socket.IPPROTO_UDP]))
    body += put(_SPORT, struct.pack("!H", _CONTROL_PORT)) + put(_DPORT, struct.pack("!H", _CONTROL_PORT))
    if ifindex:
        body += put(_OIF, struct.pack("=i", ifindex))
    with contextlib.suppress(OSError), open_netlink() as kernel:
        answer = next(ask(kernel, RTM_GETROUTE, 0, body))
        if answer[_AT_TYPE] == _UNICAST:
            return _read(answer, destination.version, is_any=not ifindex)
    return None


def _read(answer: bytes, version: int, *, is_any: bool) -> Choice | None:
    found = dict(attributes(answer[RTMSG.size :]))
    if _OIF not in found:  # several equal next hops
        return None
    ifindex = int.from_bytes(found[_OIF], sys.byteorder)
    if is_any:
        return Choice(version, ifindex) if answer[_AT_DST_LEN] <= 1 else None
    return Choice(version, ifindex, ip_address(found[_PREFSRC])) if _PREFSRC in found else None

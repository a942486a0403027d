"""Asks the kernel (RTM_GETROUTE) by which interface, and from which address, it would send to a destination.

Its answer counts everybody's rules, tables and preferences. It is asked only where there is something to choose. The
question names our own control messages (UDP 4342), and with an interface no route of ours can be the answer.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import sys
from collections.abc import Iterable
from ipaddress import ip_address
from typing import Final

from lispmob.iface_monitor.rtnetlink import RTM_GETROUTE, RTM_NEWROUTE, Raw, messages
from lispmob.iface_monitor.snapshot import Choice, NetworkState, UplinkPolicy
from lispmob.wire.address import IpAddress

# linux/netlink.h, linux/rtnetlink.h
_REQUEST: Final = 0x1
_HEADER: Final = struct.Struct("=IHHII")
_RTMSG: Final = struct.Struct("=BBBBBBBBI")
_ATTRIBUTE: Final = struct.Struct("=HH")
_DST, _OIF, _PREFSRC, _IP_PROTO, _SPORT, _DPORT = 1, 4, 7, 27, 28, 29
_UNICAST: Final = 1
_FIB_MATCH: Final = 0x2000
_FAMILIES: Final = {4: int(socket.AF_INET), 6: int(socket.AF_INET6)}
_CONTROL_PORT: Final = 4342


def choices(state: NetworkState, policy: UplinkPolicy) -> tuple[Choice, ...]:
    """What the kernel would take towards the destinations of the policy, where several would do."""
    found: list[Choice] = []
    for family in (4, 6):
        destination = next((address for address in policy.destinations if address.version == family), None)
        if destination is None:
            continue
        found += [choice for ifindex in _to_ask(state, policy, family) if (choice := _ask(destination, ifindex))]
    return tuple(found)


def _to_ask(state: NetworkState, policy: UplinkPolicy, family: int) -> Iterable[int]:
    """Interfaces with several addresses to choose from; 0, for any interface, where there are several of them."""
    routed = {route.ifindex for route in state.default_routes if route.family == family}
    if len(routed) > 1:
        yield 0
    for ifindex in sorted(routed):
        own = [local for local in state.addresses if local.ifindex == ifindex and local.address.version == family]
        if sum(policy.accepts(local) for local in own) > 1:
            yield ifindex


def _ask(destination: IpAddress, ifindex: int) -> Choice | None:
    """None where there is no route, or the question cannot be put."""
    family = _FAMILIES[destination.version]
    # Of its own accord: by which of the routes, to tell a default route from one to the destination's own network.
    flags = 0 if ifindex else _FIB_MATCH
    body = _RTMSG.pack(family, destination.max_prefixlen, 0, 0, 0, 0, 0, 0, flags)
    body += _attribute(_DST, destination.packed) + _attribute(_IP_PROTO, bytes([socket.IPPROTO_UDP]))
    body += _attribute(_SPORT, struct.pack("!H", _CONTROL_PORT)) + _attribute(_DPORT, struct.pack("!H", _CONTROL_PORT))
    if ifindex:
        body += _attribute(_OIF, struct.pack("=i", ifindex))
    with (
        contextlib.suppress(OSError),
        socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.NETLINK_ROUTE) as sock,
    ):
        sock.send(_HEADER.pack(_HEADER.size + len(body), RTM_GETROUTE, _REQUEST, 1, 0) + body)
        # The kernel answers while it takes the request: there is nothing to wait for.
        answer = next((message for message in messages(sock.recv(1 << 13)) if message.type == RTM_NEWROUTE), None)
        if answer is not None and answer.data[_HEADER.size + 7] == _UNICAST:
            return _read(answer, destination.version, is_any=not ifindex)
    return None


def _read(answer: Raw, version: int, *, is_any: bool) -> Choice | None:
    found: dict[int, bytes] = {}
    data, at = answer.data, _HEADER.size + _RTMSG.size
    while at + _ATTRIBUTE.size <= len(data):
        length, kind = _ATTRIBUTE.unpack_from(data, at)
        if not _ATTRIBUTE.size <= length <= len(data) - at:
            break
        found[kind] = data[at + _ATTRIBUTE.size : at + length]
        at += (length + 3) & ~3
    if _OIF not in found:  # several next hops, of equal right
        return None
    ifindex = int.from_bytes(found[_OIF], sys.byteorder)
    if is_any:
        return Choice(version, ifindex) if answer.is_default_route else None
    return Choice(version, ifindex, ip_address(found[_PREFSRC])) if _PREFSRC in found else None


def _attribute(kind: int, value: bytes) -> bytes:
    length = _ATTRIBUTE.size + len(value)
    return (_ATTRIBUTE.pack(length, kind) + value).ljust((length + 3) & ~3, b"\0")

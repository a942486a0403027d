"""Nexthop objects (`ip nexthop`), which a route may name by number instead of an interface and a gateway.

With the sysctl net.ipv4.nexthop_compat_mode = 1, the default, the kernel adds their contents to each route that it
lists. With 0 it does not, and it reports changes of an object alone.

    struct nhmsg: family, scope, protocol, reserved (8 bits each), flags (32)
    struct nexthop_grp: number (32), weight - 1 (8), reserved (24)
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from ipaddress import ip_address
from typing import Final

import msgspec

from lispmob.netlink.connection import whole
from lispmob.netlink.message import RTM_GETNEXTHOP, VERSIONS, Raw, attributes, number_in
from lispmob.wire.address import IpAddress

# linux/nexthop.h
_ID, _GROUP, _BLACKHOLE, _OIF, _GATEWAY = 1, 2, 4, 5, 6
_NHMSG: Final = struct.Struct("=BBBBI")
_MEMBER: Final = struct.Struct("=IBBH")
_GROUPS_DEEP: Final = 4  # ours: the kernel nests no groups at all


class Nexthop(msgspec.Struct, frozen=True):
    """One object: a way out, a group of others, or a black hole."""

    number: int
    ifindex: int = 0
    gateway: IpAddress | None = None
    members: tuple[int, ...] = ()
    is_blackhole: bool = False


def dump_nexthops() -> dict[int, Nexthop]:
    """All objects by number; none where the kernel has no such objects (before Linux 5.3)."""
    try:
        listed = whole(RTM_GETNEXTHOP, _NHMSG.pack(0, 0, 0, 0, 0))
    except OSError:
        return {}
    return {nexthop.number: nexthop for nexthop in map(read, listed)}


def read(raw: Raw) -> Nexthop:
    """One object from a listing or an event."""
    fields = dict(attributes(raw.body[_NHMSG.size :]))
    group, gateway = fields.get(_GROUP, b""), fields.get(_GATEWAY)
    whole_members = len(group) // _MEMBER.size * _MEMBER.size
    return Nexthop(
        number=number_in(fields.get(_ID)),
        ifindex=number_in(fields.get(_OIF)),
        gateway=ip_address(gateway) if gateway and raw.family in VERSIONS else None,
        members=tuple(number for number, *_ in _MEMBER.iter_unpack(group[:whole_members])),
        is_blackhole=_BLACKHOLE in fields,
    )


def ways_out(number: int, known: dict[int, Nexthop], depth: int = _GROUPS_DEEP) -> Iterable[Nexthop]:
    """The objects without members that this one stands for; none if it is not known."""
    found = known.get(number)
    if found is None or not depth:
        return
    if not found.members:
        yield found
    for member in found.members:
        yield from ways_out(member, known, depth - 1)

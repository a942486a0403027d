"""Reads links, addresses, rules and routes over rtnetlink, by dumps that read no more than necessary.

A dump is produced by the kernel while it is read, so reading it never waits: it is done at once, without tasks. Only
the necessary messages are decoded (by pyroute2); of other routes only the header is read.
"""

from __future__ import annotations

import errno
import socket
import sys
from collections.abc import Callable
from ipaddress import ip_address, ip_network
from typing import Any, Final, TypeVar

from msgspec.structs import replace

from lispmob.iface_monitor import sysfs
from lispmob.iface_monitor.default_routes import HIGH_HALF, LOW_HALF, ROUTE_PROTOCOL, WHOLE, Candidate
from lispmob.iface_monitor.link_type import ARPHRD_PPP, SILENT, link_type
from lispmob.iface_monitor.nexthops import dump_nexthops, ways_out
from lispmob.iface_monitor.snapshot import Link, LocalAddress
from lispmob.netlink.connection import DumpInterrupted, dump, whole
from lispmob.netlink.decoders import decode
from lispmob.netlink.message import (
    IFINFOMSG,
    RTM_GETADDR,
    RTM_GETLINK,
    RTM_GETROUTE,
    RTM_GETRULE,
    RTMSG,
    VERSIONS,
    Raw,
    attributes,
    put_u32,
)
from lispmob.wire.address import IpAddress

# linux/rtnetlink.h, linux/if_link.h, linux/if.h, linux/if_addr.h
IFF_UP: Final = 0x1
_RTA_DST: Final = 1
_RTA_OIF: Final = 4
_RTA_TABLE: Final = 15
_RTA_NH_ID: Final = 30
_RTN_UNICAST: Final = 1
REFUSALS: Final = {6: "blackhole", 7: "unreachable", 8: "prohibit", 9: "throw"}  # RTN_*
_IFLA_EXT_MASK: Final = 29
_RTEXT_FILTER_SKIP_STATS: Final = 8  # counters would make every dump different, and decoded messages are cached
_IFF_LOOPBACK: Final = 0x8
_IFF_RUNNING: Final = 0x40
_IFF_LOWER_UP: Final = 0x10000
_IFA_F_SECONDARY: Final = 0x01  # TEMPORARY in IPv6
_IFA_F_OPTIMISTIC: Final = 0x04
_IFA_F_DADFAILED: Final = 0x08
_IFA_F_DEPRECATED: Final = 0x20
_IFA_F_TENTATIVE: Final = 0x40
_IFA_F_PERMANENT: Final = 0x80

_PEEK_TRIES: Final = 4  # ours: a listing that changes under the reader this often is used as it is; an event follows
# A rule names an empty table; the family is switched off.
_NOT_THERE: Final = frozenset({errno.ENOENT, errno.EAFNOSUPPORT, errno.EOPNOTSUPP})
_links: dict[bytes, Link] = {}
_addresses: dict[bytes, LocalAddress] = {}
T = TypeVar("T")


def dump_links() -> list[Link]:
    """All interfaces."""
    body = IFINFOMSG.pack(0, 0, 0, 0, 0) + put_u32(_IFLA_EXT_MASK, _RTEXT_FILTER_SKIP_STATS)
    return remembering(_links, _link, whole(RTM_GETLINK, body))


def dump_addresses() -> list[LocalAddress]:
    """All addresses of both families."""
    listed = [message for message in whole(RTM_GETADDR, bytes(8)) if message.family in VERSIONS]
    return remembering(_addresses, _address, listed)


def remembering(known: dict[bytes, T], read: Callable[[Raw], T], listed: list[Raw]) -> list[T]:
    """Decode only new messages: a move changes one line of many, and must be reported at once."""
    found: dict[bytes, T] = {}
    for message in listed:
        body = message.body  # the header names the requesting socket, which differs each time
        found[body] = known[body] if body in known else read(message)
    known.clear()
    known.update(found)
    return list(found.values())


def dump_rules(family: int) -> list[Raw]:
    """Routing rules of one address family; none where it is switched off."""
    return [raw for raw in _whole_if_there(RTM_GETRULE, _body(family)) if raw.family == family]


def dump_table(family: int, table: int) -> list[Raw]:
    """All routes of one table and family; the kernel does not send others."""
    return [raw for raw in _whole_if_there(RTM_GETROUTE, _body(family) + _table(table)) if raw.family == family]


def dump_ipv6_default_routes() -> list[Candidate]:
    """IPv6 default routes of every table. The kernel lists them last: this walks all routes, headers only."""
    listed = _whole_if_there(RTM_GETROUTE, _body(socket.AF_INET6))
    return [candidate for raw in listed if raw.is_default_route for candidate in candidates(raw)]


def peek_ipv4_default_routes(table: int) -> list[Candidate]:
    """IPv4 default routes of one table, at a cost that does not grow with the table.

    The kernel keeps IPv4 routes in a trie and lists them by ascending network address. All prefixes at 0.0.0.0 come
    first, so default routes are in the first datagram, and the rest is never produced. Only if the lower half of a
    split default is found, the upper half is looked for, among the routes of that interface alone.
    """
    found = _peek(_table(table), last_octet=0)
    lower = [candidate for candidate in found if candidate.part == LOW_HALF]
    upper: list[Candidate] = []
    for ifindex in {candidate.ifindex for candidate in lower if not candidate.refusal}:
        upper += _peek(_table(table) + put_u32(_RTA_OIF, ifindex), last_octet=128)
    for refusal in {candidate.refusal for candidate in lower if candidate.refusal}:
        upper += _peek(_table(table), last_octet=128, kind=_KIND_OF[refusal])
    return found + [candidate for candidate in upper if candidate.part == HIGH_HALF]


def _peek(filters: bytes, last_octet: int, kind: int = 0) -> list[Candidate]:
    """Default routes and halves at networks whose first octet is at most `last_octet`."""
    found: list[Candidate] = []
    for _ in range(_PEEK_TRIES):
        found = []
        try:
            for raw in dump(RTM_GETROUTE, _body(socket.AF_INET, kind) + filters):
                if raw.is_default_route:
                    found += candidates(raw)
                elif _first_octet(raw) > last_octet:
                    break
        except DumpInterrupted:
            continue
        except OSError as error:
            if error.errno not in _NOT_THERE:
                raise
        break
    return found


def candidates(raw: Raw) -> list[Candidate]:
    """The next hops of a route message for a default route, or for half of one; one that refuses has a single hop.

    Our own routes are ignored: otherwise we would react to ourselves.
    """
    message = decode(raw)
    refusal = REFUSALS.get(message["type"], "")
    if raw.family not in VERSIONS or message["proto"] == ROUTE_PROTOCOL:
        return []
    if message["type"] != _RTN_UNICAST and not refusal:
        return []
    version = VERSIONS[raw.family]
    part = WHOLE
    if message["dst_len"] == 1:
        part = HIGH_HALF if int(ip_address(message.get("dst") or _ANY[version])) else LOW_HALF
    elif message["dst_len"]:
        return []
    preferred = message.get("prefsrc")
    source = message.get("src") if message["src_len"] else None
    route = Candidate(
        family=version,
        table=int(message.get("table") or message["table"]),
        part=part,
        ifindex=0,
        gateway=None,
        metric=int(message.get("priority") or 0),
        preferred_source=ip_address(preferred) if preferred else None,
        source=ip_network((source, message["src_len"]), strict=False) if source else None,
        refusal=refusal,
        nexthop=_nexthop(raw),
    )
    return [route] if refusal else [replace(route, **hop) for hop in _hops(message, route.nexthop)]


def _hops(message: Any, nexthop: int) -> list[dict[str, Any]]:
    """What distinguishes the next hops of a route: interface and gateway, or that there is a black hole."""
    listed = message.get("multipath")
    if listed:
        return [{"ifindex": int(hop["oif"]), "gateway": _gateway(hop)} for hop in listed]
    if oif := message.get("oif"):
        return [{"ifindex": int(oif), "gateway": _gateway(message)}]
    found = ways_out(nexthop, dump_nexthops()) if nexthop else ()
    return [
        {"refusal": "blackhole"} if way.is_blackhole else {"ifindex": way.ifindex, "gateway": way.gateway}
        for way in found
    ]


_ANY: Final = {4: "0.0.0.0", 6: "::"}
_KIND_OF: Final = {refusal: kind for kind, refusal in REFUSALS.items()}


def _body(family: int, kind: int = 0) -> bytes:
    """An rtmsg, or a fib_rule_hdr with the same layout, that requests everything of a family; or routes of a kind."""
    return RTMSG.pack(family, 0, 0, 0, 0, 0, 0, kind, 0)


def _table(table: int) -> bytes:
    return put_u32(_RTA_TABLE, table)


def _whole_if_there(kind: int, body: bytes) -> list[Raw]:
    """A complete listing, empty if the kernel lacks the table, or the address family is switched off."""
    try:
        return whole(kind, body)
    except OSError as error:
        if error.errno in _NOT_THERE:
            return []
        raise


def _first_octet(raw: Raw) -> int:
    """Of an IPv4 route's destination, without decoding: RTA_DST, when present, is the first or second attribute."""
    return next((value[0] for kind, value in attributes(raw.body[RTMSG.size :]) if kind == _RTA_DST), 0)


def _nexthop(raw: Raw) -> int:
    """The number of the nexthop object that a route names; 0: none."""
    named = (value for kind, value in attributes(raw.body[RTMSG.size :]) if kind == _RTA_NH_ID)
    return int.from_bytes(next(named, b""), sys.byteorder)


def _gateway(hop: Any) -> IpAddress | None:
    via = hop.get("gateway") or (hop.get("via") or {}).get("addr")
    return ip_address(via) if via else None


def _link(raw: Raw) -> Link:
    message = decode(raw)
    flags = int(message["flags"])
    hardware = int(message["ifi_type"])
    kind = str(message.get(("linkinfo", "kind")) or ("ppp" if hardware == ARPHRD_PPP else ""))
    ifindex, name = int(message["index"]), str(message.get("ifname"))
    return Link(
        ifindex=ifindex,
        name=name,
        kind=kind,
        is_up=bool(flags & IFF_UP),
        has_carrier=bool(flags & _IFF_LOWER_UP and flags & _IFF_RUNNING),
        is_loopback=bool(flags & _IFF_LOOPBACK),
        mtu_bytes=int(message.get("mtu") or 0),
        group=int(message.get("group") or 0),
        type=link_type(kind, hardware, SILENT if kind else sysfs.driver_words(name, ifindex)),
    )


def _address(raw: Raw) -> LocalAddress:
    message = decode(raw)
    flags = int(message.get("flags") or message["flags"])
    is_ipv6 = raw.family == socket.AF_INET6
    return LocalAddress(
        address=ip_address(message.get("local") or message.get("address")),
        prefix_len=int(message["prefixlen"]),
        ifindex=int(message["index"]),
        scope=int(message["scope"]),
        is_tentative=bool(flags & _IFA_F_DADFAILED or (flags & _IFA_F_TENTATIVE and not flags & _IFA_F_OPTIMISTIC)),
        is_deprecated=bool(flags & _IFA_F_DEPRECATED),
        is_temporary=is_ipv6 and bool(flags & _IFA_F_SECONDARY),
        is_permanent=bool(flags & _IFA_F_PERMANENT),
        is_secondary=not is_ipv6 and bool(flags & _IFA_F_SECONDARY),
        is_duplicate=bool(flags & _IFA_F_DADFAILED),
    )

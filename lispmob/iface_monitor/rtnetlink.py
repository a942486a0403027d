"""Reads links, addresses, rules and routes over rtnetlink, by dumps that read no more than necessary.

A dump is produced by the kernel while it is read, so reading it never waits: it is done at once, without tasks. Only
the necessary messages are decoded, and of those only what is used, since a move waits for it: of other routes only the
header is read. pyroute2's classes took a third of a millisecond for each new message.
"""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Callable
from ipaddress import ip_address
from typing import Final, TypeVar

from lispmob.iface_monitor import sysfs
from lispmob.iface_monitor.default_routes import HIGH_HALF, LOW_HALF, Candidate
from lispmob.iface_monitor.link_type import ARPHRD_PPP, SILENT, link_type
from lispmob.iface_monitor.route_message import KIND_OF, candidates, destination_of
from lispmob.iface_monitor.snapshot import Link, LocalAddress
from lispmob.netlink.connection import DumpInterrupted, dump, whole
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
    number_in,
    put_u32,
)

# linux/rtnetlink.h, linux/if_link.h, linux/if.h, linux/if_addr.h
IFF_UP: Final = 0x1
_RTA_OIF: Final = 4
_RTA_TABLE: Final = 15
_IFLA_IFNAME: Final = 3
_IFLA_MTU: Final = 4
_IFLA_LINKINFO: Final = 18
_IFLA_INFO_KIND: Final = 1  # inside of IFLA_LINKINFO
_IFLA_GROUP: Final = 27
_IFLA_EXT_MASK: Final = 29
_RTEXT_FILTER_SKIP_STATS: Final = 8  # counters would make every dump different, and decoded messages are cached
_IFF_LOOPBACK: Final = 0x8
_IFF_RUNNING: Final = 0x40
_IFF_LOWER_UP: Final = 0x10000
_IFADDRMSG: Final = struct.Struct("=BBBBI")  # family, prefix length, flags, scope, index
_IFA_ADDRESS: Final = 1
_IFA_LOCAL: Final = 2
_IFA_FLAGS: Final = 8
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
    return remembering(_links, read_link, whole(RTM_GETLINK, body))


def dump_addresses() -> list[LocalAddress]:
    """All addresses of both families."""
    listed = [message for message in whole(RTM_GETADDR, bytes(8)) if message.family in VERSIONS]
    return remembering(_addresses, read_address, listed)


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
        upper += _peek(_table(table), last_octet=128, kind=KIND_OF[refusal])
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
                elif destination_of(raw)[:1] > bytes([last_octet]):
                    break
        except DumpInterrupted:
            continue
        except OSError as error:
            if error.errno not in _NOT_THERE:
                raise
        break
    return found


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


def read_link(raw: Raw) -> Link:
    """One interface from a listing."""
    _, hardware, ifindex, flags, _ = IFINFOMSG.unpack_from(raw.body)
    found = dict(attributes(raw.body[IFINFOMSG.size :]))
    kind = _text(dict(attributes(found.get(_IFLA_LINKINFO, b""))).get(_IFLA_INFO_KIND))
    kind = kind or ("ppp" if hardware == ARPHRD_PPP else "")
    name = _text(found.get(_IFLA_IFNAME))
    return Link(
        ifindex=ifindex,
        name=name,
        kind=kind,
        is_up=bool(flags & IFF_UP),
        has_carrier=bool(flags & _IFF_LOWER_UP and flags & _IFF_RUNNING),
        is_loopback=bool(flags & _IFF_LOOPBACK),
        mtu_bytes=number_in(found.get(_IFLA_MTU)),
        group=number_in(found.get(_IFLA_GROUP)),
        type=link_type(kind, hardware, SILENT if kind else sysfs.driver_words(name, ifindex)),
    )


def read_address(raw: Raw) -> LocalAddress:
    """One address from a listing."""
    family, prefix_len, short_flags, scope, ifindex = _IFADDRMSG.unpack_from(raw.body)
    found = dict(attributes(raw.body[_IFADDRMSG.size :]))
    flags = number_in(found.get(_IFA_FLAGS)) or short_flags
    is_ipv6 = family == socket.AF_INET6
    return LocalAddress(
        address=ip_address(found.get(_IFA_LOCAL) or found[_IFA_ADDRESS]),
        prefix_len=prefix_len,
        ifindex=ifindex,
        scope=scope,
        is_tentative=bool(flags & _IFA_F_DADFAILED or (flags & _IFA_F_TENTATIVE and not flags & _IFA_F_OPTIMISTIC)),
        is_deprecated=bool(flags & _IFA_F_DEPRECATED),
        is_temporary=is_ipv6 and bool(flags & _IFA_F_SECONDARY),
        is_permanent=bool(flags & _IFA_F_PERMANENT),
        is_secondary=not is_ipv6 and bool(flags & _IFA_F_SECONDARY),
        is_duplicate=bool(flags & _IFA_F_DADFAILED),
    )


def _text(value: bytes | None) -> str:
    """A string as the kernel writes it, with a NUL at its end; empty without one."""
    return (value or b"").rstrip(b"\0").decode(errors="surrogateescape")

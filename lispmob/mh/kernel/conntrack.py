"""Removes flows from connection tracking that began towards the overlay and must go on natively (ctnetlink).

The first packet to a destination without LISP goes to lmn0, and waits there for the answer of the mapping system. By
then the kernel has tracked the flow without address translation, and would never translate its retransmissions: the
first connection would fail. Once the entry is removed, the next packet begins a new flow.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Collection, Iterator
from ipaddress import ip_address
from struct import Struct
from typing import Final

import msgspec

from lispmob.errors import KernelRefused
from lispmob.netlink.connection import ask, open_netlink
from lispmob.netlink.message import ACK, DUMP, NESTED, NETLINK_NETFILTER, attributes, put
from lispmob.wire.address import IpAddress, IpNetwork

# <linux/netfilter/nfnetlink.h>, <linux/netfilter/nfnetlink_conntrack.h>: Python has no names for these
GET, _DELETE = 0x0101, 0x0102  # NFNL_SUBSYS_CTNETLINK << 8, and the verb
TUPLE_ORIG, _TUPLE_REPLY, _STATUS, _ZONE = 1, 2, 3, 18
TUPLE_IP: Final = 1
SOURCES: Final = frozenset({1, 3})  # CTA_IP_V4_SRC, CTA_IP_V6_SRC
DESTINATIONS: Final = frozenset({2, 4})
_SEEN_REPLY: Final = 0x2
FAMILY: Final = Struct("!BBH")  # nfgenmsg: family, version, resource
_GONE: Final = frozenset({errno.ENOENT, errno.ESTALE})
NO_TRACKING: Final = frozenset({errno.EPROTONOSUPPORT, errno.EINVAL, errno.EOPNOTSUPP, errno.ENOENT})


class _Flow(msgspec.Struct, frozen=True):
    source: IpAddress
    destination: IpAddress
    replies_to: IpAddress
    has_reply: bool
    identity: bytes  # the attributes that identify it in a deletion


def forget_unanswered(sources: Collection[IpNetwork], destinations: Collection[IpNetwork]) -> int:
    """Remove unanswered, untranslated flows from the first to the second prefixes. Returns how many.

    Blocks while the kernel lists its flows. Raises KernelRefused. Without connection tracking there are none.
    """
    forgotten = 0
    for version, family in ((4, socket.AF_INET), (6, socket.AF_INET6)):
        eids = [source for source in sources if source.version == version]
        outside = [destination for destination in destinations if destination.version == version]
        if not eids or not outside:
            continue
        try:
            with open_netlink(NETLINK_NETFILTER) as kernel:
                wanted = [
                    flow
                    for flow in _flows(kernel, family)
                    if not flow.has_reply
                    and flow.replies_to == flow.source
                    and any(flow.source in eid for eid in eids)
                    and any(flow.destination in network for network in outside)
                ]
                forgotten += sum(_forget(kernel, family, flow) for flow in wanted)
        except OSError as error:
            if error.errno not in NO_TRACKING:
                raise KernelRefused(f"conntrack: {error.strerror or error}: needs CAP_NET_ADMIN") from error
    return forgotten


def _flows(kernel: socket.socket, family: int) -> Iterator[_Flow]:
    for message in ask(kernel, GET, DUMP, FAMILY.pack(family, 0, 0)):
        found = dict(attributes(message[FAMILY.size :]))
        original, reply = found.get(TUPLE_ORIG), found.get(_TUPLE_REPLY)
        ends = (end_of(original, SOURCES), end_of(original, DESTINATIONS), end_of(reply, DESTINATIONS))
        if original is None or None in ends:
            continue
        source, destination, replies_to = (end for end in ends if end is not None)
        identity = put(TUPLE_ORIG | NESTED, original)
        if _ZONE in found:
            identity += put(_ZONE, found[_ZONE])
        has_reply = bool(int.from_bytes(found.get(_STATUS, b"")) & _SEEN_REPLY)
        yield _Flow(source, destination, replies_to, has_reply, identity)


def _forget(kernel: socket.socket, family: int, flow: _Flow) -> bool:
    try:
        for _ in ask(kernel, _DELETE, ACK, FAMILY.pack(family, 0, 0), flow.identity):
            pass
    except OSError as error:
        if error.errno in _GONE:
            return False
        raise
    return True


def end_of(addresses: bytes | None, wanted: frozenset[int]) -> IpAddress | None:
    """One address of a tuple."""
    for kind, value in attributes(addresses or b""):
        if kind == TUPLE_IP:
            return next((ip_address(octets) for which, octets in attributes(value) if which in wanted), None)
    return None

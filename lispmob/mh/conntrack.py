"""Makes connection tracking forget flows that began towards the overlay and must go on natively (ctnetlink).

The first packet to a destination without LISP goes into lmn0, where it waits for the answer of the mapping system. The
kernel has noted the flow by then, as one without address translation, and would keep to that: no retransmission of the
packet would ever be translated, and the first connection would fail. Forgotten, the next packet begins a flow anew.

    nlmsghdr | nfgenmsg: family(8) version(8) res_id(16) | attributes: length(16) type(16) value, padded to 4 octets
"""

from __future__ import annotations

import errno
import os
import socket
import sys
from collections.abc import Collection, Iterator
from ipaddress import ip_address
from struct import Struct
from typing import Final

from lispmob.errors import KernelRefused
from lispmob.values import dataclass
from lispmob.wire.address import IpAddress, IpNetwork

# <linux/netlink.h>, <linux/netfilter/nfnetlink.h>, <linux/netfilter/nfnetlink_conntrack.h>: no names in Python
_NETLINK_NETFILTER: Final = 12
_GET, _DELETE = 0x0101, 0x0102  # NFNL_SUBSYS_CTNETLINK << 8, and the verb
_REQUEST, _ACK, _DUMP = 0x1, 0x4, 0x300
_ERROR, _DONE = 2, 3
_TUPLE_ORIG, _TUPLE_REPLY, _STATUS, _ZONE = 1, 2, 3, 18
_TUPLE_IP: Final = 1
_SOURCES: Final = frozenset({1, 3})  # CTA_IP_V4_SRC, CTA_IP_V6_SRC
_DESTINATIONS: Final = frozenset({2, 4})
_SEEN_REPLY: Final = 0x2
_TYPE_MASK: Final = 0x3FFF
_NESTED: Final = 0x8000

_HEADER: Final = Struct("=IHHII")
_FAMILY: Final = Struct("!BBH")
_ATTRIBUTE: Final = Struct("=HH")
_BUFFER_OCTETS: Final = 1 << 16
_PATIENCE_S: Final = 2.0  # ours: a table of a million flows is read in less
_GONE: Final = frozenset({errno.ENOENT, errno.ESTALE})
_NO_TRACKING: Final = frozenset({errno.EPROTONOSUPPORT, errno.EINVAL, errno.EOPNOTSUPP, errno.ENOENT})


@dataclass(frozen=True, slots=True)
class _Flow:
    source: IpAddress
    destination: IpAddress
    replies_to: IpAddress
    has_reply: bool
    identity: bytes  # the attributes that name it in a deletion


def forget_unanswered(sources: Collection[IpNetwork], destinations: Collection[IpNetwork]) -> int:
    """Forget untranslated flows from one to the other that nobody has answered; how many there were.

    Blocks while the kernel lists its flows. Raises KernelRefused. A kernel without connection tracking has none.
    """
    forgotten = 0
    for version, family in ((4, socket.AF_INET), (6, socket.AF_INET6)):
        eids = [each for each in sources if each.version == version]
        outside = [each for each in destinations if each.version == version]
        if not eids or not outside:
            continue
        try:
            with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_NETFILTER) as kernel:
                kernel.settimeout(_PATIENCE_S)
                wanted = [
                    flow
                    for flow in _flows(kernel, family)
                    if not flow.has_reply
                    and flow.replies_to == flow.source
                    and any(flow.source in each for each in eids)
                    and any(flow.destination in each for each in outside)
                ]
                forgotten += sum(_forget(kernel, family, flow) for flow in wanted)
        except OSError as error:
            if error.errno not in _NO_TRACKING:
                raise KernelRefused(f"conntrack: {error.strerror or error}: needs CAP_NET_ADMIN") from error
    return forgotten


def _flows(kernel: socket.socket, family: int) -> Iterator[_Flow]:
    for octets in _ask(kernel, _GET, _REQUEST | _DUMP, family, b""):
        found = dict(_attributes(octets))
        original, reply = found.get(_TUPLE_ORIG), found.get(_TUPLE_REPLY)
        ends = (_end(original, _SOURCES), _end(original, _DESTINATIONS), _end(reply, _DESTINATIONS))
        if original is None or None in ends:
            continue
        source, destination, replies_to = (end for end in ends if end is not None)
        identity = _put(_TUPLE_ORIG | _NESTED, original)
        if _ZONE in found:
            identity += _put(_ZONE, found[_ZONE])
        has_reply = bool(int.from_bytes(found.get(_STATUS, b"")) & _SEEN_REPLY)
        yield _Flow(source, destination, replies_to, has_reply, identity)


def _forget(kernel: socket.socket, family: int, flow: _Flow) -> bool:
    try:
        for _ in _ask(kernel, _DELETE, _REQUEST | _ACK, family, flow.identity):
            pass
    except OSError as error:
        if error.errno in _GONE:
            return False
        raise
    return True


def _ask(kernel: socket.socket, verb: int, flags: int, family: int, attributes: bytes) -> Iterator[bytes]:
    """Send one request; the attributes of each message of the answer, until its end. Raises OSError."""
    body = _FAMILY.pack(family, 0, 0) + attributes
    kernel.send(_HEADER.pack(_HEADER.size + len(body), verb, flags, 0, 0) + body)
    while True:
        octets = kernel.recv(_BUFFER_OCTETS)
        while len(octets) >= _HEADER.size:
            length, kind, *_ = _HEADER.unpack_from(octets)
            if not _HEADER.size <= length <= len(octets):
                raise OSError(errno.EBADMSG, os.strerror(errno.EBADMSG))
            content = octets[_HEADER.size : length]
            if kind in (_ERROR, _DONE):
                if number := -int.from_bytes(content[:4], sys.byteorder, signed=True):
                    raise OSError(number, os.strerror(number))
                return
            yield content[_FAMILY.size :]
            octets = octets[_padded(length) :]


def _end(addresses: bytes | None, wanted: frozenset[int]) -> IpAddress | None:
    """One address of a tuple."""
    for kind, value in _attributes(addresses or b""):
        if kind == _TUPLE_IP:
            return next((ip_address(octets) for which, octets in _attributes(value) if which in wanted), None)
    return None


def _attributes(octets: bytes) -> Iterator[tuple[int, bytes]]:
    while len(octets) >= _ATTRIBUTE.size:
        length, kind = _ATTRIBUTE.unpack_from(octets)
        if not _ATTRIBUTE.size <= length <= len(octets):
            return
        yield kind & _TYPE_MASK, octets[_ATTRIBUTE.size : length]
        octets = octets[_padded(length) :]


def _put(kind: int, value: bytes) -> bytes:
    length = _ATTRIBUTE.size + len(value)
    return (_ATTRIBUTE.pack(length, kind) + value).ljust(_padded(length), b"\0")


def _padded(length: int) -> int:
    return (length + 3) & ~3

"""The kernel's neighbour tables: whether a gateway's link-layer address is known, and asking for it.

Two requests of fixed shape; pyroute2's asynchronous ones would take turns of the loop, in the middle of a move.
"""

from __future__ import annotations

import socket
import struct
from typing import Final

from lispmob.iface_monitor.gateway_trials import Gateway
from lispmob.iface_monitor.rtnetlink import messages

# linux/rtnetlink.h, linux/neighbour.h
_RTM_NEWNEIGH: Final = 28
_RTM_GETNEIGH: Final = 30
_NLM_F_REQUEST: Final = 0x1
_NLM_F_ACK: Final = 0x4
_NLM_F_CREATE: Final = 0x400
_NDA_DST: Final = 1
_NDA_LLADDR: Final = 2
_NTF_USE: Final = 0x1
_KNOWN: Final = 0x02 | 0x04 | 0x08 | 0x10 | 0x40 | 0x80  # REACHABLE, STALE, DELAY, PROBE, NOARP, PERMANENT
_HEADER: Final = struct.Struct("=IHHII")
_NDMSG: Final = struct.Struct("=BBHiHBB")
_FAMILIES: Final = {4: socket.AF_INET, 6: socket.AF_INET6}


def is_known(gateway: Gateway) -> bool:
    """True when packets can leave by the gateway at once. Asks for its address when not: a later look may tell.

    A device without neighbours (a modem, PPP) knows every one. Raises OSError where the kernel refuses.
    """
    if _is_valid(gateway):
        return True
    _request(_RTM_NEWNEIGH, _NLM_F_ACK | _NLM_F_CREATE, gateway, flags=_NTF_USE)
    return _is_valid(gateway)


def link_address(gateway: Gateway) -> str | None:
    """The gateway's link-layer address, as in 52:54:00:12:34:56; None while it is not known, or when there is none.

    Asks for it when it is not known: a later look may tell. Raises OSError where the kernel refuses.
    """
    if not is_known(gateway):
        return None
    answer = _request(_RTM_GETNEIGH, 0, gateway)
    octets = None if answer is None else _attribute(answer, 16 + _NDMSG.size, _NDA_LLADDR)
    return octets.hex(":") if octets else None


def _attribute(data: bytes, at: int, wanted: int) -> bytes | None:
    """The value of one attribute of a message, whose attributes begin at octet `at`."""
    while at + 4 <= len(data):
        length, kind = struct.unpack_from("=HH", data, at)
        if length < 4 or at + length > len(data):
            return None
        if kind == wanted:
            return data[at + 4 : at + length]
        at += (length + 3) & ~3
    return None


def _is_valid(gateway: Gateway) -> bool:
    answer = _request(_RTM_GETNEIGH, 0, gateway)
    return answer is not None and bool(_NDMSG.unpack_from(answer, 16)[4] & _KNOWN)


def _request(kind: int, how: int, gateway: Gateway, *, flags: int = 0) -> bytes | None:
    """The kernel's answer; None when it is an error or an acknowledgement."""
    octets = gateway.address.packed
    body = _NDMSG.pack(_FAMILIES[gateway.address.version], 0, 0, gateway.ifindex, 0, flags, 0)
    body += struct.pack("=HH", 4 + len(octets), _NDA_DST) + octets
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.NETLINK_ROUTE) as sock:
        sock.send(_HEADER.pack(_HEADER.size + len(body), kind, _NLM_F_REQUEST | how, 1, 0) + body)
        # The kernel answers while it takes the request: there is nothing to wait for.
        return next((message.data for message in messages(sock.recv(1 << 13)) if message.type == _RTM_NEWNEIGH), None)

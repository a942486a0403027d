"""The kernel's neighbour tables: whether a gateway's link-layer address is known, resolving and verifying it.

Requests of fixed shape; pyroute2's asynchronous ones would take turns of the loop, in the middle of a move.
"""

from __future__ import annotations

import struct
from typing import Final

from lispmob.iface_monitor.gateway_trials import Gateway
from lispmob.netlink.connection import ask, command, open_netlink
from lispmob.netlink.message import (
    CREATE,
    FAMILIES,
    REPLACE,
    RTM_DELNEIGH,
    RTM_GETNEIGH,
    RTM_NEWNEIGH,
    attributes,
    put,
)

# linux/neighbour.h
_NDA_DST: Final = 1
_NDA_LLADDR: Final = 2
_NTF_USE: Final = 0x1
_REACHABLE, _STALE, _DELAY, _PROBE, _NO_ARP, _PERMANENT = 0x02, 0x04, 0x08, 0x10, 0x40, 0x80
_LEARNED: Final = _REACHABLE | _STALE | _DELAY | _PROBE  # by the kernel, from an answer
_KNOWN: Final = _LEARNED | _NO_ARP | _PERMANENT
_NDMSG: Final = struct.Struct("=BBHiHBB")


def is_known(gateway: Gateway) -> bool:
    """True when packets can leave through the gateway at once. Otherwise starts the resolution: try again later.

    A device without neighbours (a modem, PPP) needs none. Raises OSError if the kernel refuses.
    """
    if _is_valid(gateway):
        return True
    with open_netlink() as kernel:
        command(kernel, RTM_NEWNEIGH, CREATE, _about(gateway, _NTF_USE))
    return _is_valid(gateway)


def link_address(gateway: Gateway) -> str | None:
    """The gateway's link-layer address, as in 52:54:00:12:34:56; None if it is unknown, or there is none.

    Starts the resolution if it is unknown: try again later. Raises OSError if the kernel refuses.
    """
    if not is_known(gateway):
        return None
    entry = _entry_of(gateway)
    octets = None if entry is None else dict(attributes(entry[_NDMSG.size :])).get(_NDA_LLADDR)
    return octets.hex(":") if octets else None


def verify(gateway: Gateway) -> bool:
    """Ask the gateway itself whether it still has its link-layer address; packets go there meanwhile.

    False if there is nothing to ask: the address is unknown, or an administrator has set it. Raises OSError.
    """
    if not _state_of(gateway) & _LEARNED:
        return False
    with open_netlink() as kernel:
        command(kernel, RTM_NEWNEIGH, REPLACE, _about(gateway, 0, _PROBE))
    return True


def forget_unconfirmed(gateway: Gateway) -> bool:
    """Forget a gateway that has not confirmed its address since `verify`: the next packet asks the whole link.

    False if it has, or if the link has shown where it is by now. Raises OSError if the kernel refuses.
    """
    if _state_of(gateway) != _PROBE:
        return False
    with open_netlink() as kernel:
        command(kernel, RTM_DELNEIGH, 0, _about(gateway, 0))
    return True


def _is_valid(gateway: Gateway) -> bool:
    return bool(_state_of(gateway) & _KNOWN)


def _state_of(gateway: Gateway) -> int:
    """The state (NUD_*) of the kernel's entry; 0: there is none."""
    entry = _entry_of(gateway)
    return 0 if entry is None else int(_NDMSG.unpack_from(entry)[4])


def _entry_of(gateway: Gateway) -> bytes | None:
    """The kernel's entry, as struct ndmsg and attributes; None: there is none."""
    with open_netlink() as kernel:
        try:
            return next(ask(kernel, RTM_GETNEIGH, 0, _about(gateway, 0)))
        except OSError:
            return None


def _about(gateway: Gateway, flags: int, state: int = 0) -> bytes:
    address = gateway.address
    header = _NDMSG.pack(FAMILIES[address.version], 0, 0, gateway.ifindex, state, flags, 0)
    return header + put(_NDA_DST, address.packed)

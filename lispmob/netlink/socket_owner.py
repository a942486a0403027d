"""Which user of this host a datagram or connection came from: the kernel knows whose socket is at its other end."""

from __future__ import annotations

import socket
import struct
from typing import Final

from lispmob.netlink.connection import ask, open_netlink
from lispmob.netlink.message import NETLINK_SOCK_DIAG
from lispmob.wire.address import IpAddress

# <linux/sock_diag.h>, <linux/inet_diag.h>
_BY_FAMILY: Final = 20
_REQUEST: Final = struct.Struct("=BBBxI")
_SOCKET: Final = struct.Struct("!HH16s16s")
_NO_COOKIE: Final = struct.pack("=III", 0, 0xFFFFFFFF, 0xFFFFFFFF)  # behind the interface, which may be any
_ALL_STATES: Final = 0xFFFFFFFF
_UID_AT: Final = 64  # in struct inet_diag_msg

Place = tuple[IpAddress, int]
"""An address and a port."""


class SocketOwners:
    """Asks the kernel, one socket at a time; an answer takes some microseconds."""

    def __init__(self) -> None:
        self._kernel: socket.socket | None = None

    def uid(self, protocol: int, theirs: Place, ours: Place) -> int | None:
        """Whose socket is at `theirs` and speaks UDP or TCP with `ours`; None: no process of this host has it."""
        # For UDP the kernel looks for who would get a packet, so that its source is the other end.
        first, second = (ours, theirs) if protocol == socket.IPPROTO_UDP else (theirs, ours)
        version = theirs[0].version
        family = socket.AF_INET if version == 4 else socket.AF_INET6
        wanted = _SOCKET.pack(first[1], second[1], first[0].packed, second[0].packed) + _NO_COOKIE
        try:
            self._kernel = self._kernel or open_netlink(NETLINK_SOCK_DIAG)
            found = list(ask(self._kernel, _BY_FAMILY, 0, _REQUEST.pack(family, protocol, 0, _ALL_STATES) + wanted))
        except OSError:
            return None
        if not found or len(found[0]) < _UID_AT + 4:
            return None
        (uid,) = struct.unpack_from("=I", found[0], _UID_AT)
        return int(uid)

    def close(self) -> None:
        """Idempotent; what is asked afterwards opens it again."""
        if self._kernel is not None:
            self._kernel.close()
            self._kernel = None

"""The connected TCP and UDP sockets of this host with what rules select by: user, mark, control group (sock_diag)."""

from __future__ import annotations

import os
import socket
import struct
import sys
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address
from typing import Final, TypeAlias

import msgspec

from lispmob.mh.kernel import cgroups
from lispmob.netlink.connection import ask, open_netlink
from lispmob.netlink.message import DUMP, NETLINK_SOCK_DIAG, attributes
from lispmob.wire.address import IpAddress

# <linux/netlink.h>, <linux/sock_diag.h>, <linux/inet_diag.h>
_BY_FAMILY: Final = 20
_MARK, _CGROUP_ID = 15, 21
_REQUEST: Final = struct.Struct("=BBBxI48s")
_ALL_STATES: Final = 0xFFFFFFFF
_LISTENING: Final = 10  # TCP_LISTEN
_FIXED: Final = 72  # octets of struct inet_diag_msg
_PROTOCOLS: Final = (6, 17)

Key: TypeAlias = tuple[IpAddress, IpAddress, int, tuple[int, int]]
"""Source, destination, protocol, ports."""


class OpenSocket(msgspec.Struct, frozen=True):
    """One connected socket. `mark`: SO_MARK. What the kernel does not report is None."""

    source: IpAddress
    destination: IpAddress
    protocol: int
    ports: tuple[int, int]
    uid: int
    mark: int = 0
    cgroup: str | None = None

    @property
    def key(self) -> Key:
        """Identifies it."""
        return self.source, self.destination, self.protocol, self.ports


def open_sockets() -> dict[Key, OpenSocket]:
    """The sockets of this network namespace; none if the kernel has no sock_diag. Blocks while it lists them."""
    groups = _cgroup_paths()
    found: dict[Key, OpenSocket] = {}
    for family in (socket.AF_INET, socket.AF_INET6):
        for protocol in _PROTOCOLS:
            try:
                with open_netlink(NETLINK_SOCK_DIAG) as kernel:
                    wanted = _REQUEST.pack(family, protocol, 0, _ALL_STATES, bytes(48))
                    for message in ask(kernel, _BY_FAMILY, DUMP, wanted):
                        found |= {open_socket.key: open_socket for open_socket in _read(message, protocol, groups)}
            except OSError:
                continue
    return found


def _read(message: bytes, protocol: int, groups: dict[int, str]) -> Iterator[OpenSocket]:
    if len(message) < _FIXED:
        return
    family, state = message[0], message[1]
    ports = struct.unpack_from("!HH", message, 4)
    if not ports[1] or (protocol == 6 and state == _LISTENING):
        return
    source, destination = (_address(message[at : at + 16], family) for at in (8, 24))
    (uid,) = struct.unpack_from("=I", message, 64)
    told = dict(attributes(message[_FIXED:]))
    mark = int.from_bytes(told.get(_MARK, b""), sys.byteorder)
    group = groups.get(int.from_bytes(told.get(_CGROUP_ID, b""), sys.byteorder))
    yield OpenSocket(source, destination, protocol, (ports[0], ports[1]), uid, mark, group)


def _address(octets: bytes, family: int) -> IpAddress:
    if family == socket.AF_INET:
        return IPv4Address(octets[:4])
    address = IPv6Address(octets)
    return address.ipv4_mapped or address


def _cgroup_paths() -> dict[int, str]:
    """The paths of all control groups by their id, which is the inode of their directory."""
    root = cgroups.root()
    if root is None:
        return {}
    return {os.stat(place).st_ino: f"/{os.path.relpath(place, root)}" for place, *_ in os.walk(root)}

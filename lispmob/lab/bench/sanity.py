"""Checks on the cable, before the measurements, that each path goes where its name says."""

from __future__ import annotations

import contextlib
import socket
import struct
import time
from typing import Final

from lispmob.lab.bench.paths import AUTO, TIERS
from lispmob.lab.bench.wire import CABLE, PORTS, Way, Wire
from lispmob.lab.ping import ping
from lispmob.lab.process import ProcessFailed

_ETH_P_ALL: Final = 0x0003  # before the programs at the ingress; a socket for IP alone would see packets too late
_ETH_P_IP: Final = 0x0800
_UDP: Final = 17
_PINGS: Final = 10
_PATIENCE_S: Final = 10.0
_LISP_HEADER: Final = 8


def check(wire: Wire, path: Way) -> int:
    """How many pings went over the cable as the path requires. Raises ProcessFailed when not all did.

    Until a node has installed its routes, packets to its peer take another path, and are answered. So the check waits.
    """
    deadline = time.monotonic() + _PATIENCE_S
    while (seen := _seen(wire, path)) < _PINGS:
        if time.monotonic() > deadline:
            raise ProcessFailed(f"{path.name}: {seen} of {_PINGS} packets went over the cable as they should")
    return seen


def _seen(wire: Wire, path: Way) -> int:
    with wire.b.socket(socket.AF_PACKET, socket.SOCK_DGRAM) as cable:
        cable.bind((CABLE, _ETH_P_ALL))
        cable.settimeout(0.2)
        with contextlib.suppress(OSError):  # the node is still installing its routes
            ping(wire.a, path.far, path.near, count=_PINGS)
        seen = 0
        with contextlib.suppress(TimeoutError):
            while seen < _PINGS:
                packet, (_, kind, *_) = cable.recvfrom(65535)
                seen += kind == _ETH_P_IP and is_of(path, packet)
    return seen


def is_of(path: Way, packet: bytes) -> bool:
    """Whether this is an IPv4 packet from a to b that belongs to the path: the inner addresses are the path's own."""
    header = (packet[0] & 15) * 4
    if path.kind == "veth":
        return packet[9] == socket.IPPROTO_ICMP and packet[12:20] == path.near.packed + path.far.packed
    if packet[9] != _UDP or struct.unpack_from("!H", packet, header + 2) != (PORTS[path.kind],):
        return False
    # VXLAN carries a frame: its own header and an Ethernet header precede the packet.
    inner = packet[header + 8 + (_LISP_HEADER if path.kind != "vxlan" else 8 + 14) :]
    if path.kind in (*TIERS, AUTO) and packet[header + 8 : header + 16] != bytes(_LISP_HEADER):
        return False
    return inner[:1] == b"\x45" and inner[12:20] == path.near.packed + path.far.packed

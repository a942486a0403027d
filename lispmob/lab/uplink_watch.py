"""Records by which uplink LISP data is sent, on the wire: interface, locator, inner flow and octets."""

from __future__ import annotations

import select
import socket
import struct
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from types import TracebackType
from typing import Final, Self

from lispmob.lab.link import IpAddress
from lispmob.lab.namespace import Namespace

_DATA_PORT: Final = 4341
_ETH_P_ALL: Final = 3
_PACKET_OUTGOING: Final = 4
_BUFFER_OCTETS: Final = 32 << 20
_SO_RCVBUFFORCE: Final = 33
_UDP_OCTETS: Final = 8
_LISP_OCTETS: Final = 8
_ENOUGH_S: Final = 0.1


@dataclass(frozen=True, slots=True)
class Sent:
    """An inner UDP packet that was sent; `port` is its source port, which identifies the flow."""

    at: float
    interface: str
    rloc: IpAddress
    port: int
    octets: int


class UplinkWatch:
    """A thread that records inner IPv4 UDP packets that are sent, until it is closed."""

    def __init__(self, namespace: Namespace, interfaces: Sequence[str]) -> None:
        self._taps: dict[socket.socket, str] = {}
        for interface in interfaces:
            tap = namespace.socket(socket.AF_PACKET, socket.SOCK_DGRAM)
            tap.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER_OCTETS)
            tap.bind((interface, _ETH_P_ALL))
            tap.setblocking(False)
            self._taps[tap] = interface
        self._sent: list[Sent] = []
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._is_over.set()
        self._thread.join()
        for tap in self._taps:
            tap.close()

    def since(self, start: float) -> list[Sent]:
        """The packets sent after `start`, CLOCK_MONOTONIC seconds; waits for those that are not recorded yet."""
        time.sleep(_ENOUGH_S)
        return [sent for sent in self._sent if sent.at >= start]

    def _run(self) -> None:
        while not self._is_over.is_set():
            ready, _, _ = select.select(list(self._taps), [], [], 0.05)
            for tap in ready:
                self._read(tap)

    def _read(self, tap: socket.socket) -> None:
        for _ in range(256):
            try:
                packet, address = tap.recvfrom(65_535)
            except BlockingIOError:
                return
            if address[2] == _PACKET_OUTGOING:
                self._sent += inner_packets(packet, self._taps[tap], time.monotonic())


def inner_packets(packet: bytes, interface: str, at: float) -> list[Sent]:
    """The inner IPv4 UDP packets in an outer packet. A run that is not segmented yet contains several."""
    is_v4 = packet[:1] == b"\x45"
    position, protocol = (20, 9) if is_v4 else (40, 6)
    if len(packet) < position + _UDP_OCTETS or packet[protocol] != socket.IPPROTO_UDP:
        return []
    if struct.unpack_from("!H", packet, position + 2)[0] != _DATA_PORT:
        return []
    rloc: IpAddress = IPv4Address(packet[16:20]) if is_v4 else IPv6Address(packet[24:40])
    found = []
    position += _UDP_OCTETS
    while position + _LISP_OCTETS + 28 <= len(packet):
        inner = position + _LISP_OCTETS
        (length,) = struct.unpack_from("!H", packet, inner + 2)
        if packet[inner] != 0x45 or length < 28:
            break
        if packet[inner + 9] == socket.IPPROTO_UDP:
            (port,) = struct.unpack_from("!H", packet, inner + 20)
            found.append(Sent(at, interface, rloc, port, length))
        position = inner + length
    return found

"""The control port of flows: a UDP socket on each EID. It ignores datagrams that did not come through the overlay."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable, Iterable
from ipaddress import ip_address
from struct import Struct
from typing import Final

from lispmob.flow import sockets
from lispmob.flow.auth import IpAddress, Way

DRAIN_LIMIT: Final = 64  # datagrams per turn of the event loop
_IP_PKTINFO: Final = 8
_PKTINFO4: Final = Struct("@i4s4s")  # ifindex, local address, destination
_PKTINFO6: Final = Struct("@16si")  # address, ifindex

log = logging.getLogger(__name__)


class ControlPort:
    """Receives at `port` of every EID, and passes on what arrived by an interface of the overlay."""

    def __init__(
        self,
        port: int,
        on_datagram: Callable[[bytes, Way], None],
        on_foreign: Callable[[], None],
        is_overlay_interface: Callable[[int], bool],
    ) -> None:
        self._port = port
        self._on_datagram, self._on_foreign = on_datagram, on_foreign
        self._is_overlay_interface = is_overlay_interface
        self._sockets: dict[IpAddress, socket.socket] = {}
        self._loop = asyncio.get_running_loop()

    def set_eids(self, eids: Iterable[IpAddress]) -> dict[IpAddress, str]:
        """Listen on these addresses and no others. Returns the addresses that failed, each with the reason."""
        wanted, refused = tuple(eids), {}
        for eid in [eid for eid in self._sockets if eid not in wanted]:
            self._close(eid)
        for eid in [eid for eid in wanted if eid not in self._sockets]:
            try:
                self._sockets[eid] = self._open(eid)
            except OSError as error:
                refused[eid] = error.strerror or str(error)
        return refused

    def send(self, octets: bytes, own: IpAddress, to: IpAddress, port: int) -> bool:
        """Send from the control port of `own`; returns False when the kernel refuses."""
        one = self._sockets.get(own)
        if one is None:
            return False
        try:
            sockets.send(one, octets, to, port)
        except OSError as error:
            log.debug("not sent to=%s port=%d why=%s", to, port, error.strerror)
            return False
        return True

    def close(self) -> None:
        """Close all sockets. May be called twice."""
        for eid in list(self._sockets):
            self._close(eid)

    def _open(self, eid: IpAddress) -> socket.socket:
        one = sockets.new_socket(eid, self._port)
        try:
            if eid.version == 4:
                one.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)
            else:
                one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
        except BaseException:
            one.close()
            raise
        self._loop.add_reader(one.fileno(), self._drain, eid, one)
        return one

    def _close(self, eid: IpAddress) -> None:
        one = self._sockets.pop(eid)
        self._loop.remove_reader(one.fileno())
        one.close()

    def _drain(self, eid: IpAddress, one: socket.socket) -> None:
        for _ in range(DRAIN_LIMIT):
            try:
                octets, ancillary, _, place = one.recvmsg(2048, 128)
            except BlockingIOError:
                sockets.read_errors(one)  # an unread error would keep the socket readable
                return
            except OSError:  # an ICMP error about an earlier datagram
                sockets.read_errors(one)
                continue
            ifindex = _ifindex(ancillary)
            if not self._is_overlay_interface(ifindex):
                self._on_foreign()
                continue
            source = ip_address(str(place[0]).partition("%")[0])
            self._on_datagram(octets, Way(source, int(place[1]), eid, self._port))
            if one.fileno() < 0:
                return  # the callback has closed the socket


def _ifindex(ancillary: list[tuple[int, int, bytes]]) -> int:
    for level, kind, octets in ancillary:
        if (level, kind) == (socket.IPPROTO_IP, _IP_PKTINFO) and len(octets) >= _PKTINFO4.size:
            return int(_PKTINFO4.unpack_from(octets)[0])
        if (level, kind) == (socket.IPPROTO_IPV6, socket.IPV6_PKTINFO) and len(octets) >= _PKTINFO6.size:
            return int(_PKTINFO6.unpack_from(octets)[1])
    return 0

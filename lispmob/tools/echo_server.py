"""The server of lisp-echo: answers over UDP and TCP, and limits everything that a client can make it do.

An answer is as long as its question, so that the server does not amplify traffic. A limit holds for all answers
together.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
import time
from collections import Counter, OrderedDict
from collections.abc import Iterable
from ipaddress import ip_address
from struct import Struct
from typing import Final, TypeAlias

import msgspec

from lispmob.protocol.rate_limit import KeyedBuckets, TokenBucket
from lispmob.tools.echo_message import SHORTEST, Kind, NoEcho, answer_to, read_datagram, read_head
from lispmob.wire.address import IpAddress

SESSION_LIMIT: Final = 1024  # ours: sessions whose packets are counted; the least recently used is dropped first
CONNECTION_LIMIT: Final = 64
CONNECTIONS_EACH: Final = 8  # for one client address
IDLE_S: Final = 120.0  # a connection without a question for so long is closed
UDP_ANSWERS_S: Final = 20_000  # sustained rate; questions beyond it are dropped
UDP_BURST: Final = 20_000
# For one client address: no sender uses up the limit of all, and no forged address is sent more.
UDP_ANSWERS_EACH_S: Final = 5_000
UDP_BURST_EACH: Final = 5_000
SESSIONS_EACH: Final = 64  # for one client address: its sessions displace only one another
STOP_S: Final = 2.0
PORT_TRIES: Final = 8  # ours: a port that is free for UDP may be taken for TCP
DRAIN_LIMIT: Final = 64  # datagrams per turn of the loop, so that a flood leaves time for the connections
_DATAGRAM: Final = 65535
_ANCILLARY: Final = 128

# Linux, <linux/in.h>: not in every supported Python's socket module
_PKTINFO: Final = {4: (socket.IPPROTO_IP, 8), 6: (socket.IPPROTO_IPV6, socket.IPV6_PKTINFO)}
_PKTINFO4: Final = Struct("@i4s4s")  # ifindex, local address, destination in the packet's header
_PKTINFO6: Final = Struct("@16si")

Ancillary: TypeAlias = list[tuple[int, int, bytes]]


class ServerLimits(msgspec.Struct, frozen=True):
    """Limits for what clients can make the server do."""

    sessions: int = SESSION_LIMIT
    connections: int = CONNECTION_LIMIT
    connections_each: int = CONNECTIONS_EACH
    idle_s: float = IDLE_S
    udp_answers_s: float = UDP_ANSWERS_S
    udp_burst: int = UDP_BURST
    udp_answers_each_s: float = UDP_ANSWERS_EACH_S
    udp_burst_each: int = UDP_BURST_EACH
    sessions_each: int = SESSIONS_EACH


class Answering:
    """Decides what the server answers. Pure: the caller passes the clocks' values."""

    def __init__(self, limits: ServerLimits) -> None:
        self.counters: Counter[str] = Counter()
        self._limits = limits
        self._bucket = TokenBucket(1 / limits.udp_answers_s, limits.udp_burst)
        self._each: KeyedBuckets[str] = KeyedBuckets(1 / limits.udp_answers_each_s, limits.udp_burst_each)
        self._arrivals: OrderedDict[tuple[str, int], int] = OrderedDict()
        self._sessions: dict[str, OrderedDict[tuple[str, int], None]] = {}  # the keys above, by source

    def on_datagram(self, octets: bytes, source: str, now: float, clock_ns: int) -> bytes | None:
        """The answer to a datagram; None for one that is no question, or that is over the limits."""
        try:
            head = read_datagram(octets)
        except NoEcho:
            self.counters["not_ours"] += 1
            return None
        if head.kind is not Kind.QUESTION:
            self.counters["not_a_question"] += 1
            return None
        if not self._each.take(source, now) or not self._bucket.take(now):
            self.counters["over_the_limit"] += 1
            return None
        self.counters["udp_answers"] += 1
        return answer_to(octets, self._count(source, head.session), clock_ns)

    def on_record(self, octets: bytes, source: str, clock_ns: int) -> bytes:
        """The answer to a complete record of a connection. Raises NoEcho for one that is no question."""
        head = read_datagram(octets)
        if head.kind is not Kind.QUESTION:
            raise NoEcho("an answer where a question is expected")
        self.counters["tcp_answers"] += 1
        return answer_to(octets, self._count(source, head.session), clock_ns)

    def _count(self, source: str, session: int) -> int:
        key = (source, session)
        count = self._arrivals.pop(key, 0) + 1
        self._arrivals[key] = count
        sessions = self._sessions.setdefault(source, OrderedDict())
        sessions[key] = None
        sessions.move_to_end(key)
        if len(sessions) > self._limits.sessions_each:
            self._drop(next(iter(sessions)))
        elif len(self._arrivals) > self._limits.sessions:
            self._drop(next(iter(self._arrivals)))
        return count

    def _drop(self, key: tuple[str, int]) -> None:
        source = key[0]
        del self._arrivals[key], self._sessions[source][key]
        if not self._sessions[source]:
            del self._sessions[source]


class EchoServer:
    """The sockets of the server. Call `start` and `stop` once."""

    def __init__(self, limits: ServerLimits | None = None) -> None:
        self._limits = limits or ServerLimits()
        self.answering = Answering(self._limits)
        self._udp: list[socket.socket] = []
        self._tcp: list[asyncio.Server] = []
        self._connected: Counter[str] = Counter()
        self._open: dict[asyncio.Task[None], asyncio.StreamWriter] = {}

    async def start(self, addresses: Iterable[IpAddress], port: int, *, udp: bool = True, tcp: bool = True) -> int:
        """Listen on these addresses. Returns the port, which for 0 is a free one. Raises OSError, with all closed."""
        wanted = list(addresses)
        for tries_left in reversed(range(PORT_TRIES)):
            try:
                return await self._listen(wanted, port, udp=udp, tcp=tcp)
            except OSError as error:
                await self.stop()
                if port or error.errno != errno.EADDRINUSE or not tries_left:
                    raise
        raise AssertionError(PORT_TRIES)

    async def _listen(self, addresses: list[IpAddress], port: int, *, udp: bool, tcp: bool) -> int:
        for address in addresses:
            if udp:
                port = self._listen_udp(address, port)
            if tcp:
                server = await asyncio.start_server(self._serve, str(address), port, limit=_DATAGRAM, backlog=16)
                port = server.sockets[0].getsockname()[1]
                self._tcp.append(server)
        return port

    async def stop(self) -> None:
        """Close all sockets and connections."""
        loop = asyncio.get_running_loop()
        for sock in self._udp:
            loop.remove_reader(sock)
            sock.close()
        for server in self._tcp:
            server.close()
        self._udp.clear()
        self._tcp.clear()
        for writer in self._open.values():
            writer.transport.abort()
        if self._open:
            await asyncio.wait(list(self._open), timeout=STOP_S)

    def _listen_udp(self, address: IpAddress, port: int) -> int:
        family = socket.AF_INET if address.version == 4 else socket.AF_INET6
        one = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self._udp.append(one)
        if address.version == 6:
            one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
        else:
            one.setsockopt(*_PKTINFO[4], 1)
        one.bind((str(address), port))
        asyncio.get_running_loop().add_reader(one, self._read_udp, one, address.version)
        return int(one.getsockname()[1])

    def _read_udp(self, one: socket.socket, version: int) -> None:
        for _ in range(DRAIN_LIMIT):
            try:
                octets, ancillary, flags, source = one.recvmsg(_DATAGRAM, _ANCILLARY)
            except OSError:
                return
            if flags & socket.MSG_TRUNC:
                self.answering.counters["not_ours"] += 1
                continue
            now, clock_ns = time.monotonic(), time.monotonic_ns()
            answer = self.answering.on_datagram(octets, str(source[0]), now, clock_ns)
            if answer is not None:
                self._answer_udp(one, answer, _from_where_it_came_to(ancillary, version), source)

    def _answer_udp(self, one: socket.socket, answer: bytes, ancillary: Ancillary, peer: tuple[str, int]) -> None:
        try:
            one.sendmsg([answer], ancillary, 0, peer)
        except OSError:  # no buffer or no route: treat it as lost
            self.answering.counters["not_sent"] += 1

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        counters, peer = self.answering.counters, str(writer.get_extra_info("peername", ("?",))[0])
        if (
            self._connected.total() >= self._limits.connections
            or self._connected[peer] >= self._limits.connections_each
        ):
            counters["connections_refused"] += 1
            writer.transport.abort()
            return
        task = asyncio.current_task()
        assert task is not None, "the streams give every connection a task"
        self._open[task] = writer
        self._connected[peer] += 1
        counters["connections"] += 1
        try:
            while True:
                async with asyncio.timeout(self._limits.idle_s):
                    writer.write(await self._answer_record(reader, peer))
                    await writer.drain()  # do not read further questions from a client that does not read its answers
        except (TimeoutError, asyncio.IncompleteReadError, ConnectionError, OSError):
            pass
        except NoEcho:
            counters["not_ours"] += 1
        finally:
            del self._open[task]
            self._connected[peer] -= 1
            if not self._connected[peer]:
                del self._connected[peer]
            writer.close()
            with contextlib.suppress(ConnectionError, OSError, asyncio.CancelledError):
                await writer.wait_closed()

    async def _answer_record(self, reader: asyncio.StreamReader, peer: str) -> bytes:
        octets = await reader.readexactly(SHORTEST)
        octets += await reader.readexactly(read_head(octets).length - SHORTEST)
        return self.answering.on_record(octets, peer, time.monotonic_ns())


def _from_where_it_came_to(ancillary: Ancillary, version: int) -> Ancillary:
    """Ancillary data that make the answer leave from the address that the question was sent to."""
    for level, kind, octets in ancillary:
        if (level, kind) != _PKTINFO[version]:
            continue
        if version == 4:
            _, _, address = _PKTINFO4.unpack_from(octets)
            return [(level, kind, _PKTINFO4.pack(0, address, bytes(4)))] if _is_ours(address) else []
        address, _ = _PKTINFO6.unpack_from(octets)
        return [(level, kind, _PKTINFO6.pack(address, 0))] if _is_ours(address) else []
    return []


def _is_ours(packed: bytes) -> bool:
    """False for an address that cannot be a source, which is a multicast group."""
    return not ip_address(packed).is_multicast

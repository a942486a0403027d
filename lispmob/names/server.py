"""The sockets of the DNS server: UDP and TCP at addresses of this host, in the daemon's event loop.

Clients cannot block the daemon or use up its memory with questions. Each turn of the loop takes a few from a socket;
the rest wait in the kernel or are dropped there. Questions and connections that wait for an answer are counted for each
user (shares.py). A name that was found before is answered whatever else is waiting.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from ipaddress import ip_address
from typing import Any, Final

from lispmob.errors import KernelRefused
from lispmob.names.dns_message import Question, read_question, write_answer
from lispmob.names.shares import CONNECTIONS, Shares
from lispmob.names.zone import Answer, RCode, Wanted, Zone
from lispmob.protocol.effect import NameResolved
from lispmob.wire.address import IpAddress

BATCH: Final = 8  # ours: questions in one turn of the loop, about two milliseconds
PATIENCE_S: Final = 4.0  # ours: the node gives up earlier; resolvers wait for five seconds
IDLE_S: Final = 5.0
DATAGRAM: Final = 4096
_FREEBIND: Final = {4: (socket.IPPROTO_IP, 15), 6: (socket.IPPROTO_IPV6, 78)}  # linux/in.h, linux/in6.h

log = logging.getLogger(__name__)

Place = tuple[IpAddress, int]
Find = Callable[[bytes], Awaitable[NameResolved]]
Owner = Callable[[int, Place, Place], int | None]
"""The user whose socket has this protocol (IPPROTO_UDP, IPPROTO_TCP), source and destination; None: not known."""


class NameServer:
    """Answers for a zone. `find` asks the mapping system for a name; `may_ask` says whose questions are answered.

    A name that `is_known` is answered at once. `owner` tells users apart; without it all count as one.
    """

    def __init__(
        self,
        zone: Zone,
        find: Find,
        may_ask: Callable[[IpAddress], bool],
        *,
        is_known: Callable[[bytes], bool] = lambda _: False,
        owner: Owner = lambda _, __, ___: None,
    ) -> None:
        self.counters: Counter[str] = Counter()
        self.zone = zone
        self._find, self._may_ask = find, may_ask
        self._is_known, self._owner = is_known, owner
        self._shares = Shares()
        self._sockets: list[socket.socket] = []
        self._servers: list[asyncio.Server] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()
        self.addresses: tuple[IpAddress, ...] = ()

    async def start(self, addresses: Iterable[IpAddress], port: int) -> None:
        """Listen at these addresses, which may be added later. Raises KernelRefused, and then listens at none."""
        try:
            for address in addresses:
                await self._listen(address, port)
                self.addresses = (*self.addresses, address)
        except OSError as error:
            self.close()
            where = f"{address} port {port}"
            raise KernelRefused(f"cannot answer DNS at {where} ({error.strerror})") from None

    async def listen_also(self, address: IpAddress, port: int) -> None:
        """Listen at one more address. Raises KernelRefused, and keeps listening where it did."""
        before = len(self._sockets)
        try:
            await self._listen(address, port)
        except OSError as error:
            for one in self._sockets[before:]:
                asyncio.get_running_loop().remove_reader(one)
                one.close()
            del self._sockets[before:]
            raise KernelRefused(f"cannot answer DNS at {address} port {port} ({error.strerror})") from None

    def close(self) -> None:
        """Stop listening. Idempotent."""
        loop = asyncio.get_running_loop()
        for sock in self._sockets:
            loop.remove_reader(sock)
            sock.close()
        for server in self._servers:
            server.close()
        for task in self._tasks:
            task.cancel()
        for writer in self._writers:
            writer.transport.abort()
        self._sockets, self._servers, self.addresses = [], [], ()

    async def _listen(self, address: IpAddress, port: int) -> None:
        datagrams = _bound(address, port, socket.SOCK_DGRAM)
        self._sockets.append(datagrams)
        asyncio.get_running_loop().add_reader(datagrams, self._on_readable, datagrams)
        stream = _bound(address, port, socket.SOCK_STREAM)
        try:
            self._servers.append(await asyncio.start_server(self._on_connection, sock=stream, backlog=CONNECTIONS))
        except BaseException:
            stream.close()
            raise

    def _on_readable(self, at: socket.socket) -> None:
        for _ in range(BATCH):
            try:
                raw, source = at.recvfrom(DATAGRAM)
            except OSError:  # nothing is left, or an ICMP error about one of our answers
                return
            if self._may_ask_from(source):
                self._on_datagram(raw, source, at)

    def _may_ask_from(self, source: Any) -> bool:
        if self._may_ask(ip_address(source[0].partition("%")[0])):
            return True
        self.counters["dns_stranger"] += 1
        return False

    def _on_datagram(self, raw: bytes, source: Any, at: socket.socket) -> None:
        reply = self._start(raw, lambda: self._user(socket.IPPROTO_UDP, source, at.getsockname()), is_tcp=False)
        if isinstance(reply, bytes):
            self._send(at, reply, source)
        elif reply is not None:
            self._spawn(self._finish_datagram(reply, source, at))

    def _user(self, protocol: int, theirs: Any, ours: Any) -> int | None:
        return self._owner(protocol, _place(theirs), _place(ours))

    def _start(self, raw: bytes, user: Callable[[], int | None], *, is_tcp: bool) -> bytes | Awaitable[bytes] | None:
        """The answer where it is known at once; else an awaitable for it; None: there is no answer."""
        question = read_question(raw)
        if question is None or isinstance(question, bytes):
            self.counters["dns_malformed"] += 1
            return question
        self.counters["dns_questions"] += 1
        if question.refusal is not None:
            return write_answer(question, Answer(question.refusal), is_tcp=is_tcp)
        wanted = self.zone.question(question.name, question.kind)
        if isinstance(wanted, Answer):
            self.counters["dns_refused"] += wanted.rcode is RCode.REFUSED
            return write_answer(question, wanted, is_tcp=is_tcp)
        if self._is_known(wanted.name):
            return self._answer(question, wanted, is_tcp=is_tcp)
        asker = user()
        if not self._shares.wait(wanted.name, asker, asyncio.get_running_loop().time()):
            self.counters["dns_too_many"] += 1
            return write_answer(question, Answer(RCode.SERVFAIL), is_tcp=is_tcp)
        return self._wait(self._answer(question, wanted, is_tcp=is_tcp), wanted.name, asker)

    async def _wait(self, answer: Awaitable[bytes], name: bytes, user: int | None) -> bytes:
        try:
            return await answer
        finally:
            self._shares.wait_no_more(name, user)

    async def _answer(self, question: Question, wanted: Wanted, *, is_tcp: bool) -> bytes:
        answer = Answer(RCode.SERVFAIL)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE_S):
                answer = self.zone.answer(wanted, question.kind, await self._find(wanted.name))
        self.counters["dns_failed"] += answer.rcode is RCode.SERVFAIL
        return write_answer(question, answer, is_tcp=is_tcp)

    async def _finish_datagram(self, reply: Awaitable[bytes], source: Any, at: socket.socket) -> None:
        self._send(at, await reply, source)

    def _send(self, at: socket.socket, reply: bytes, source: Any) -> None:
        with contextlib.suppress(OSError):  # the client or our address is gone; the client asks again
            at.sendto(reply, source)

    def _spawn(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _on_connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer the questions of a connection in turn, each behind its length (RFC 1035, 4.2.2)."""
        theirs, ours = writer.get_extra_info("peername"), writer.get_extra_info("sockname")
        user = self._user(socket.IPPROTO_TCP, theirs, ours)
        if not self._may_ask_from(theirs) or not self._shares.connect(user):
            writer.close()
            return
        self._writers.add(writer)
        try:
            with contextlib.suppress(OSError, EOFError, TimeoutError):
                while await self._serve_one(reader, writer, user):
                    pass
        finally:
            self._shares.disconnect(user)
            self._writers.discard(writer)
            writer.close()

    async def _serve_one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, user: int | None) -> bool:
        async with asyncio.timeout(IDLE_S):
            length = int.from_bytes(await reader.readexactly(2))
            raw = await reader.readexactly(length)
        reply = self._start(raw, lambda: user, is_tcp=True)
        octets = reply if reply is None or isinstance(reply, bytes) else await reply
        if octets is None:
            return False
        writer.write(len(octets).to_bytes(2) + octets)
        async with asyncio.timeout(IDLE_S):
            await writer.drain()
        return True


def _place(name: Any) -> Place:
    """An address of the socket module, without a scope."""
    return ip_address(name[0].partition("%")[0]), name[1]


def _bound(address: IpAddress, port: int, kind: socket.SocketKind) -> socket.socket:
    """A socket bound to an address that may be added later: the kernel gets our EIDs after the start."""
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    found = socket.socket(family, kind | socket.SOCK_NONBLOCK)
    try:
        found.setsockopt(*_FREEBIND[address.version], 1)
        if kind == socket.SOCK_STREAM:
            found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if address.version == 6:
            found.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        found.bind((str(address), port))
    except BaseException:
        found.close()
        raise
    return found

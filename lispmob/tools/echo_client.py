"""The client of lisp-echo: sends numbered questions at a steady pace over UDP or TCP, and records the answers."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import time
from collections.abc import Callable
from typing import Final, Protocol

import msgspec

from lispmob.errors import LispError
from lispmob.tools.echo_message import SHORTEST, Echo, Kind, NoEcho, question, read_datagram, read_head
from lispmob.tools.echo_tally import Tally
from lispmob.wire.address import IpAddress

CONNECT_S: Final = 10.0
UNSENT_LIMIT: Final = 256 * 1024  # octets in our send buffer; beyond them nothing new is sent
DRAIN_LIMIT: Final = 64
_DATAGRAM: Final = 65535


class NoPeer(LispError):
    """No question can be sent to the peer."""


class Course(msgspec.Struct, frozen=True):
    """What to send. `count` 0: until stopped. `wait_s`: time to wait for the last answers.

    `length`: octets of each packet.
    """

    count: int
    interval_s: float
    length: int
    wait_s: float


OnAnswer = Callable[[int, float], None]
"""(number of the packet, its round trip in seconds)"""


class Line(Protocol):
    """A connection or socket to the server. `problem`: why it ended."""

    problem: str | None
    own: tuple[str, int]

    def send(self, octets: bytes) -> bool:
        """Send a message. Returns False when the kernel refused it."""

    def is_full(self) -> bool:
        """True while too many octets wait to be sent."""

    def close(self) -> None:
        """Close it."""


class EchoClient:
    """A session: a run of questions with a common session number."""

    def __init__(self, course: Course, on_answer: OnAnswer | None = None) -> None:
        self.tally = Tally()
        self.session = int.from_bytes(os.urandom(8))
        self.problems: list[str] = []
        self._course = course
        self._on_answer = on_answer
        self._is_stopped = asyncio.Event()
        self._all_answered = asyncio.Event()
        self._is_done_sending = False

    def stop(self) -> None:
        """Stop sending; `run` still waits for answers to packets in flight."""
        self._is_stopped.set()

    async def run(self, line: Line) -> None:
        """Send all questions, wait for the answers, and close the line."""
        try:
            await self._send_all(line)
            self._is_done_sending = True
            self._look_whether_all_came()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._all_answered.wait(), self._course.wait_s)
        finally:
            if line.problem is not None:
                self._tell(line.problem)
            line.close()

    async def _send_all(self, line: Line) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time()
        while not (self._is_stopped.is_set() or self.tally.is_full or line.problem):
            if not line.is_full():
                number = self.tally.on_sent(time.monotonic())
                if not line.send(question(self.session, number, self._course.length)):
                    self.tally.on_refused()
            if self.tally.sent == self._course.count:
                return
            due = max(due + self._course.interval_s, loop.time())  # after a suspend, missed packets are not sent
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._is_stopped.wait(), due - loop.time())

    def on_message(self, head: Echo) -> None:
        """A complete message has arrived."""
        if head.kind is not Kind.ANSWER or head.session != self.session:
            self.tally.strangers += 1
            return
        rtt_s = self.tally.on_answer(head.sequence, head.arrivals, head.clock_ns, time.monotonic())
        if rtt_s is not None and self._on_answer is not None:
            self._on_answer(head.sequence, rtt_s)
        self._look_whether_all_came()

    def on_stranger(self) -> None:
        """Octets have arrived that are no message of lisp-echo."""
        self.tally.strangers += 1

    def on_end(self) -> None:
        """The line has ended: no more answers will arrive."""
        self._is_stopped.set()
        self._all_answered.set()

    def _look_whether_all_came(self) -> None:
        if self._is_done_sending and self.tally.answered == self.tally.sent:
            self._all_answered.set()

    def _tell(self, problem: str) -> None:
        if problem not in self.problems and len(self.problems) < 8:
            self.problems.append(problem)


class UdpLine:
    """A connected socket: the kernel reports ICMP errors, and delivers datagrams only from the server."""

    def __init__(self, client: EchoClient, peer: IpAddress, port: int, source: IpAddress | None) -> None:
        """Raises NoPeer."""
        self.problem: str | None = None
        self._client = client
        self._notes: dict[str, None] = {}
        family = socket.AF_INET if peer.version == 4 else socket.AF_INET6
        self._socket = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        try:
            if source is not None:
                self._socket.bind((str(source), 0))
            self._socket.connect((str(peer), port))
        except OSError as error:
            self._socket.close()
            raise NoPeer(f"no way to {peer} from here: {error.strerror or error}") from None
        name = self._socket.getsockname()
        self.own = (str(name[0]), int(name[1]))
        asyncio.get_running_loop().add_reader(self._socket, self._read)

    def send(self, octets: bytes) -> bool:
        """Send a datagram. A pending ICMP error is reported, but does not count as refusal of this datagram."""
        for _ in range(2):
            try:
                self._socket.send(octets)
            except ConnectionRefusedError:
                self._note("ICMP reports that the port is closed: is a lisp-echo server running, on this port?")
            except OSError as error:
                self._note(f"this host did not send all packets: {error.strerror or error}")
                return False
            else:
                return True
        return True  # refused twice by ICMP: it was sent, and the server's port is closed

    def is_full(self) -> bool:
        """Always False: a datagram is either sent or refused."""
        return False

    def close(self) -> None:
        """Close the socket."""
        asyncio.get_running_loop().remove_reader(self._socket)
        self._socket.close()

    def _read(self) -> None:
        for _ in range(DRAIN_LIMIT):
            try:
                octets = self._socket.recv(_DATAGRAM)
            except BlockingIOError:
                return
            except ConnectionRefusedError:
                self._note("ICMP reports that the port is closed: is a lisp-echo server running, on this port?")
                return
            except OSError as error:
                self._note(f"ICMP says: {error.strerror or error}")
                return
            try:
                self._client.on_message(read_datagram(octets))
            except NoEcho:
                self._client.on_stranger()

    def _note(self, text: str) -> None:
        if text not in self._notes:
            self._notes[text] = None
            self._client.problems.append(text)


class TcpLine:
    """A TCP connection. It delivers records in order; a packet lost below it shows as a gap."""

    def __init__(self, client: EchoClient, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.problem: str | None = None
        self._client = client
        self._reader = reader
        self._writer = writer
        name = writer.get_extra_info("sockname")
        self.own = (str(name[0]), int(name[1]))
        self._task = asyncio.create_task(self._read())

    @classmethod
    async def open(cls, client: EchoClient, peer: IpAddress, port: int, source: IpAddress | None) -> TcpLine:
        """Connect. Raises NoPeer."""
        own = None if source is None else (str(source), 0)
        try:
            async with asyncio.timeout(CONNECT_S):
                reader, writer = await asyncio.open_connection(str(peer), port, local_addr=own, limit=_DATAGRAM)
        except TimeoutError:
            raise NoPeer(f"{peer} port {port} does not answer to a connection within {CONNECT_S:g} s") from None
        except OSError as error:
            why = os.strerror(error.errno) if error.errno else str(error)
            raise NoPeer(f"no connection to {peer} port {port}: {why}") from None
        return cls(client, reader, writer)

    def send(self, octets: bytes) -> bool:
        """Write a record to the connection."""
        self._writer.write(octets)
        return True

    def is_full(self) -> bool:
        """True while the server reads more slowly than we send."""
        return self._writer.transport.get_write_buffer_size() > UNSENT_LIMIT

    def close(self) -> None:
        """Close the connection at once."""
        self._task.cancel()
        self._writer.transport.abort()

    async def _read(self) -> None:
        try:
            while True:
                octets = await self._reader.readexactly(SHORTEST)
                head = read_head(octets)
                await self._reader.readexactly(head.length - SHORTEST)
                self._client.on_message(head)
        except asyncio.IncompleteReadError:
            self.problem = "the other end closed the connection"
        except OSError as error:
            self.problem = f"the connection broke: {error.strerror or error}"
        except NoEcho as error:
            self.problem = f"what came is no answer: {error}"
        self._client.on_end()

"""Several processes of one hub: the first one starts the others and exchanges messages with them (adapter).

All of them serve the same port (`control_port/steering.py`) and share a registry, so that each can take any register or
question. The first process is also the proxy and the RTR, and serves invitations and the control socket. It passes on
answers to messages of the others (Map-Referrals, Map-Notify-Acks), and reports changes of the sites. It also sends its
addresses, which of them data leaves from, and the key that data to it is sealed with, since a node may ask any process.
The others send it their counters and events. A process that ends is started again; when the first one ends, all do.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import sys
from collections import Counter
from collections.abc import Callable
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final

import msgspec

import lispmob
from lispmob.control_port.port import Received
from lispmob.hub.dispatch import Front
from lispmob.protocol.effect import Event

log = logging.getLogger(__name__)

AGAIN_S: Final = 1.0
COUNTED_S: Final = 1.0
MESSAGE_LIMIT: Final = 1 << 17
_END_S: Final = 5.0
# The same program from the same place, which need not be on the path: a Debian package has it in a folder of its own
_HERE: Final = str(Path(lispmob.__file__).parents[1])
_PROGRAM: Final = f"import sys; sys.path.insert(0, {_HERE!r}); from lispmob.hub.daemon import main; sys.exit(main())"


class HandedDatagram(msgspec.Struct, frozen=True, tag="datagram"):
    """A datagram for the process that knows its nonce."""

    payload: bytes
    source: str
    source_port: int
    destination: str
    ifindex: int


class Carrier(msgspec.Struct, frozen=True, tag="carrier"):
    """The data of the first process, which carries the packets (`dispatch.Front`)."""

    addresses: tuple[str, ...]
    is_relay: bool
    public_key: bytes | None
    senders: dict[str, str]

    @classmethod
    def of(cls, front: Front) -> Carrier:
        """Its data as a message."""
        senders = {str(address): str(sender) for address, sender in front.senders.items()}
        return cls(tuple(map(str, front.addresses)), front.is_relay, front.public_key, senders)

    @property
    def front(self) -> Front:
        """Its data, as sent."""
        senders = {ip_address(address): ip_address(sender) for address, sender in self.senders.items()}
        return Front(tuple(map(ip_address, self.addresses)), self.is_relay, self.public_key, senders)


class Reload(msgspec.Struct, frozen=True, tag="reload"):
    """Sites or configuration have changed."""


class CountersReport(msgspec.Struct, frozen=True, tag="counted"):
    """A process's counters."""

    counters: dict[str, int]


class EventReport(msgspec.Struct, frozen=True, tag="happened"):
    """An event for the ledger of the first process."""

    kind: str
    fields: dict[str, Any]


_Message = HandedDatagram | Carrier | Reload | CountersReport | EventReport
_decoder: Final = msgspec.msgpack.Decoder(_Message)


class Link:
    """One end of the connection between two processes. `on_end` is called when the other end is gone."""

    def __init__(self, end: socket.socket, on_message: Callable[[_Message], None], on_end: Callable[[], None]) -> None:
        self._end, self._on_message, self._on_end = end, on_message, on_end
        end.setblocking(False)
        asyncio.get_running_loop().add_reader(end.fileno(), self._read)

    def send(self, message: _Message) -> None:
        """Send a message; it is dropped when the other process is too busy to read."""
        with contextlib.suppress(OSError):
            self._end.send(msgspec.msgpack.encode(message))

    def close(self) -> None:
        """Stop sending. May be called twice."""
        if self._end.fileno() >= 0:
            asyncio.get_running_loop().remove_reader(self._end.fileno())
            self._end.close()

    def _read(self) -> None:
        try:
            octets = self._end.recv(MESSAGE_LIMIT)
        except BlockingIOError:
            return
        except OSError:
            octets = b""
        if not octets:
            self.close()
            self._on_end()
            return
        self._on_message(_decoder.decode(octets))


class Workers:
    """The other processes, as seen by the first one."""

    def __init__(self, config: Path, count: int, on_event: Callable[[Event], None]) -> None:
        self._config, self._count, self._on_event = config, count, on_event
        self._links: dict[int, Link] = {}
        self._counters: dict[int, dict[str, int]] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._carrier: Carrier | None = None

    def start(self) -> None:
        """Start them; a process that ends is started again."""
        self._tasks = [asyncio.create_task(self._keep(number)) for number in range(1, self._count)]

    async def stop(self) -> None:
        """End all of them."""
        for link in self._links.values():
            link.close()
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=_END_S)
            for task in late:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def hand(self, received: Received) -> None:
        """Send a datagram to all: the one that knows its nonce handles it."""
        message = HandedDatagram(
            received.payload,
            str(received.source),
            received.source_port,
            str(received.destination),
            received.ifindex,
        )
        for link in self._links.values():
            link.send(message)

    def tell(self, carrier: Carrier) -> None:
        """Set the data about the first process that nodes receive from now on."""
        if carrier == self._carrier:
            return
        self._carrier = carrier
        for link in self._links.values():
            link.send(carrier)

    def reload(self) -> None:
        """Sites or configuration have changed."""
        for link in self._links.values():
            link.send(Reload())

    def counters(self) -> Counter[str]:
        """The sum of the others' counters."""
        return sum((Counter(counters) for counters in self._counters.values()), Counter())

    async def _keep(self, number: int) -> None:
        is_wanted = True
        while is_wanted:
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            with theirs:
                command = (sys.executable, "-I", "-c", _PROGRAM, "-c", str(self._config))
                os.set_inheritable(theirs.fileno(), True)
                process = await asyncio.create_subprocess_exec(
                    *command, "--worker", f"{number}:{theirs.fileno()}", pass_fds=(theirs.fileno(),)
                )
            link = self._links[number] = Link(ours, lambda message: self._take(number, message), lambda: None)
            if self._carrier is not None:
                link.send(self._carrier)  # it waits in the socket until the process has started
            try:
                code = await process.wait()
            except asyncio.CancelledError:
                process.kill()
                await process.wait()
                raise
            is_wanted = ours.fileno() >= 0 or code != 0
            link.close()
            self._links.pop(number, None)
            self._counters.pop(number, None)
            if is_wanted:
                log.warning("process %d of this hub ended with %d and is started again", number, code)
                await asyncio.sleep(AGAIN_S)

    def _take(self, number: int, message: _Message) -> None:
        if isinstance(message, CountersReport):
            self._counters[number] = message.counters
        elif isinstance(message, EventReport):
            self._on_event(Event(message.kind, message.fields))


class Worker:
    """Another process's connection to the first: `where` is its number and the descriptor of its end."""

    def __init__(self, where: str) -> None:
        number, _, descriptor = where.partition(":")
        self.number = int(number)
        self._socket = socket.socket(fileno=int(descriptor))
        self._link: Link | None = None
        self._telling: asyncio.Task[None] | None = None

    def start(
        self,
        on_datagram: Callable[[Received], object],
        on_reload: Callable[[], None],
        on_carrier: Callable[[Carrier], None],
        on_end: Callable[[], None],
        counters: Callable[[], dict[str, int]],
    ) -> None:
        """Listen to the first process."""

        def take(message: _Message) -> None:
            if isinstance(message, HandedDatagram):
                source, destination = ip_address(message.source), ip_address(message.destination)
                on_datagram(Received(message.payload, source, message.source_port, destination, message.ifindex))
            elif isinstance(message, Carrier):
                on_carrier(message)
            elif isinstance(message, Reload):
                on_reload()

        self._link = Link(self._socket, take, on_end)
        self._telling = asyncio.create_task(self._tell(counters))

    def happened(self, event: Event) -> None:
        """Report to the first process."""
        if self._link is not None:
            self._link.send(EventReport(event.kind, dict(event.fields)))

    async def stop(self) -> None:
        """Stop reporting."""
        if self._telling is not None:
            self._telling.cancel()
            await asyncio.gather(self._telling, return_exceptions=True)
        if self._link is not None:
            self._link.close()

    async def _tell(self, counters: Callable[[], dict[str, int]]) -> None:
        while self._link is not None:
            self._link.send(CountersReport(counters()))
            await asyncio.sleep(COUNTED_S)

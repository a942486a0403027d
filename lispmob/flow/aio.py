"""Flows for asyncio programs: `await allocate(...)`, `await register(...)`. Cancelling the task cancels the request."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from lispmob.flow import direct, opening, packets, sockets
from lispmob.flow.client import NEVER_BACK, PATIENCE_S, REJOIN_S, Rejoining, connect
from lispmob.flow.errors import FlowError, NoFlowDaemon, PeerGone, TimedOut, from_reply
from lispmob.flow.opening import OpenFlow, awaited_with

_LISPD_GONE: Final = "lispd-gone"  # not a reason that a peer sends
_MAX_EVENTS: Final = 1024  # ours: flows that the program has not accepted yet


class Connection:
    """A connection to lispd in the running event loop.

    It uses a reader, since asyncio's streams cannot pass descriptors.
    """

    def __init__(self, connected: socket.socket) -> None:
        self._socket = connected
        self._socket.setblocking(False)
        self._loop = asyncio.get_running_loop()
        self._numbers = 0
        self.lost_name: str | None = None  # set when another program has taken the name
        self._is_lost = False  # lispd has closed the connection
        self._waiting: dict[int, asyncio.Future[tuple[dict[str, Any], socket.socket | None]]] = {}
        self.flows: asyncio.Queue[tuple[dict[str, Any], socket.socket] | None] = asyncio.Queue(_MAX_EVENTS)
        self.ended: dict[int, asyncio.Future[str]] = {}
        self._loop.add_reader(self._socket.fileno(), self._on_readable)

    async def request(
        self, method: str, params: dict[str, Any], within_s: float = PATIENCE_S, given: socket.socket | None = None
    ) -> tuple[dict[str, Any], socket.socket | None]:
        """Send a request, with a socket if given, and wait for the result and its socket. Raises FlowError."""
        self._numbers += 1
        number = self._numbers
        done = self._waiting[number] = self._loop.create_future()
        try:
            descriptors = () if given is None else (given.fileno(),)
            packets.send(self._socket, {"id": number, "method": method, "params": params}, descriptors)
            async with asyncio.timeout(within_s):
                answer: tuple[dict[str, Any], socket.socket | None] = await done
                return answer
        except TimeoutError:
            raise TimedOut("lispd did not answer in time") from None
        except OSError as error:
            raise NoFlowDaemon(f"lispd has gone: {error.strerror}") from None
        finally:
            del self._waiting[number]

    def close(self) -> None:
        """Close the connection, and with it all its flows and names. Idempotent."""
        if self._socket.fileno() < 0:
            return
        self._loop.remove_reader(self._socket.fileno())
        self._socket.close()
        while not self.flows.empty():
            if (waiting := self.flows.get_nowait()) is not None:
                waiting[1].close()
        self.flows.put_nowait(None)
        for done in self._waiting.values():
            if not done.done():
                done.set_exception(NoFlowDaemon("lispd has gone"))
        for ended in self.ended.values():
            if not ended.done():
                ended.set_result(_LISPD_GONE if self._is_lost else "shutting-down")

    def ended_of(self, flow: int) -> asyncio.Future[str]:
        """A future for the reason why the peer ended the flow. That message may arrive before the flow itself."""
        return self.ended.setdefault(flow, self._loop.create_future())

    def _on_readable(self) -> None:
        while self._socket.fileno() >= 0:
            try:
                octets, descriptors = packets.receive(self._socket)
            except BlockingIOError:
                return
            except OSError:
                octets, descriptors = b"", []
            if not octets:
                self._is_lost = True
                self.close()
                return
            self._on_packet(packets.unpack(octets), socket.socket(fileno=descriptors[0]) if descriptors else None)

    def _on_packet(self, packet: dict[str, Any], one: socket.socket | None) -> None:
        event = packet.get("event")
        if event is not None and event["kind"] == "flow" and one is not None and not self.flows.full():
            self.flows.put_nowait((event["fields"], one))
            return
        if event is not None and event["kind"] == "replaced":
            self.lost_name = str(event["fields"]["name"])
            if not self.flows.full():
                self.flows.put_nowait(None)
        if event is not None and event["kind"] == "closed":
            ended = self.ended_of(int(event["fields"]["flow"]))
            if not ended.done():
                ended.set_result(str(event["fields"]["reason"]))
        done = None if event is not None else self._waiting.get(packet.get("id", 0))
        if done is not None and not done.done():
            if "error" in packet:
                done.set_exception(from_reply(packet["error"]))
            else:
                done.set_result((packet["result"], one))
            return
        if one is not None:
            one.close()


class DirectConnection:
    """A flow without lispd, driven by the event loop."""

    def __init__(self, machine: direct.DirectConnection) -> None:
        self._machine = machine
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self.ended: dict[int, asyncio.Future[str]] = {}

    async def open(self) -> tuple[dict[str, Any], socket.socket]:
        """Send the request until the flow is open. Raises FlowError."""
        self._machine.begin()
        while watched := self._machine.asking:
            came = asyncio.Event()
            for sock in watched:
                self._loop.add_reader(sock.fileno(), came.set)
            try:
                async with asyncio.timeout(self._machine.pause_s):
                    await came.wait()
            except TimeoutError:
                pass
            finally:
                for sock in watched:
                    self._loop.remove_reader(sock.fileno())
            self._machine.turn()
        result = self._machine.result()
        self._loop.add_reader(self._machine.fileno(), self._turn)
        self._turn()
        return result

    def ended_of(self, flow: int) -> asyncio.Future[str]:
        """A future for the reason why the peer ended the flow."""
        return self.ended.setdefault(flow, self._loop.create_future())

    async def request(self, method: str, params: dict[str, Any]) -> None:
        """Raises NoFlowDaemon: there is no lispd to ask."""
        self._machine.request(method, params)

    def close(self) -> None:
        """End the flow. A thread notifies the peer, for at most some seconds."""
        if self._timer is not None:
            self._timer.cancel()
        if self._machine.fileno() >= 0:
            self._loop.remove_reader(self._machine.fileno())
            self._loop.run_in_executor(None, self._machine.close)

    def _turn(self) -> None:
        self._machine.turn()
        for flow, reason in self._machine.ended.items():
            ended = self.ended_of(flow)
            if not ended.done():
                ended.set_result(reason)
        if self._timer is not None:
            self._timer.cancel()
        pause_s = self._machine.pause_s
        self._timer = None if pause_s is None else self._loop.call_later(pause_s, self._turn)


class Flow(OpenFlow):
    """An open flow. `socket` is a connected, non-blocking UDP socket between two EIDs; `qos` is the granted quality.

    When lispd ends, socket and flow stay: `recv` asks the next lispd at `path` to adopt it (see `client.Flow`).
    """

    def __init__(
        self,
        connection: Connection | DirectConnection,
        fields: dict[str, Any],
        one: socket.socket,
        *,
        owns: bool,
        path: Path = packets.DEFAULT_SOCKET,
    ) -> None:
        super().__init__(fields, one)
        self._connection, self._owns = connection, owns
        self._rejoining = Rejoining(fields, path)
        self._loop = asyncio.get_running_loop()
        self._is_open = True
        self.socket.setblocking(False)
        self._ended = connection.ended_of(self.number)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def send(self, octets: bytes) -> None:
        """Send a datagram. Raises PeerGone when the flow is over, and OSError. For ICMP see `client.Flow.send`."""
        try:
            await self._loop.sock_sendall(self.socket, octets)
        except OSError:
            if self._is_orphan:
                return  # lispd's device is gone: drop the datagram, as networks do
            if self._ended.done():
                raise self._gone() from None
            sockets.read_errors(self.socket)
            await self._loop.sock_sendall(self.socket, octets)

    async def recv(self, limit: int = 65535) -> bytes:
        """Receive a datagram. Raises PeerGone when the flow is over."""
        while True:
            reading = self._loop.create_task(self._receive(limit))
            try:
                await asyncio.wait((reading, self._ended), return_when=asyncio.FIRST_COMPLETED)
                if reading.done():
                    return reading.result()
            finally:
                reading.cancel()
            if not self._is_orphan:
                raise self._gone()
            await self._rejoin()

    @property
    def _is_orphan(self) -> bool:
        is_lost = self._ended.done() and self._ended.result() == _LISPD_GONE
        return is_lost and self._is_open and self._rejoining.may_go_on

    async def _rejoin(self) -> None:
        """Ask the next lispd to adopt the flow.

        Raises NoFlowDaemon after the flow's lifetime, FlowError when it refuses.
        """
        until = self._loop.time() + self._rejoining.patience_s
        while self._is_open and self._loop.time() < until:
            try:
                connection = Connection(connect(self._rejoining.path))
            except NoFlowDaemon:
                await asyncio.sleep(REJOIN_S)
                continue
            try:
                fields, _ = await connection.request("adopt", self._rejoining.shown, given=self.socket)
            except (NoFlowDaemon, TimedOut):
                connection.close()
                await asyncio.sleep(REJOIN_S)
                continue
            except BaseException:
                connection.close()
                raise
            self._connection, self._owns, self.number = connection, True, int(fields["flow"])
            self._ended = connection.ended_of(self.number)
            return
        raise NoFlowDaemon(NEVER_BACK)

    async def _receive(self, limit: int) -> bytes:
        while True:
            try:
                return await self._loop.sock_recv(self.socket, limit)
            except OSError:  # an ICMP error: see `client.Flow.send`
                if self.socket.fileno() < 0:
                    raise
                sockets.read_errors(self.socket)

    def _gone(self) -> PeerGone:
        reason = self._ended.result()
        if reason == _LISPD_GONE:
            return PeerGone("lispd has gone, and this flow with it", "shutting-down")
        return PeerGone(f"{self.peer} has ended the flow", reason)

    async def close(self) -> None:
        """End the flow. Idempotent."""
        if not self._is_open:
            return
        self._is_open = False
        self._connection.ended.pop(self.number, None)
        self.socket.close()
        if self._owns:
            self._connection.close()
            return
        try:
            await self._connection.request("close", {"flow": self.number})
        except FlowError:
            return  # the flow was already over


@awaited_with(opening.allocate)
async def allocate(asked: opening.Allocation) -> Flow:
    try:
        connection = Connection(connect(asked.path))
    except NoFlowDaemon:
        if asked.eid is None:
            raise
        return await _allocate_directly(direct.connect(asked.eid, asked.ask, asked.port), asked.path)
    try:
        fields, granted = await connection.request("allocate", asked.params, asked.timeout_s + PATIENCE_S)
        assert granted is not None, "a flow comes with its socket"
        return Flow(connection, fields, granted, owns=True, path=asked.path)
    except BaseException:
        connection.close()
        raise


async def _allocate_directly(machine: direct.DirectConnection, path: Path) -> Flow:
    connection = DirectConnection(machine)
    try:
        fields, one = await connection.open()
    except BaseException:
        connection.close()
        raise
    return Flow(connection, fields, one, owns=True, path=path)


class Name:
    """A name that this program holds: `async for flow in name`, or `await name.accept()`."""

    def __init__(self, name: str, connection: Connection, path: Path = packets.DEFAULT_SOCKET) -> None:
        self.name = name
        self._connection, self._path = connection, path

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._connection.close()

    async def __aiter__(self) -> AsyncIterator[Flow]:
        while True:
            yield await self.accept()

    async def accept(self) -> Flow:
        """The next flow. Raises NoFlowDaemon when lispd ends, and FlowError when another program has taken the name."""
        waiting = await self._connection.flows.get()
        if waiting is None and self._connection.lost_name is not None:
            raise FlowError(f"another program holds {self._connection.lost_name} now")
        if waiting is None:
            raise NoFlowDaemon("lispd has gone")
        return Flow(self._connection, *waiting, owns=False, path=self._path)


@awaited_with(opening.register)
async def register(asked: opening.Registering) -> Name:
    connection = Connection(connect(asked.path))
    try:
        await connection.request("register", asked.params)
    except BaseException:
        connection.close()
        raise
    return Name(asked.name, connection, asked.path)

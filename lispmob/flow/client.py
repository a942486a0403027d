"""Flows for blocking programs: `allocate`, `register`, and the flows that they return."""

from __future__ import annotations

import contextlib
import errno
import select
import socket
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from lispmob.closing import Closing
from lispmob.flow import opening, packets, sockets
from lispmob.flow.direct import DirectConnection
from lispmob.flow.direct import allocate as allocate_directly
from lispmob.flow.errors import FlowError, NoFlowDaemon, PeerGone, TimedOut, from_reply
from lispmob.flow.opening import OpenFlow, asked_with

PATIENCE_S: Final = 5.0  # ours: for an answer of lispd that needs no peer
REJOIN_S: Final = 0.5  # ours: the interval between attempts to reach lispd again
NEVER_BACK: Final = "lispd has gone, and did not come back while the flow lived"
UNLIMITED_S: Final = 600.0  # ours: how long to try, for a flow without a limit of its lifetime


def connect(path: Path) -> socket.socket:
    """A connected socket to lispd. Raises NoFlowDaemon when lispd does not listen there."""
    one = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
    try:
        one.connect(str(path))
    except OSError as error:
        one.close()
        if error.errno in (errno.ENOENT, errno.ECONNREFUSED):
            why = f"lispd takes no flows at {path}: start it, with 'flows: {{enabled: yes}}' in lispd.conf"
        else:
            why = f"{path}: {error.strerror}"
        raise NoFlowDaemon(why) from None
    return one


class Connection:
    """A connection to lispd, on a connected socket."""

    def __init__(self, connected: socket.socket) -> None:
        self._socket = connected
        self._numbers = 0
        self.flows: deque[tuple[dict[str, Any], socket.socket]] = deque()  # offered, and not accepted yet
        self.ended: dict[int, str] = {}  # flows that the peer has ended, with the reason
        self.lost_name: str | None = None  # set when another program has taken the name

    pause_s: float | None = None
    """How long `look` may be delayed; None: until the socket is readable."""

    def fileno(self) -> int:
        """The descriptor to wait on for events."""
        return self._socket.fileno()

    def close(self) -> None:
        """Close the connection, and with it all its flows and names."""
        for _, one in self.flows:
            one.close()
        self.flows.clear()
        self._socket.close()

    def request(
        self,
        method: str,
        params: dict[str, Any],
        timeout: float | None = PATIENCE_S,
        given: socket.socket | None = None,
    ) -> tuple[dict[str, Any], socket.socket | None]:
        """Send a request, with a socket if given, and wait for the result and its socket. Raises FlowError."""
        self._numbers += 1
        number = self._numbers
        try:
            descriptors = () if given is None else (given.fileno(),)
            packets.send(self._socket, {"id": number, "method": method, "params": params}, descriptors)
        except OSError as error:
            raise NoFlowDaemon(f"lispd has gone: {error.strerror}") from None
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            packet, one = self.receive(None if deadline is None else deadline - time.monotonic())
            if "event" in packet:
                self._note(packet["event"], one)
            elif packet.get("id") == number:
                if "error" in packet:
                    raise from_reply(packet["error"])
                return packet["result"], one

    def look(self, timeout: float | None) -> None:
        """Process one packet. Raises TimedOut, NoFlowDaemon."""
        packet, one = self.receive(timeout)
        if "event" in packet:
            self._note(packet["event"], one)
        elif one is not None:
            one.close()

    def _note(self, event: dict[str, Any], one: socket.socket | None) -> None:
        if event["kind"] == "flow" and one is not None:
            self.flows.append((event["fields"], one))
            return
        if event["kind"] == "replaced":
            self.lost_name = str(event["fields"]["name"])
        if event["kind"] == "closed":
            self.ended[int(event["fields"]["flow"])] = str(event["fields"]["reason"])
        if one is not None:
            one.close()

    def receive(self, timeout: float | None) -> tuple[dict[str, Any], socket.socket | None]:
        """Receive one packet. Raises TimedOut, NoFlowDaemon."""
        if timeout is not None and not select.select([self._socket], [], [], max(0.0, timeout))[0]:
            raise TimedOut("lispd did not answer in time")
        try:
            octets, descriptors = packets.receive(self._socket)
        except OSError as error:
            raise NoFlowDaemon(f"lispd has gone: {error.strerror}") from None
        if not octets:
            raise NoFlowDaemon("lispd has gone")
        return packets.unpack(octets), socket.socket(fileno=descriptors[0]) if descriptors else None


class Flow(OpenFlow, Closing):
    """An open flow.

    `socket` is a connected UDP socket between two EIDs; `peer` the remote EID; `qos` the granted quality.

    `connection` is readable when lispd has sent an event about the flow: call `look` then. Leaving the `with` block, or
    `close`, ends the flow and notifies the peer. When lispd ends, socket and flow stay: `recv` and `look` ask the next
    lispd at `path` to adopt the flow, and give up after its lifetime.
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
        self.connection, self._owns = connection, owns
        self._rejoining = Rejoining(fields, path)
        self._is_open = True
        self.socket.setblocking(True)

    def send(self, octets: bytes) -> int:
        """Send a datagram. Raises PeerGone when the flow is over, and OSError, as sockets do.

        An ICMP error does not end the flow, because it can be forged; lispd reports the end of a flow. The error is
        about an earlier datagram, so this one is sent again. A second error is about this datagram.
        """
        try:
            return self.socket.send(octets)
        except OSError:
            self.look()
            sockets.read_errors(self.socket)
            try:
                return self.socket.send(octets)
            except OSError:
                if not self.is_orphan:
                    raise
                return len(octets)  # lispd's device is gone: drop the datagram, as networks do

    def recv(self, limit: int = 65535, timeout: float | None = None) -> bytes:
        """Receive a datagram. Raises TimedOut, and PeerGone when the flow is over."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            watched: list[Any] = [self.socket, *(() if self.is_orphan else (self.connection,))]
            has_ended = self.number in self.connection.ended  # what was received before the end is still read
            pause_s = self.pause_s
            wait_s = left if pause_s is None else pause_s if left is None else min(left, pause_s)
            ready, _, _ = select.select(watched, [], [], 0 if has_ended else wait_s)
            if self.socket in ready:
                # An ICMP error makes it readable, too: see `send`. lispd shares the socket, and may read the error
                # first.
                try:
                    return self.socket.recv(limit, socket.MSG_DONTWAIT)
                except OSError:
                    sockets.read_errors(self.socket)
            self.check()
            if self.is_orphan or self.connection in ready or (pause_s is not None and not ready):
                with contextlib.suppress(TimedOut):
                    self._look()
                if left != 0 or (self.connection in ready and not self.is_orphan):
                    continue
            if self.socket not in ready or left == 0:
                raise TimedOut(f"nothing from {self.peer} in {timeout:g} s")

    def look(self) -> None:
        """Process the events that lispd has sent. Raises PeerGone when the peer has ended the flow, NoFlowDaemon."""
        with contextlib.suppress(TimedOut):
            self._look()
            while not self.is_orphan:
                self._look()
        self.check()

    @property
    def is_orphan(self) -> bool:
        """True while lispd is away. `connection` is unusable then; call `look` every `pause_s`."""
        return self._rejoining.lost_at is not None

    @property
    def pause_s(self) -> float | None:
        """How long `look` may be delayed, seconds; None: until `connection` is readable."""
        return REJOIN_S if self.is_orphan else self.connection.pause_s

    def _look(self) -> None:
        """Process one packet, or look for a lispd that adopts the flow. Raises TimedOut for no packet, FlowError."""
        if not self.is_orphan:
            try:
                self.connection.look(0)
                return
            except NoFlowDaemon:
                if not self._rejoining.may_go_on:
                    raise
        found = self._rejoining.rejoin(self)
        if found is not None:
            if self._owns:
                self.connection.close()
            self.connection, self.number = found
            self._owns = True

    def check(self) -> None:
        """Raise PeerGone when the peer has ended the flow."""
        if self.number in self.connection.ended:
            raise PeerGone(f"{self.peer} has ended the flow", self.connection.ended[self.number])

    def detach(self) -> socket.socket:
        """A duplicate of the socket. The flow continues while this object exists, and ends with `close`."""
        return self.socket.dup()

    def close(self) -> None:
        """End the flow. Idempotent."""
        if not self._is_open:
            return
        self._is_open = False
        if self.connection.fileno() >= 0:
            with contextlib.suppress(FlowError):  # a lispd that has been restarted meanwhile has to notify the peer
                self._look()
        self.socket.close()
        if self._owns:
            self.connection.close()
        elif self.connection.ended.pop(self.number, None) is None:
            with contextlib.suppress(FlowError):
                self.connection.request("close", {"flow": self.number})


class Rejoining:
    """What a flow needs after its lispd has ended. `lost_at`: when that happened, monotonic seconds."""

    def __init__(self, fields: dict[str, Any], path: Path) -> None:
        self.path = path
        self._lifetime_s = int(fields.get("lifetime_s", 0))
        kept = ("role", "nonces", "control_port", "lifetime_s", "name", "peer", "qos")
        self.shown = {key: fields[key] for key in kept if key in fields}
        self.lost_at: float | None = None
        self._next_try = 0.0

    @property
    def may_go_on(self) -> bool:
        """False for a flow of version 0, which has no nonces to prove it by."""
        return "nonces" in self.shown

    @property
    def patience_s(self) -> float:
        """How long to look for a lispd: for as long as the peer keeps the flow."""
        return self._lifetime_s or UNLIMITED_S

    def rejoin(self, flow: Flow) -> tuple[Connection, int] | None:
        """Ask a running lispd to adopt the flow: returns a connection and the flow's new number. Tries twice a second.

        Raises NoFlowDaemon after the flow's lifetime, and FlowError when lispd refuses.
        """
        now = time.monotonic()
        self.lost_at = now if self.lost_at is None else self.lost_at
        if now < self._next_try:
            return None
        self._next_try = now + REJOIN_S
        if now - self.lost_at > self.patience_s:
            raise NoFlowDaemon(NEVER_BACK)
        try:
            connection = Connection(connect(self.path))
        except NoFlowDaemon:
            return None
        try:
            fields, _ = connection.request("adopt", self.shown, given=flow.socket)
        except (NoFlowDaemon, TimedOut):
            connection.close()
            return None
        except BaseException:
            connection.close()
            raise
        self.lost_at = None
        return connection, int(fields["flow"])


@asked_with(opening.allocate)
def allocate(asked: opening.Allocation) -> Flow:
    try:
        connection = Connection(connect(asked.path))
    except NoFlowDaemon:
        if asked.eid is None:
            raise
        direct, fields, one = allocate_directly(asked.eid, asked.ask, asked.port)
        return Flow(direct, fields, one, owns=True, path=asked.path)
    try:
        fields, granted = connection.request("allocate", asked.params, asked.timeout_s + PATIENCE_S)
        assert granted is not None, "a flow comes with its socket"
        return Flow(connection, fields, granted, owns=True, path=asked.path)
    except BaseException:
        connection.close()
        raise


class Name(Closing):
    """A name that this program holds: iterate over it for flows, or `accept` one. Closing it ends its flows."""

    def __init__(self, name: str, connection: Connection, path: Path = packets.DEFAULT_SOCKET) -> None:
        self.name = name
        self._connection, self._path = connection, path

    def __iter__(self) -> Iterator[Flow]:
        while True:
            yield self.accept()

    def fileno(self) -> int:
        """The descriptor that is readable when `accept` has something to process."""
        return self._connection.fileno()

    def accept(self, timeout: float | None = None) -> Flow:
        """The next flow. Raises TimedOut, NoFlowDaemon, and FlowError when another program has taken the name."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while not self._connection.flows:
            if self._connection.lost_name is not None:
                raise FlowError(f"another program holds {self._connection.lost_name} now")
            self._connection.look(None if deadline is None else deadline - time.monotonic())
        return Flow(self._connection, *self._connection.flows.popleft(), owns=False, path=self._path)

    def close(self) -> None:
        """Release the name. Idempotent."""
        self._connection.close()


@asked_with(opening.register)
def register(asked: opening.Registering) -> Name:
    connection = Connection(connect(asked.path))
    try:
        connection.request("register", asked.params)
    except BaseException:
        connection.close()
        raise
    return Name(asked.name, connection, asked.path)


def inherited(fd: int = 3) -> Flow:
    """The flow that a program was started for, by systemd with Accept=yes on a ListenSequentialPacket= socket."""
    connection = Connection(socket.socket(fileno=fd))
    packet, one = connection.receive(PATIENCE_S)
    if one is None or "call" not in packet:
        raise NoFlowDaemon("the connection that this program was given brought no flow")
    return Flow(connection, packet["call"], one, owns=True)

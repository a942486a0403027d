"""Flows for programs that block: `allocate`, `register`, and the flows that they give."""

from __future__ import annotations

import contextlib
import errno
import select
import socket
import time
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from lispmob.closing import Closing
from lispmob.flow import packets, sockets
from lispmob.flow.errors import FlowError, NoFlowDaemon, PeerGone, TimedOut, from_reply
from lispmob.flow.quality import Quality

PATIENCE_S: Final = 5.0  # ours: for the daemon's answer to what needs no peer


def connect(path: Path) -> socket.socket:
    """A connected socket to lispd. Raises NoFlowDaemon when nobody is there."""
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
    """A connection to lispd, on a socket that is connected already."""

    def __init__(self, connected: socket.socket) -> None:
        self._socket = connected
        self._numbers = 0
        self.flows: deque[tuple[dict[str, Any], socket.socket]] = deque()  # offered, and not accepted yet
        self.ended: dict[int, str] = {}  # flows that the peer has ended, with the reason

    def fileno(self) -> int:
        """The descriptor to wait on for events."""
        return self._socket.fileno()

    def close(self) -> None:
        """End it, and with it all flows and names of this connection."""
        for _, one in self.flows:
            one.close()
        self.flows.clear()
        self._socket.close()

    def request(
        self, method: str, params: dict[str, Any], timeout: float | None = PATIENCE_S
    ) -> tuple[dict[str, Any], socket.socket | None]:
        """Ask and wait for the answer: its result, and its socket. Raises FlowError."""
        self._numbers += 1
        number = self._numbers
        try:
            packets.send(self._socket, {"id": number, "method": method, "params": params})
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
        """Take in one packet. Raises TimedOut, NoFlowDaemon."""
        packet, one = self.receive(timeout)
        if "event" in packet:
            self._note(packet["event"], one)
        elif one is not None:
            one.close()

    def _note(self, event: dict[str, Any], one: socket.socket | None) -> None:
        if event["kind"] == "flow" and one is not None:
            self.flows.append((event["fields"], one))
            return
        if event["kind"] == "closed":
            self.ended[int(event["fields"]["flow"])] = str(event["fields"]["reason"])
        if one is not None:
            one.close()

    def receive(self, timeout: float | None) -> tuple[dict[str, Any], socket.socket | None]:
        """One packet. Raises TimedOut, NoFlowDaemon."""
        if timeout is not None and not select.select([self._socket], [], [], max(0.0, timeout))[0]:
            raise TimedOut("lispd did not answer in time")
        try:
            octets, descriptors = packets.receive(self._socket)
        except OSError as error:
            raise NoFlowDaemon(f"lispd has gone: {error.strerror}") from None
        if not octets:
            raise NoFlowDaemon("lispd has gone")
        return packets.unpack(octets), socket.socket(fileno=descriptors[0]) if descriptors else None


class Flow(Closing):
    """An open flow. `socket` is a connected UDP socket between two EIDs; `peer` the other one; `qos` what was granted.

    `connection` is readable when lispd has something to say of the flow: call `look` then.
    Leaving the `with` block, or `close`, ends it, and the peer hears of it.
    """

    def __init__(self, connection: Connection, fields: dict[str, Any], one: socket.socket, *, owns: bool) -> None:
        self.connection, self._owns = connection, owns
        self._is_open = True
        self.socket = one
        self.socket.setblocking(True)
        self.number = int(fields["flow"])
        self.name = str(fields["name"])
        self.peer = str(fields["peer"])
        self.qos = packets.quality_from_json(fields.get("qos") or None)
        self.max_datagram = int(fields.get("max_datagram", 0))

    def send(self, octets: bytes) -> int:
        """Send one datagram. Raises PeerGone when the flow is over, and OSError, as sockets do.

        An ICMP error ends nothing: anyone can forge one, and lispd says when a flow is over. It reports the fate of an
        earlier datagram, so this one is sent again; what fails twice is about this one.
        """
        try:
            return self.socket.send(octets)
        except OSError:
            self.look()
            sockets.read_errors(self.socket)
            return self.socket.send(octets)

    def recv(self, limit: int = 65535, timeout: float | None = None) -> bytes:
        """Receive one datagram. Raises TimedOut, and PeerGone when the flow is over."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            watched: list[Any] = [self.socket, self.connection]
            has_ended = self.number in self.connection.ended  # what has come in until then is still read
            ready, _, _ = select.select(watched, [], [], 0 if has_ended else left)
            if self.socket in ready:
                # An ICMP error makes it readable, too: see `send`. lispd shares the socket, and may read it first.
                try:
                    return self.socket.recv(limit, socket.MSG_DONTWAIT)
                except OSError:
                    sockets.read_errors(self.socket)
            self.check()
            if self.connection in ready:
                self.connection.look(0)
            elif self.socket not in ready or left == 0:
                raise TimedOut(f"nothing from {self.peer} in {timeout:g} s")

    def look(self) -> None:
        """Take in what lispd has said meanwhile. Raises PeerGone when the peer has ended the flow, NoFlowDaemon."""
        with contextlib.suppress(TimedOut):
            while True:
                self.connection.look(0)
        self.check()

    def check(self) -> None:
        """Raise PeerGone when the peer has ended the flow."""
        if self.number in self.connection.ended:
            raise PeerGone(f"{self.peer} has ended the flow", self.connection.ended[self.number])

    def detach(self) -> socket.socket:
        """The socket alone. The flow goes on as long as this object, and ends with `close`."""
        return self.socket.dup()

    def close(self) -> None:
        """End the flow. Idempotent."""
        if not self._is_open:
            return
        self._is_open = False
        self.socket.close()
        if self._owns:
            self.connection.close()
        elif self.connection.ended.pop(self.number, None) is None:
            with contextlib.suppress(FlowError):
                self.connection.request("close", {"flow": self.number})


def allocate(
    name: str,
    *,
    qos: Quality | None = None,
    via: Sequence[str] = (),
    timeout: float = 10.0,
    lifetime: int = 600,
    caller: str = "",
    protocol: int = 1,
    path: Path = packets.DEFAULT_SOCKET,
) -> Flow:
    """A flow to whoever holds `name`, for example `backup.nas` or `backup@10.99.0.2`.

    `qos` is a wish, `via` names uplinks (root and the control group), `timeout` and `lifetime` are seconds, 0 for a
    lifetime without limit. Raises FlowError: NameNotFound, Refused, TimedOut, NoFlowDaemon, NotAllowed, Busy.
    """
    connection = Connection(connect(path))
    try:
        params = allocation(name, qos, via, timeout, lifetime, caller, protocol)
        fields, one = connection.request("allocate", params, timeout + PATIENCE_S)
        assert one is not None, "a flow comes with its socket"
        return Flow(connection, fields, one, owns=True)
    except BaseException:
        connection.close()
        raise


def allocation(
    name: str, qos: Quality | None, via: Sequence[str], timeout: float, lifetime: int, caller: str, protocol: int
) -> dict[str, Any]:
    """The parameters of `allocate` as packets have them."""
    return {
        "name": name,
        "qos": None if qos is None else packets.quality_to_json(qos),
        "via": list(via),
        "timeout_s": timeout,
        "lifetime_s": lifetime,
        "caller": caller,
        "protocol": protocol,
    }


class Name(Closing):
    """A name that this program holds: iterate over it for flows, or `accept` one. Closing it ends its flows."""

    def __init__(self, name: str, connection: Connection) -> None:
        self.name = name
        self._connection = connection

    def __iter__(self) -> Iterator[Flow]:
        while True:
            yield self.accept()

    def fileno(self) -> int:
        """Readable when `accept` has something to look at."""
        return self._connection.fileno()

    def accept(self, timeout: float | None = None) -> Flow:
        """The next flow. Raises TimedOut, NoFlowDaemon."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while not self._connection.flows:
            self._connection.look(None if deadline is None else deadline - time.monotonic())
        return Flow(self._connection, *self._connection.flows.popleft(), owns=False)

    def close(self) -> None:
        """Give the name back. Idempotent."""
        self._connection.close()


def register(name: str, *, backlog: int = 16, path: Path = packets.DEFAULT_SOCKET) -> Name:
    """Hold `name` on this host. Raises NoFlowDaemon, NotAllowed, FlowError (somebody holds it already)."""
    connection = Connection(connect(path))
    try:
        connection.request("register", {"name": name, "backlog": backlog})
    except BaseException:
        connection.close()
        raise
    return Name(name, connection)


def inherited(fd: int = 3) -> Flow:
    """The flow that a program was started for, by systemd with Accept=yes on a ListenSequentialPacket= socket."""
    connection = Connection(socket.socket(fileno=fd))
    packet, one = connection.receive(PATIENCE_S)
    if one is None or "call" not in packet:
        raise NoFlowDaemon("the connection that this program was given brought no flow")
    return Flow(connection, packet["call"], one, owns=True)

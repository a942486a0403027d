"""A call without lispd: the library sends the messages itself, from the address that the kernel chooses for the EID.

Without lispd there are no marks, no keys, no held names and no name resolution, so the name must have a literal EID.
The flow is kept alive, and its end is noticed, while the program is in `recv`, `send` or `look`.
"""

from __future__ import annotations

import contextlib
import os
import random
import select
import socket
import time
from collections.abc import Iterable
from ipaddress import ip_address
from typing import Any, Final

from lispmob.errors import MalformedMessage
from lispmob.flow import packets, sockets
from lispmob.flow.auth import IpAddress
from lispmob.flow.caller import Ask, Call, CallState
from lispmob.flow.effect import (
    AllocationFailed,
    ConnectFlowSocket,
    Failure,
    FlowEffect,
    FlowEnded,
    FlowOpened,
    Outlet,
    SendFlowMessage,
)
from lispmob.flow.errors import FlowError, NoFlowDaemon, TimedOut, from_reply
from lispmob.flow.message import decode, reason_word
from lispmob.flow.name import InvalidName, check_name

FLOW: Final = 1  # the only flow of such a connection
DRAIN_LIMIT: Final = 64
CLOSE_S: Final = 3.0  # the machine gives up earlier


def literal_eid(name: str) -> tuple[str, IpAddress] | None:
    """The full name and the EID of `NAME@EID`; None for any other name."""
    full, at, place = name.rpartition("@")
    try:
        return (check_name(full), ip_address(place)) if at else None
    except (InvalidName, ValueError):
        return None


class DirectConnection:
    """Takes the place of the connection to lispd. Its descriptor is that of the control port."""

    def __init__(self, ask: Ask, eid: IpAddress, port: int) -> None:
        """Raises NoFlowDaemon when there is no route to the EID."""
        own = _own_address(eid)
        self.ended: dict[int, str] = {}
        self._one = sockets.new_socket(own)
        try:
            self._control = sockets.new_socket(own)
        except OSError:
            self._one.close()
            raise
        self._is_ours = True  # the flow's socket, until the program has it
        self._answer: FlowOpened | AllocationFailed | None = None
        self._call = Call(
            FLOW, ask, own, self._one.getsockname()[1], eid, nonce=os.urandom(8), jitter=random.random,
            control_port=self._control.getsockname()[1], peer_port=port,
        )  # fmt: skip

    def fileno(self) -> int:
        """The descriptor to wait on."""
        return self._control.fileno()

    @property
    def pause_s(self) -> float | None:
        """How long `look` may be delayed, seconds; None: until a socket is readable."""
        at = self._call.wake_at()
        return None if at is None else max(0.0, at - time.monotonic())

    def open(self) -> tuple[dict[str, Any], socket.socket]:
        """Send the request until the flow is open; returns its fields and its socket. Raises FlowError."""
        self.begin()
        while self.asking:
            self._wait(self.asking)
        if self._call.state is CallState.CONFIRMING:  # the holder's program gets the flow when our CONFIRM has arrived
            self._wait([self._control])
        return self.result()

    def begin(self) -> None:
        """Send the first REQUEST."""
        sockets.set_quality(self._one, self._call.ask.wish)
        self._perform(self._call.start(time.monotonic()))

    @property
    def asking(self) -> list[socket.socket]:
        """The sockets to wait on before the next `turn`, until there is an answer."""
        return [self._one, self._control] if self._answer is None else []

    def turn(self) -> None:
        """Process received messages and due timers, without waiting."""
        self._wait(self.asking or [self._control], 0)

    def result(self) -> tuple[dict[str, Any], socket.socket]:
        """The opened flow: its fields and its socket. Raises FlowError."""
        assert self._answer is not None, "not answered yet"
        if isinstance(self._answer, AllocationFailed):
            raise _error(self._answer)
        opened, one = self._answer, self._one
        self._is_ours = False
        fields = {
            "flow": FLOW,
            "name": opened.name.decode(),
            "peer": str(opened.peer),
            "qos": packets.quality_to_json(opened.granted),
            "lifetime_s": opened.lifetime_s,
            "max_datagram": sockets.max_datagram(one),
        }
        return fields, one

    def look(self, timeout: float | None) -> None:
        """Process received messages and due timers. Raises TimedOut when there were none."""
        if not self._turn(timeout):
            raise TimedOut("nothing was said of the flow")

    def request(self, method: str, params: dict[str, Any]) -> None:
        """Raises NoFlowDaemon: there is no lispd to ask."""
        raise NoFlowDaemon(f"{method} {params}: there is no lispd")

    def close(self) -> None:
        """End the flow, and notify the peer, for at most some seconds. Idempotent."""
        if self._control.fileno() < 0:
            return
        with contextlib.suppress(OSError):
            self._perform(self._call.close(time.monotonic()))
            until = time.monotonic() + CLOSE_S
            while self._call.state is CallState.CLOSING and time.monotonic() < until:
                self._wait([self._control])
        self._control.close()
        if self._is_ours:
            self._one.close()

    def _turn(self, timeout: float | None) -> bool:
        pause_s = self.pause_s
        wait_s = timeout if pause_s is None else pause_s if timeout is None else min(timeout, pause_s)
        return self._wait([self._control], wait_s) or pause_s == 0

    def _wait(self, watched: list[socket.socket], wait_s: float | None = None) -> bool:
        """Wait until a message arrives or a timer is due; returns True for a message."""
        ready, _, _ = select.select(watched, [], [], self.pause_s if wait_s is None else wait_s)
        for sock in ready:
            self._take(sock, Outlet.CONTROL if sock is self._control else Outlet.FLOW)
        self._perform(self._call.on_timer(time.monotonic()))
        return bool(ready)

    def _take(self, one: socket.socket, outlet: Outlet) -> None:
        for _ in range(DRAIN_LIMIT):
            if outlet is Outlet.FLOW and self._answer is not None:
                return  # the following datagrams are for the program
            try:
                octets, place = one.recvfrom(2048, socket.MSG_DONTWAIT)
            except OSError as error:
                count, errors = sockets.read_errors(one)
                if outlet is Outlet.FLOW and any(error.reason == "port" for error in errors):
                    self._perform(self._call.on_unreachable(time.monotonic()))
                if not count and isinstance(error, BlockingIOError):
                    return
                continue
            if ip_address(str(place[0]).partition("%")[0]) == self._call.peer:
                self._on_datagram(octets, int(place[1]), outlet)

    def _on_datagram(self, octets: bytes, port: int, outlet: Outlet) -> None:
        if self._call.ask.is_legacy:
            self._perform(self._call.on_legacy_echo(octets, port))
            return
        with contextlib.suppress(MalformedMessage):
            message = decode(octets)
            self._perform(self._call.on_message(message, octets, port, outlet, time.monotonic()))

    def _perform(self, effects: Iterable[FlowEffect]) -> None:
        for effect in effects:
            match effect:
                case SendFlowMessage(_, octets, outlet, _, destination, port):
                    one = self._control if outlet is Outlet.CONTROL else self._one
                    with contextlib.suppress(OSError):  # a lost message is repeated
                        sockets.send(one, octets, destination, port)
                case ConnectFlowSocket(_, port):
                    sockets.connect(self._one, self._call.peer, port)
                case FlowOpened() | AllocationFailed():
                    self._answer = effect
                case FlowEnded(_, reason_code):
                    self.ended[FLOW] = reason_word(reason_code)


def connect(eid: IpAddress, ask: Ask, port: int) -> DirectConnection:
    """The sockets for a request to `port` of `eid`. Raises NoFlowDaemon."""
    try:
        return DirectConnection(ask, eid, port)
    except OSError as error:
        raise NoFlowDaemon(f"no way to {eid} without lispd: {error.strerror}") from None


def allocate(eid: IpAddress, ask: Ask, port: int) -> tuple[DirectConnection, dict[str, Any], socket.socket]:
    """Open a flow to `port` of `eid`. Raises FlowError."""
    connection = connect(eid, ask, port)
    try:
        fields, one = connection.open()
    except BaseException:
        connection.close()
        raise
    return connection, fields, one


def _own_address(eid: IpAddress) -> IpAddress:
    """The source address that the kernel chooses for an EID. Raises OSError."""
    with socket.socket(sockets.family_of(eid), socket.SOCK_DGRAM) as probe:
        probe.connect((str(eid), 9))
        return ip_address(str(probe.getsockname()[0]).partition("%")[0])


def _error(failed: AllocationFailed) -> FlowError:
    reason = reason_word(failed.reason_code) if failed.failure is Failure.REFUSED else failed.failure.value
    return from_reply({"code": failed.failure.value, "message": failed.why, "reason": reason})

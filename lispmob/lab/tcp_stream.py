"""Process: an end of a TCP stream whose octets are known in advance; and the class that starts both ends.

The client sends a pattern at a fixed pace, the server checks it and sends it back, the client checks it again. So a
stream that survives a move has lost or changed no octet in either direction. The client also records how long nothing
arrived, and how long nothing was acknowledged while data was outstanding.
"""

from __future__ import annotations

import json
import select
import socket
import sys
import time
from dataclasses import asdict, dataclass, field
from random import Random
from typing import Any, Final

from lispmob.closing import Closing
from lispmob.lab.probe import Party
from lispmob.lab.process import Tool
from lispmob.lab.tcp_clock import Acked, TcpClock

_PERIOD: Final = 65_521
"""Octets after which the pattern repeats: a prime, so that the loss of any power of two of octets is noticed."""
_PATTERN: Final = Random(_PERIOD).randbytes(_PERIOD) * 2  # the same at both ends; no part is like another
_CHUNK: Final = 16_384
_PACE_S: Final = 0.02
_LOOK_S: Final = 0.005  # ours: how often to ask the kernel what is acknowledged
_LAST_OCTETS_S: Final = 8.0  # ours: how long the last octets may take to come back: a few retransmissions
_WINDOW: Final = 262_144  # ours: the client waits while so many octets have not been echoed


def pattern(offset: int, size: int) -> bytes:
    """`size` octets of the pattern from `offset` on; at most one period."""
    start = offset % _PERIOD
    return _PATTERN[start : start + size]


@dataclass(frozen=True, slots=True)
class StreamPlan:
    """The role of a process: `is_server` listens on `local`, the client connects to `remote`."""

    is_server: bool
    local: str
    remote: str
    port: int
    pace_s: float = _PACE_S


@dataclass(slots=True)
class Checked:
    """What has arrived so far."""

    octets: int = 0
    is_intact: bool = True
    longest_stall_s: float = 0.0
    stalled_at: float = 0.0  # CLOCK_MONOTONIC seconds, when the longest stall began
    _last_at: float = 0.0

    def take(self, data: bytes, now: float) -> None:
        """Octets arrived at `now`: compare them with the pattern, and record the silence before them."""
        if self._last_at and now - self._last_at > self.longest_stall_s:
            self.longest_stall_s, self.stalled_at = now - self._last_at, self._last_at
        self._last_at = now
        self.is_intact &= data == pattern(self.octets, len(data))
        self.octets += len(data)


@dataclass(frozen=True, slots=True)
class StreamResult:
    """The result of a stream, as its client saw it."""

    sent: int
    returned: int
    is_intact: bool
    is_complete: bool
    longest_stall_s: float
    stalled_at: float
    error: str
    longest_tcp_gap_s: float = 0.0
    tcp_gaps: list[tuple[float, float]] = field(default_factory=list)  # (began at, seconds), the longer gaps

    @property
    def is_alive(self) -> bool:
        """Everything came back unchanged, over the first connection."""
        return self.is_intact and self.is_complete and not self.error and self.sent > 0


class TcpStream(Closing):
    """A stream between two parties, from its creation until `finish`."""

    def __init__(self, client: Party, server: Party, *, port: int = 47_001, pace_s: float = _PACE_S) -> None:
        """Raises ProcessFailed when an end cannot start or the connection cannot be made."""
        self._tools: list[Tool] = []
        try:
            for party, other, is_server in ((server, client, True), (client, server, False)):
                plan = StreamPlan(is_server, str(party.address), str(other.address), port, pace_s)
                self._tools.append(Tool(party.namespace, "lispmob.lab.tcp_stream", asdict(plan)))
        except BaseException:
            self.close()
            raise

    def finish(self) -> StreamResult:
        """Wait for the last octets, and close both ends."""
        server, client = self._tools
        result = StreamResult(**client.finish())
        server.kill()
        return result

    def close(self) -> None:
        """Kill both ends. Idempotent."""
        for tool in self._tools:
            tool.kill()


def _serve(plan: StreamPlan) -> None:
    """Check and echo one connection; close it at the first octet that does not match the pattern."""
    with socket.create_server((plan.local, plan.port), family=_family(plan.local)) as listener:
        print("ready", flush=True)
        ready, _, _ = select.select([listener, sys.stdin], [], [])
        if sys.stdin in ready:
            return
        connection, _ = listener.accept()
    checked = Checked()
    with connection:
        while data := connection.recv(_CHUNK):
            checked.take(data, time.monotonic())
            if not checked.is_intact:
                return
            connection.sendall(data)


class _Client:
    def __init__(self, connection: socket.socket, pace_s: float) -> None:
        self._connection = connection
        self._pace_s = pace_s
        self._octets = max(1, int(_CHUNK // 4 * pace_s / _PACE_S))
        self._checked = Checked()
        self._clock = TcpClock()
        self._sent = 0
        self._error = ""

    def run(self) -> StreamResult:
        """Send at the pace until standard input ends, then wait for the rest of the echo."""
        stop_at: float | None = None
        next_at = time.monotonic()
        while not self._error and (stop_at is None or (self._outstanding and time.monotonic() < stop_at)):
            watched: list[Any] = [self._connection] if stop_at is not None else [self._connection, sys.stdin]
            pause = self._pace_s if stop_at is not None else max(0.0, next_at - time.monotonic())
            ready, _, _ = select.select(watched, [], [], min(pause, _LOOK_S))
            self._clock.take(Acked.of(self._connection), time.monotonic())
            if sys.stdin in ready:
                stop_at = time.monotonic() + _LAST_OCTETS_S
            if self._connection in ready:
                self._receive()
            if stop_at is None and time.monotonic() >= next_at:
                self._send()
                next_at = time.monotonic() + self._pace_s
        seen = self._checked
        self._clock.end(time.monotonic())
        return StreamResult(
            self._sent,
            seen.octets,
            seen.is_intact,
            not self._outstanding,
            seen.longest_stall_s,
            seen.stalled_at,
            self._error,
            self._clock.longest_s,
            self._clock.gaps,
        )

    @property
    def _outstanding(self) -> int:
        return self._sent - self._checked.octets

    def _send(self) -> None:
        if self._outstanding > _WINDOW:
            return
        try:
            self._sent += self._connection.send(pattern(self._sent, self._octets))
        except BlockingIOError:
            return
        except OSError as problem:
            self._error = str(problem)

    def _receive(self) -> None:
        try:
            data = self._connection.recv(_CHUNK)
        except BlockingIOError:
            return
        except OSError as problem:
            self._error = str(problem)
            return
        if not data:
            self._error = "the other end closed the connection"
        self._checked.take(data, time.monotonic())


def _connect(plan: StreamPlan) -> None:
    with socket.socket(_family(plan.local), socket.SOCK_STREAM) as connection:
        connection.bind((plan.local, 0))
        connection.settimeout(8.0)
        connection.connect((plan.remote, plan.port))
        connection.setblocking(False)
        print("ready", flush=True)
        print(json.dumps(asdict(_Client(connection, plan.pace_s).run())))


def _family(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def main() -> None:
    plan = StreamPlan(**json.loads(sys.argv[1]))
    if plan.is_server:
        _serve(plan)
    else:
        _connect(plan)


if __name__ == "__main__":
    main()

"""Process: an end of a probe stream; and the class that starts both ends.

`python -m lispmob.lab.probe PLAN` sends numbered packets at a fixed rate and records those that arrive, until its
standard input ends; then it prints its records. A probe, network byte order:

     0                   8                  16
    +-------------------+-------------------+
    |  sequence (u64)   | sent at, ns (u64) |   CLOCK_MONOTONIC, the same clock in all namespaces
    +-------------------+-------------------+
"""

from __future__ import annotations

import gc
import json
import select
import socket
import struct
import sys
import time
from dataclasses import asdict, dataclass
from typing import Any, Final

from lispmob.closing import Closing
from lispmob.lab.kernel_time import SO_TIMESTAMPNS_NEW, stamped_at
from lispmob.lab.link import IpAddress
from lispmob.lab.namespace import Namespace
from lispmob.lab.packet_log import PacketLog
from lispmob.lab.process import Tool

_PROBE: Final = struct.Struct("!QQ")
_CATCH_UP: Final = 5  # ours: after a stall of the machine at most so many late packets are sent in a burst
_LAST_ARRIVALS_S: Final = 1.0  # ours: how long a stream waits for arrivals after its last packet


@dataclass(frozen=True, slots=True)
class EndPlan:
    """The plan of an end: its address, the other end's address, and the rate."""

    local: str
    remote: str
    port: int
    rate_hz: float


class End:
    """An end of a stream, in the process that runs it."""

    def __init__(self, plan: EndPlan) -> None:
        family = socket.AF_INET6 if ":" in plan.local else socket.AF_INET
        self._socket = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self._socket.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS_NEW, 1)
        self._socket.bind((plan.local, plan.port))
        self._remote = (plan.remote, plan.port)
        self._interval_s = 1 / plan.rate_hz
        self._sent: list[tuple[int, float]] = []
        self._received: list[tuple[int, float]] = []
        self._refused = 0

    def run(self) -> dict[str, Any]:
        """Wait for the start, send and record until standard input ends, and record for a moment more."""
        control = sys.stdin.fileno()
        sys.stdin.readline()  # the other end listens now
        next_at = time.monotonic()
        stop_at: float | None = None
        while stop_at is None or time.monotonic() < stop_at:
            wake_at = next_at if stop_at is None else stop_at
            watched: list[Any] = [self._socket] if stop_at is not None else [self._socket, control]
            ready, _, _ = select.select(watched, [], [], max(0.0, wake_at - time.monotonic()))
            if self._socket in ready:
                self._receive()
            if control in ready:
                if not sys.stdin.readline():
                    stop_at = time.monotonic() + _LAST_ARRIVALS_S
                    continue
                print(json.dumps({"sent": len(self._sent), "received": len(self._received)}), flush=True)
            now = time.monotonic()
            if stop_at is None and now >= next_at:
                self._send(now)
                next_at = max(next_at + self._interval_s, now - _CATCH_UP * self._interval_s)
        return {"sent": self._sent, "received": self._received, "refused": self._refused}

    def close(self) -> None:
        self._socket.close()

    def _send(self, now: float) -> None:
        sequence = len(self._sent)
        self._sent.append((sequence, now))
        try:
            self._socket.sendto(_PROBE.pack(sequence, int(now * 1e9)), self._remote)
        except OSError:  # it was due and was not sent: lost, as any other
            self._refused += 1

    def _receive(self) -> None:
        while True:
            try:
                data, ancillary, _, _ = self._socket.recvmsg(2048, 64)
            except BlockingIOError:
                return
            except OSError:  # an ICMP error about an earlier packet
                continue
            arrived_at = stamped_at(ancillary)
            if len(data) == _PROBE.size and arrived_at is not None:
                self._received.append((_PROBE.unpack(data)[0], arrived_at))


@dataclass(frozen=True, slots=True)
class Party:
    """A namespace and an address in it."""

    namespace: Namespace
    address: IpAddress


class ProbeStream(Closing):
    """Probes in both directions between two parties, from its creation until `finish`."""

    def __init__(self, a: Party, b: Party, *, rate_hz: float = 100.0, port: int = 47_000) -> None:
        """Raises ProcessFailed when an end cannot start."""
        self._tools: list[Tool] = []
        try:
            for own, other in ((a, b), (b, a)):
                plan = EndPlan(str(own.address), str(other.address), port, rate_hz)
                self._tools.append(Tool(own.namespace, "lispmob.lab.probe", asdict(plan)))
            for tool in self._tools:
                tool.tell()
        except BaseException:
            self.close()
            raise

    def received(self) -> tuple[int, int]:
        """How many packets a and b have received so far."""
        a, b = (tool.ask()["received"] for tool in self._tools)
        return a, b

    def finish(self) -> tuple[PacketLog, PacketLog]:
        """End both ends; returns the packets of a to b, and of b to a."""
        for tool in self._tools:  # both stop sending before either stops listening
            tool.end_input()
        a, b = [tool.finish() for tool in self._tools]
        return PacketLog.of(a["sent"], b["received"]), PacketLog.of(b["sent"], a["received"])

    def close(self) -> None:
        """Kill both ends. Idempotent."""
        for tool in self._tools:
            tool.kill()


def main() -> None:
    end = End(EndPlan(**json.loads(sys.argv[1])))
    gc.freeze()
    print("ready", flush=True)
    try:
        print(json.dumps(end.run()))
    finally:
        end.close()


if __name__ == "__main__":
    main()

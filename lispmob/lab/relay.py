"""Process: lines between pairs of interfaces of its namespace, frame by frame, with delay and loss.

`python -m lispmob.lab.relay PLAN` opens the lines of PLAN (JSON), prints "ready", then answers each line of its
standard input with a line of output. It ends with its standard input, so that no relay outlives its laboratory.

Frames keep their virtio_net header (PACKET_VNET_HDR): a veth passes segmentation super-frames and checksums that are
still to be computed, and without the header TCP at the other side would receive corrupt segments.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import select
import socket
import struct
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from random import Random
from typing import Any, Final

from lispmob.lab.line import Impairment, Line

_SOL_PACKET: Final = 263  # linux/socket.h, linux/if_packet.h
_PACKET_VNET_HDR: Final = 15
_PACKET_IGNORE_OUTGOING: Final = 23
_ETH_P_ALL: Final = 3
_SO_TIMESTAMPNS_NEW: Final = 64  # asm-generic/socket.h: 64-bit seconds and nanoseconds on every architecture
_TIMESPEC: Final = struct.Struct("=qq")
_LARGEST_FRAME_BYTES: Final = 10 + 22 + 65_536  # virtio_net_hdr, Ethernet with tags, the largest super-frame
_RECEIVE_BUFFER_BYTES: Final = 8 << 20
_BURST: Final = 64  # ours: frames read from one side before the others and the timers have their turn
_LONGEST_WAIT_S: Final = 1.0
_SLEEP_MIN_S: Final = 0.00003  # ours: poll for shorter times, because select() would return later than that


@dataclass(frozen=True, slots=True)
class LinePlan:
    """A line: its name and the two interfaces that it joins."""

    name: str
    left: str
    right: str
    impairment: Impairment


class Direction:
    """From one socket to another through a Line."""

    def __init__(self, source: socket.socket, sink: socket.socket, line: Line) -> None:
        self.source = source
        self.line = line
        self._sink = sink

    def read(self, buffer: bytearray, clock_offset_ns: int) -> None:
        """Read frames into the line; the offset is CLOCK_MONOTONIC minus CLOCK_REALTIME, nanoseconds."""
        view = memoryview(buffer)
        for _ in range(_BURST):
            try:
                size, ancillary, _, _ = self.source.recvmsg_into([buffer], 64)
            except BlockingIOError:
                return
            except OSError:  # the interface is down; it may come up again
                return
            self.line.take(bytes(view[:size]), _arrived_at(ancillary, clock_offset_ns))

    def write(self, now: float) -> None:
        for frame in self.line.release(now):
            try:
                self._sink.send(frame)
            except OSError:
                self.line.counters.refused += 1
            else:
                self.line.counters.passed += 1


def _arrived_at(ancillary: list[tuple[int, int, bytes]], clock_offset_ns: int) -> float:
    """The kernel's time of arrival on the monotonic clock, so that a late read does not lengthen the line."""
    for level, kind, data in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, _SO_TIMESTAMPNS_NEW):
            seconds, nanoseconds = _TIMESPEC.unpack(data)
            return float(seconds * 1_000_000_000 + nanoseconds + clock_offset_ns) / 1e9
    return time.monotonic()


def _open(interface: str) -> socket.socket:
    # Protocol 0 until it is bound; otherwise the socket would queue frames of every interface.
    side = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, 0)
    side.setsockopt(_SOL_PACKET, _PACKET_VNET_HDR, 1)
    side.setsockopt(_SOL_PACKET, _PACKET_IGNORE_OUTGOING, 1)
    side.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS_NEW, 1)
    with contextlib.suppress(PermissionError):
        side.setsockopt(socket.SOL_SOCKET, 33, _RECEIVE_BUFFER_BYTES)  # SO_RCVBUFFORCE
    side.bind((interface, _ETH_P_ALL))
    return side


class Relay:
    """All lines of a process, and the loop that serves them."""

    def __init__(self, plans: Sequence[LinePlan], seed: int) -> None:
        random = Random(seed)
        self._sockets: list[socket.socket] = []
        self._lines: dict[str, tuple[Direction, Direction]] = {}
        for plan in plans:
            left, right = _open(plan.left), _open(plan.right)
            self._sockets += [left, right]
            # A generator for each direction: traffic on one line does not change the losses of another.
            there, back = (Line(plan.impairment, Random(random.getrandbits(64))) for _ in range(2))
            self._lines[plan.name] = Direction(left, right, there), Direction(right, left, back)
        self._by_socket = {way.source: way for pair in self._lines.values() for way in pair}

    def run(self) -> None:
        """Serve until standard input ends."""
        control = sys.stdin.fileno()
        os.set_blocking(control, False)
        buffer, request = bytearray(_LARGEST_FRAME_BYTES), b""
        watched: list[Any] = [*self._by_socket, control]
        while True:
            ready, _, _ = select.select(watched, [], [], self._patience())
            real_ns = time.time_ns()  # read first: a pause between the two calls makes frames late, not early
            clock_offset_ns = time.monotonic_ns() - real_ns
            for source in ready:
                if source == control:
                    if not (data := os.read(control, 65_536)):
                        return
                    *lines, request = (request + data).split(b"\n")
                    for line in lines:
                        print(json.dumps(self._answer(json.loads(line))), flush=True)
                else:
                    self._by_socket[source].read(buffer, clock_offset_ns)
            now = time.monotonic()
            for way in self._by_socket.values():
                way.write(now)

    def close(self) -> None:
        for side in self._sockets:
            side.close()

    def _patience(self) -> float:
        times = [at for way in self._by_socket.values() if (at := way.line.wake_at()) is not None]
        left = min(times) - time.monotonic() if times else _LONGEST_WAIT_S
        return min(left, _LONGEST_WAIT_S) if left >= _SLEEP_MIN_S else 0.0

    def _answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """The counters of every line; first changes the line `name` to `impairment` if the request says so."""
        if "name" in request:
            for way in self._lines[request["name"]]:
                way.line.impairment = Impairment(**request["impairment"])
        return {name: [asdict(way.line.counters) for way in pair] for name, pair in self._lines.items()}


def main() -> None:
    plan = json.loads(sys.argv[1])
    lines = [LinePlan(p["name"], p["left"], p["right"], Impairment(**p["impairment"])) for p in plan["lines"]]
    with contextlib.suppress(PermissionError, OSError):
        os.nice(-15)  # delay is what we measure: a busy machine must not add to it
    relay = Relay(lines, plan["seed"])
    gc.freeze()
    print("ready", flush=True)
    try:
        relay.run()
    except KeyboardInterrupt:
        pass
    finally:
        relay.close()


if __name__ == "__main__":
    main()

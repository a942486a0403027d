"""How long a TCP connection stalled, by the kernel's count of acknowledged octets.

An application sees a stall only through its buffers, and a ping measures other packets. The stall of a stream is the
time in which data was outstanding and nothing new was acknowledged.
"""

from __future__ import annotations

import socket
import struct
from dataclasses import dataclass
from typing import Final

NOTED_S: Final = 0.1  # shorter gaps are usual
GAPS_MAX: Final = 1000
_UNACKED: Final = struct.Struct("@24xI")  # linux/tcp.h, struct tcp_info: segments outstanding
_BYTES_ACKED: Final = struct.Struct("@120xQ")


@dataclass(frozen=True, slots=True)
class Acked:
    """What the kernel reports about a connection."""

    outstanding: int  # segments
    octets: int  # acknowledged so far

    @classmethod
    def of(cls, connection: socket.socket) -> Acked:
        """Ask the kernel (TCP_INFO). Raises OSError."""
        info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256)
        return cls(_UNACKED.unpack_from(info)[0], _BYTES_ACKED.unpack_from(info)[0])


class TcpClock:
    """The gaps of a connection. Times are CLOCK_MONOTONIC seconds."""

    def __init__(self) -> None:
        self.gaps: list[tuple[float, float]] = []  # (when it began, seconds), those of NOTED_S and more
        self.longest_s = 0.0
        self._octets = 0
        self._moved_at: float | None = None  # None: nothing is outstanding

    def take(self, seen: Acked, now: float) -> None:
        """Process the kernel's report at `now`. A gap ends when its end is observed."""
        has_moved = seen.octets > self._octets
        self._octets = seen.octets
        if self._moved_at is not None and (has_moved or not seen.outstanding):
            self._note(self._moved_at, now - self._moved_at)
            self._moved_at = None
        if seen.outstanding and self._moved_at is None:
            self._moved_at = now

    def end(self, now: float) -> None:
        """The connection has ended: count a stall that is still going on."""
        if self._moved_at is not None:
            self._note(self._moved_at, now - self._moved_at)
            self._moved_at = None

    def _note(self, began_at: float, gap_s: float) -> None:
        self.longest_s = max(self.longest_s, gap_s)
        if gap_s >= NOTED_S and len(self.gaps) < GAPS_MAX:
            self.gaps.append((began_at, gap_s))

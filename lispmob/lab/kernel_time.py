"""Times at which the kernel sent or received packets, on the clock of `time.monotonic`."""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Callable, Iterable
from typing import Final

SO_TIMESTAMPNS_NEW: Final = 64  # asm-generic/socket.h
_TIMESPEC: Final = struct.Struct("=qq")
_TRIES: Final = 5
_CLOSE_S: Final = 20e-6  # ours: a reading of both clocks in less than this was not interrupted


def stamped_at(
    ancillary: Iterable[tuple[int, int, bytes]], read: Callable[[int], float] = time.clock_gettime
) -> float | None:
    """When the kernel had the packet, in monotonic seconds; None without a timestamp in `ancillary`."""
    for level, kind, stamp in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, SO_TIMESTAMPNS_NEW):
            seconds, nanoseconds = _TIMESPEC.unpack(stamp)
            return float(seconds + nanoseconds / 1e9 - _offset(read))
    return None


def _offset(read: Callable[[int], float]) -> float:
    """Seconds from the monotonic to the real-time clock. A thread may lose the interpreter between two readings."""
    best_s, offset = float("inf"), 0.0
    for _ in range(_TRIES):
        before, real, after = read(time.CLOCK_MONOTONIC), read(time.CLOCK_REALTIME), read(time.CLOCK_MONOTONIC)
        if after - before < best_s:
            best_s, offset = after - before, real - (before + after) / 2
        if best_s < _CLOSE_S:
            break
    return offset

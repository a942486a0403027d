"""Timestamps of the kernel on the monotonic clock, though the thread loses the interpreter between two readings."""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Callable, Iterator

import pytest

from lispmob.lab.kernel_time import SO_TIMESTAMPNS_NEW, stamped_at

REAL_AHEAD_S = 1_000_000.0


def stamp(real_s: float) -> list[tuple[int, int, bytes]]:
    seconds, rest = divmod(real_s, 1)
    return [(socket.SOL_SOCKET, SO_TIMESTAMPNS_NEW, struct.pack("=qq", int(seconds), round(rest * 1e9)))]


def clocks(waits_s: Iterator[float]) -> Callable[[int], float]:
    """Both clocks, each of whose readings takes as long as `waits_s` says."""
    now = [50.0]

    def read(clock: int) -> float:
        now[0] += next(waits_s)
        return now[0] + (REAL_AHEAD_S if clock == time.CLOCK_REALTIME else 0.0)

    return read


@pytest.mark.parametrize(
    "waits_s",
    [
        [1e-6] * 3,
        [1e-6, 0.005, 1e-6, *[1e-6] * 3],  # another thread ran between the first two readings
        [1e-6, 1e-6, 0.005, *[1e-6] * 3],
        [*[1e-6, 0.005, 0.003] * 4, *[1e-6] * 3],  # and again and again, but for the last try
    ],
)
def test_a_timestamp_is_right_to_a_hundredth_of_a_millisecond_whatever_runs_in_between(waits_s: list[float]) -> None:
    at = stamped_at(stamp(REAL_AHEAD_S + 49.0), clocks(iter(waits_s)))

    assert at == pytest.approx(49.0, abs=1e-5)


def test_a_packet_without_a_timestamp_has_no_time() -> None:
    assert stamped_at([(socket.SOL_SOCKET, socket.SO_RCVBUF, b"")]) is None

"""Statistics of numbered packets: loss, order, duplicates, gaps, by direction as far as known. Pure.

A gap is the time between consecutive arrivals: of questions by the server's clock, of answers by ours. The server
counts the questions that arrive. So the losses up to the last answered packet can be divided into losses on the way
there and losses on the way back; those after it cannot.
"""

from __future__ import annotations

import math
from array import array
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Final

import msgspec

COUNT_LIMIT: Final = 1_000_000  # ours: each takes 40 octets of memory
RUN_LIMIT: Final = 100  # ours: the most runs of losses that are listed
BUCKETS_MS: Final = (10, 20, 50, 100, 200, 500, 1000, 2000, 5000)
"""Upper bounds of the histogram of gaps; the last bucket has none."""


class LostRun(msgspec.Struct, frozen=True):
    """Consecutive lost packets, from number `first` on.

    `duration_s`: from the packet before them to the packet after them.
    """

    first: int
    count: int
    duration_s: float


class Gaps(msgspec.Struct, frozen=True):
    """The gaps of one direction. `longest_after`: the number of the packet before the longest gap; -1 without a gap."""

    longest_s: float
    longest_after: int
    histogram: tuple[int, ...]


class RoundTrips(msgspec.Struct, frozen=True):
    """Round trips, seconds."""

    least_s: float
    median_s: float
    p95_s: float
    most_s: float


class Result(msgspec.Struct, frozen=True):
    """The result of a session.

    `lost_there`, `lost_back`: how many of `lost` are known to be lost in that direction. `refused` by this host's
    kernel; they are included in `lost`.
    """

    sent: int
    answered: int
    lost: int
    lost_there: int
    lost_back: int
    refused: int
    duplicates: int
    out_of_order: int
    strangers: int
    round_trips: RoundTrips | None
    gaps_there: Gaps
    gaps_back: Gaps
    runs: tuple[LostRun, ...]


class Tally:
    """The records of a session; `now` is our monotonic clock, seconds."""

    def __init__(self) -> None:
        self._sent_at = array("d")
        self._answered_at = array("d")  # NaN: no answer yet
        self._server_ns = array("Q")
        self._order = array("L")  # the packets' numbers, in the order of their answers
        self._highest = -1
        self._arrivals = 0
        self.refused = 0
        self.duplicates = 0
        self.out_of_order = 0
        self.strangers = 0

    @property
    def sent(self) -> int:
        """The number of packets sent."""
        return len(self._sent_at)

    @property
    def answered(self) -> int:
        """The number of packets answered."""
        return len(self._order)

    @property
    def is_full(self) -> bool:
        """True when no more may be sent."""
        return self.sent >= COUNT_LIMIT

    def on_sent(self, now: float) -> int:
        """Record a packet that is sent; returns its number, from 0."""
        self._sent_at.append(now)
        self._answered_at.append(math.nan)
        self._server_ns.append(0)
        return self.sent - 1

    def on_refused(self) -> None:
        """The kernel refused the last packet."""
        self.refused += 1

    def on_answer(self, sequence: int, arrivals: int, server_ns: int, now: float) -> float | None:
        """Record an answer of our session; returns its round trip in seconds.

        Returns None for a duplicate, and for a number that we did not send.
        """
        if not 0 <= sequence < self.sent:
            self.strangers += 1
            return None
        if not math.isnan(self._answered_at[sequence]):
            self.duplicates += 1
            return None
        if sequence < self._highest:
            self.out_of_order += 1
        self._highest = max(self._highest, sequence)
        self._arrivals = max(self._arrivals, arrivals)
        self._answered_at[sequence] = now
        self._server_ns[sequence] = server_ns
        self._order.append(sequence)
        return now - self._sent_at[sequence]

    def sent_at(self, sequence: int) -> float:
        """When a packet was sent."""
        return self._sent_at[sequence]

    def is_lost(self, sequence: int) -> bool:
        """True when a packet has no answer."""
        return math.isnan(self._answered_at[sequence])

    def result(self) -> Result:
        """The statistics so far."""
        lost = self.sent - self.answered
        lost_before = self._highest + 1 - self.answered
        # The server also counts duplicates; each hides a loss.
        lost_there = min(max(0, self._highest + 1 - self._arrivals), lost_before) if self._arrivals else 0
        return Result(
            self.sent,
            self.answered,
            lost,
            lost_there,
            lost_before - lost_there if self._arrivals else 0,
            self.refused,
            self.duplicates,
            self.out_of_order,
            self.strangers,
            _round_trips([self._answered_at[number] - self._sent_at[number] for number in self._order]),
            self._gaps_there(),
            _gaps([(self._answered_at[number], number) for number in self._order]),
            tuple(self._runs()),
        )

    def _gaps_there(self) -> Gaps:
        return _gaps(
            sorted((self._server_ns[number] / 1e9, number) for number in self._order if self._server_ns[number])
        )

    def _runs(self) -> list[LostRun]:
        runs: list[LostRun] = []
        first = None
        for sequence in range(self.sent + 1):
            is_lost = sequence < self.sent and self.is_lost(sequence)
            if is_lost and first is None:
                first = sequence
            elif not is_lost and first is not None:
                began = self._sent_at[max(first - 1, 0)]
                ended = self._sent_at[min(sequence, self.sent - 1)]
                runs.append(LostRun(first, sequence - first, ended - began))
                first = None
        return runs[:RUN_LIMIT]


def _gaps(arrivals: Sequence[tuple[float, int]]) -> Gaps:
    """`arrivals`: (time, packet's number), in the order of arrival."""
    histogram = [0] * (len(BUCKETS_MS) + 1)
    longest_s, longest_after = 0.0, -1
    for (before, number), (after, _) in pairwise(arrivals):
        gap_s = after - before
        histogram[bisect_left(BUCKETS_MS, gap_s * 1000)] += 1
        if gap_s > longest_s:
            longest_s, longest_after = gap_s, number
    return Gaps(longest_s, longest_after, tuple(histogram))


def _round_trips(seconds: Iterable[float]) -> RoundTrips | None:
    ordered = sorted(seconds)
    if not ordered:
        return None
    last = len(ordered) - 1
    return RoundTrips(ordered[0], ordered[last // 2], ordered[math.ceil(last * 0.95)], ordered[last])

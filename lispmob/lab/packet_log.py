"""Losses, gaps and silences of a probe stream. Pure; seconds of CLOCK_MONOTONIC."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final

STEADY_RUN: Final = 10
"""Consecutive packets that must arrive before a direction counts as open again; a single packet does not show it."""


@dataclass(frozen=True, slots=True)
class Packet:
    """A probe: when it was sent, and when it arrived, or None."""

    sent_at: float
    arrived_at: float | None = None

    @property
    def delay_s(self) -> float | None:
        return None if self.arrived_at is None else self.arrived_at - self.sent_at


@dataclass(frozen=True, slots=True)
class PacketLog:
    """The probes of one direction, in the order of sending."""

    packets: tuple[Packet, ...]
    duplicates: int = 0
    _sent_times: tuple[float, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_sent_times", tuple(packet.sent_at for packet in self.packets))

    @classmethod
    def of(cls, sent: Sequence[tuple[int, float]], received: Sequence[tuple[int, float]]) -> PacketLog:
        """Join the sender's (sequence, sent at) with the receiver's (sequence, arrived at); first arrivals count."""
        arrivals: dict[int, float] = {}
        for sequence, arrived_at in received:
            arrivals[sequence] = min(arrived_at, arrivals.get(sequence, arrived_at))
        ordered = sorted(sent, key=lambda one: (one[1], one[0]))
        packets = tuple(Packet(sent_at, arrivals.get(sequence)) for sequence, sent_at in ordered)
        return cls(packets, len(received) - len(arrivals))

    def between(self, start: float, end: float) -> tuple[Packet, ...]:
        """The packets sent in [start, end)."""
        return self.packets[bisect_left(self._sent_times, start) : bisect_left(self._sent_times, end)]

    def lost(self, start: float, end: float) -> int:
        """How many of the packets sent in [start, end) never arrived."""
        return sum(packet.arrived_at is None for packet in self.between(start, end))

    def reopened_at(self, sent_after: float, arrived_after: float) -> float | None:
        """When the first packet arrived after which none was lost; None if fewer than STEADY_RUN packets follow.

        Only packets sent at `sent_after` or later and arrived at `arrived_after` or later count. This excludes packets
        that had passed the break before.
        """
        steady: list[float] = []
        for packet in self.packets[bisect_left(self._sent_times, sent_after) :]:
            if packet.arrived_at is None:
                steady = []
            elif packet.arrived_at >= arrived_after:
                steady.append(packet.arrived_at)
        return min(steady) if len(steady) >= STEADY_RUN else None

    def longest_silence(self, start: float, end: float) -> float:
        """The longest time within [start, end] without an arrival, seconds."""
        inside = sorted(
            packet.arrived_at
            for packet in self.packets
            if packet.arrived_at is not None and start <= packet.arrived_at <= end
        )
        marks = [start, *inside, end]
        return max(after - before for before, after in pairwise(marks))

    def arrival_gaps(self) -> list[tuple[float, float]]:
        """(arrived at, seconds since the arrival before), in the order of arrival."""
        times = sorted(packet.arrived_at for packet in self.packets if packet.arrived_at is not None)
        return [(after, after - before) for before, after in pairwise(times)]

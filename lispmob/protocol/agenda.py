"""Deadlines of many items: setting and taking costs O(log n), reading the next one is free. Pure.

A heap of times, in which only the last time set for an item counts. A stale time is skipped when it reaches the top.
When more than half are stale, all of them are removed.
"""

from __future__ import annotations

import heapq
from collections.abc import Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)

SPARE = 64  # ours: fewer stale times are not worth a clean-up


class Agenda(Generic[K]):
    """Items with one deadline each, in monotonic seconds."""

    def __init__(self) -> None:
        self._times: dict[K, tuple[float, int]] = {}
        self._heap: list[tuple[float, int, K]] = []
        self._sequence = 0

    def __len__(self) -> int:
        return len(self._times)

    @property
    def entries(self) -> int:
        """The size of the heap, stale times included."""
        return len(self._heap)

    def get(self, thing: K) -> float | None:
        """The deadline of an item; None if it has none."""
        known = self._times.get(thing)
        return None if known is None else known[0]

    def set(self, thing: K, at: float | None) -> None:
        """Replace the deadline of an item; None removes it."""
        if at is None:
            self._times.pop(thing, None)
        elif self.get(thing) != at:
            self._sequence += 1
            self._times[thing] = (at, self._sequence)
            heapq.heappush(self._heap, (at, self._sequence, thing))
        if len(self._heap) > 2 * len(self._times) + SPARE:
            self._heap = [(at, sequence, thing) for thing, (at, sequence) in self._times.items()]
            heapq.heapify(self._heap)

    def first(self) -> float | None:
        """The earliest deadline."""
        while self._heap:
            at, sequence, thing = self._heap[0]
            if self._times.get(thing) == (at, sequence):
                return at
            heapq.heappop(self._heap)
        return None

    def due(self, now: float, limit: int | None = None) -> list[K]:
        """Take out the items that are due, oldest first, at most `limit`."""
        found: list[K] = []
        while (at := self.first()) is not None and at <= now and len(found) != limit:
            thing = heapq.heappop(self._heap)[2]
            del self._times[thing]
            found.append(thing)
        return found

    def clear(self) -> None:
        """Remove all deadlines."""
        self._times.clear()
        self._heap.clear()

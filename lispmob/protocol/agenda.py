"""When which of many things is due: setting and taking costs O(log n), asking for the next one nothing. Pure.

A heap of times, in which only the last time that was set for a thing counts: an older one is passed over when it comes
to the top, and thrown out with all of its kind once they are more than half.
"""

from __future__ import annotations

import heapq
from collections.abc import Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)

SPARE = 64  # ours: so many stale times are not worth a clean-up


class Agenda(Generic[K]):
    """Things with a time each, in monotonic seconds."""

    def __init__(self) -> None:
        self._times: dict[K, tuple[float, int]] = {}
        self._heap: list[tuple[float, int, K]] = []
        self._sequence = 0

    def __len__(self) -> int:
        return len(self._times)

    @property
    def entries(self) -> int:
        """How much the heap holds, stale times included."""
        return len(self._heap)

    def get(self, thing: K) -> float | None:
        """When it is due; None: not at all."""
        known = self._times.get(thing)
        return None if known is None else known[0]

    def set(self, thing: K, at: float | None) -> None:
        """It is due then, and not when it was said before; None: not at all."""
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
        """When the first of them is due."""
        while self._heap:
            at, sequence, thing = self._heap[0]
            if self._times.get(thing) == (at, sequence):
                return at
            heapq.heappop(self._heap)
        return None

    def due(self, now: float, limit: int | None = None) -> list[K]:
        """Those that are due, the oldest first, at most `limit` of them; they are no longer here then."""
        found: list[K] = []
        while (at := self.first()) is not None and at <= now and len(found) != limit:
            thing = heapq.heappop(self._heap)[2]
            del self._times[thing]
            found.append(thing)
        return found

    def clear(self) -> None:
        """Nothing is due any more."""
        self._times.clear()
        self._heap.clear()

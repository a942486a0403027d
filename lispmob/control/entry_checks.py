"""When to look at which entry of the map-cache. Pure.

A heap of times, in which an entry that was given an earlier time, or is gone, leaves a stale one behind. Stale ones are
thrown out when they are about as many as the others. With 200,000 times in one heap that takes a fifth of a second, and
a program that repeats its mappings brings it about again and again: a large heap is therefore many small ones.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from typing import Final, Generic, Protocol, TypeAlias, TypeVar

from lispmob.wire.address import EidPrefix

LARGE: Final = 4096  # ours: times in one heap, which are distributed in a millisecond
PARTS: Final = 16
SPARE: Final = 64  # ours: so many stale times are not worth a clean-up


class Entry(Protocol):
    """What is known here of an entry."""

    prefix: EidPrefix

    @property
    def is_gone(self) -> bool:
        """True when it is out of the map-cache."""


E = TypeVar("E", bound=Entry)
_Check: TypeAlias = tuple[float, int, E]  # when to look, sequence, entry


class EntryChecks(Generic[E]):
    """Entries with a time each, in monotonic seconds; of several times of one entry the earliest counts."""

    def __init__(self) -> None:
        self._heaps: list[list[_Check[E]]] = [[]]
        self._bounds = [SPARE]  # of each heap: how long it grows before it is cleaned up
        self._sequence = 0

    def __len__(self) -> int:
        """How many times there are, stale ones included."""
        return sum(map(len, self._heaps))

    def add(self, at: float, entry: E) -> None:
        """Look at it then."""
        self._sequence += 1
        self._put((at, self._sequence, entry))
        if len(self._heaps) == 1 and len(self._heaps[0]) > LARGE:
            former, self._heaps, self._bounds = self._heaps[0], [[] for _ in range(PARTS)], [SPARE] * PARTS
            for check in former:
                self._put(check)

    def first(self) -> float | None:
        """When the next look is due."""
        return min((heap[0][0] for heap in self._live()), default=None)

    def pop_due(self, now: float) -> E | None:
        """The entry whose look is due the longest; it has no time then, or a later one."""
        heap = min(self._live(), key=lambda heap: heap[0], default=None)
        return None if heap is None or heap[0][0] > now else heapq.heappop(heap)[2]

    def _put(self, check: _Check[E]) -> None:
        place = hash(check[2].prefix) % len(self._heaps)
        heap = self._heaps[place]
        heapq.heappush(heap, check)
        if len(heap) > self._bounds[place]:
            latest = {id(check[2]): check for check in sorted(heap, reverse=True)}  # the soonest one wins
            heap[:] = [check for check in latest.values() if not check[2].is_gone]
            heapq.heapify(heap)
            self._bounds[place] = 2 * len(heap) + SPARE

    def _live(self) -> Iterator[list[_Check[E]]]:
        """The heaps that hold something, each with a time on top that is not of an entry that is gone."""
        for heap in self._heaps:
            while heap and heap[0][2].is_gone:
                heapq.heappop(heap)
            if heap:
                yield heap

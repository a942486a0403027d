"""When each entry of the map-cache is to be checked. Pure.

A heap of times. An entry that got an earlier time, or is gone, leaves a stale time behind; stale times are removed once
they are about half. With 200,000 times in one heap that takes a fifth of a second, and a program that repeats its
mappings causes it again and again: so a large heap is split into many small ones.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from typing import Final, Generic, Protocol, TypeAlias, TypeVar

from lispmob.wire.address import EidPrefix

LARGE: Final = 4096  # ours: times in one heap; splitting that many takes milliseconds
PARTS: Final = 16
SPARE: Final = 64  # ours: fewer stale times are not worth a clean-up


class Entry(Protocol):
    """The part of an entry that matters here."""

    prefix: EidPrefix

    @property
    def is_gone(self) -> bool:
        """True when it has left the map-cache."""


E = TypeVar("E", bound=Entry)
_Check: TypeAlias = tuple[float, int, E]  # when to check, sequence, entry


class EntryChecks(Generic[E]):
    """Entries with one time each, in monotonic seconds; of several times of an entry the earliest counts."""

    def __init__(self) -> None:
        self._heaps: list[list[_Check[E]]] = [[]]
        self._bounds = [SPARE]  # of each heap: the size at which it is cleaned up
        self._sequence = 0

    def __len__(self) -> int:
        """How many times it holds, stale ones included."""
        return sum(map(len, self._heaps))

    def add(self, at: float, entry: E) -> None:
        """Check the entry at this time."""
        self._sequence += 1
        self._put((at, self._sequence, entry))
        if len(self._heaps) == 1 and len(self._heaps[0]) > LARGE:
            former, self._heaps, self._bounds = self._heaps[0], [[] for _ in range(PARTS)], [SPARE] * PARTS
            for check in former:
                self._put(check)

    def first(self) -> float | None:
        """The time of the next check."""
        return min((heap[0][0] for heap in self._live()), default=None)

    def pop_due(self, now: float) -> E | None:
        """The entry whose check has been due longest. It has no time afterwards, or a later one."""
        heap = min(self._live(), key=lambda heap: heap[0], default=None)
        return None if heap is None or heap[0][0] > now else heapq.heappop(heap)[2]

    def _put(self, check: _Check[E]) -> None:
        place = hash(check[2].prefix) % len(self._heaps)
        heap = self._heaps[place]
        heapq.heappush(heap, check)
        if len(heap) > self._bounds[place]:
            latest = {id(check[2]): check for check in sorted(heap, reverse=True)}  # the earliest time of an entry wins
            heap[:] = [check for check in latest.values() if not check[2].is_gone]
            heapq.heapify(heap)
            self._bounds[place] = 2 * len(heap) + SPARE

    def _live(self) -> Iterator[list[_Check[E]]]:
        """The non-empty heaps, after removing entries that are gone from their tops."""
        for heap in self._heaps:
            while heap and heap[0][2].is_gone:
                heapq.heappop(heap)
            if heap:
                yield heap

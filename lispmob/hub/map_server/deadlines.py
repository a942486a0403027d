"""When registrations may have run out: a set for each quarter of a second. Pure.

A registration stands in one set, and a refresh does not move it: when its turn comes, it is looked at, and put where it
belongs by then. So a refresh costs nothing here, and a registration one place in a set.
"""

from __future__ import annotations

import heapq
from collections.abc import Hashable
from typing import Final, Generic, TypeVar

T = TypeVar("T", bound=Hashable)

PER_S: Final = 4  # ours: sets a second; so late a registration may end


class Deadlines(Generic[T]):
    """Things to be looked at, by time in monotonic seconds."""

    def __init__(self) -> None:
        self._sets: dict[int, tuple[int, set[T]]] = {}
        self._order: list[int] = []  # a heap of the sets that there are, or were

    def __len__(self) -> int:
        return sum(len(things) for _, things in self._sets.values())

    @staticmethod
    def number(at: float) -> int:
        """Of the set that a time belongs to: no set is looked at too early."""
        return -int(-at * PER_S // 1)

    def add(self, thing: T, at: float) -> int:
        """It is to be looked at then; the number of its set, which grows with time."""
        number = self.number(at)
        known = self._sets.get(number)
        if known is None:
            known = self._sets[number] = (number, set())
            heapq.heappush(self._order, number)
        known[1].add(thing)
        return known[0]  # the same number for all of the set: a million copies would take 32 MB

    def discard(self, thing: T, number: int | None) -> None:
        """It stands in this set no more; None: it stood in none."""
        if number is not None and number in self._sets:
            self._sets[number][1].discard(thing)

    def first(self) -> float | None:
        """When the next ones are due."""
        while self._order and not self._sets[self._order[0]][1]:
            del self._sets[heapq.heappop(self._order)]
        return self._order[0] / PER_S if self._order else None

    def due(self, now: float, limit: int) -> list[tuple[int, T]]:
        """Some of those that are due, each with the number of its set; they are no longer here then."""
        found: list[tuple[int, T]] = []
        while self._order and self._order[0] <= now * PER_S and len(found) < limit:
            number, things = self._sets[self._order[0]]
            while things and len(found) < limit:
                found.append((number, things.pop()))
            if not things:
                del self._sets[heapq.heappop(self._order)]
        return found

"""When registrations may expire: one set for each quarter of a second. Pure.

A registration is in one set, and a refresh does not move it: when its time comes, it is checked, and moved to its
present set. So a refresh is free here, and a registration costs one place in a set.
"""

from __future__ import annotations

import heapq
from collections.abc import Hashable
from typing import Final, Generic, TypeVar

T = TypeVar("T", bound=Hashable)

PER_S: Final = 4  # ours: sets a second; how late a registration may expire


class Deadlines(Generic[T]):
    """Items to be checked, by time in monotonic seconds."""

    def __init__(self) -> None:
        self._sets: dict[int, tuple[int, set[T]]] = {}
        self._order: list[int] = []  # a heap of the present and former sets

    def __len__(self) -> int:
        return sum(len(things) for _, things in self._sets.values())

    @staticmethod
    def number(at: float) -> int:
        """The number of the set for a time: no set is checked too early."""
        return -int(-at * PER_S // 1)

    def add(self, thing: T, at: float) -> int:
        """Add an item to be checked then; returns the number of its set, which grows with time."""
        number = self.number(at)
        known = self._sets.get(number)
        if known is None:
            known = self._sets[number] = (number, set())
            heapq.heappush(self._order, number)
        known[1].add(thing)
        return known[0]  # one object for all of the set: a million copies would take 32 MB

    def discard(self, thing: T, number: int | None) -> None:
        """Remove an item from this set; None: it was in none."""
        if number is not None and number in self._sets:
            self._sets[number][1].discard(thing)

    def first(self) -> float | None:
        """When the next ones are due."""
        while self._order and not self._sets[self._order[0]][1]:
            del self._sets[heapq.heappop(self._order)]
        return self._order[0] / PER_S if self._order else None

    def due(self, now: float, limit: int) -> list[tuple[int, T]]:
        """Remove and return some items that are due, each with the number of its set."""
        found: list[tuple[int, T]] = []
        while self._order and self._order[0] <= now * PER_S and len(found) < limit:
            number, things = self._sets[self._order[0]]
            while things and len(found) < limit:
                found.append((number, things.pop()))
            if not things:
                del self._sets[heapq.heappop(self._order)]
        return found

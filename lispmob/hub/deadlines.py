"""When what runs out: one time per key, the next one always at hand (a heap with lazy deletion). Pure.

Setting, dropping and taking cost O(log n), and asking for the next one nothing. A time that was replaced stays in the
heap until it comes up, or until half of the heap is such leftovers: then it is built anew.
"""

from __future__ import annotations

from collections.abc import Hashable
from heapq import heapify, heappop, heappush
from typing import Final, Generic, TypeVar

K = TypeVar("K", bound=Hashable)

SLACK: Final = 64  # ours: leftovers that are no reason to build the heap anew


class Deadlines(Generic[K]):
    """A map from key to a time in monotonic seconds, searchable by time."""

    def __init__(self) -> None:
        self._at: dict[K, float] = {}
        self._heap: list[tuple[float, int, K]] = []
        self._pushes = 0

    def __len__(self) -> int:
        return len(self._at)

    def __contains__(self, key: object) -> bool:
        return key in self._at

    @property
    def entries(self) -> int:
        """How much the heap holds, leftovers included."""
        return len(self._heap)

    def get(self, key: K) -> float | None:
        """The time of this key."""
        return self._at.get(key)

    def set(self, key: K, at: float) -> None:
        """This key is due at this time, whatever was said before."""
        if self._at.get(key) == at:
            return
        self._at[key] = at
        self._pushes += 1
        heappush(self._heap, (at, self._pushes, key))
        self._tidy()

    def drop(self, key: K) -> None:
        """This key is never due; no error when it was not."""
        if self._at.pop(key, None) is not None:
            self._tidy()

    def next_at(self) -> float | None:
        """The earliest time; None without any."""
        while self._heap:
            at, _, key = self._heap[0]
            if self._at.get(key) == at:
                return at
            heappop(self._heap)
        return None

    def take_due(self, now: float) -> list[K]:
        """Take out every key whose time has come, the earliest first."""
        due: list[K] = []
        while (at := self.next_at()) is not None and at <= now:
            _, _, key = heappop(self._heap)
            del self._at[key]
            due.append(key)
        return due

    def _tidy(self) -> None:
        if len(self._heap) > 2 * len(self._at) + SLACK:
            self._heap = [(at, number, key) for number, (key, at) in enumerate(self._at.items())]
            self._pushes = len(self._heap)
            heapify(self._heap)

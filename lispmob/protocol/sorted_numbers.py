"""A sorted set of a million numbers or more, in which an insertion moves some hundreds of them at most. Pure.

The numbers stand in sorted runs, and the runs in order. A run that is too long is split in two, and an empty one is
removed. So besides, only the list of runs moves, which has about a thousand entries.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from typing import Final

RUN: Final = 1024  # ours: numbers in a run, at most


class SortedNumbers:
    """A sorted set of numbers, in runs of at most `longest`."""

    __slots__ = ("_firsts", "_longest", "_runs")

    def __init__(self, longest: int = RUN) -> None:
        self._longest = longest
        self._runs: list[list[int]] = []
        self._firsts: list[int] = []  # the first number of each run

    def add(self, number: int) -> None:
        """Add a number that is not in the set."""
        if not self._runs:
            self._runs.append([number])
            self._firsts.append(number)
            return
        at = max(bisect_right(self._firsts, number) - 1, 0)
        run = self._runs[at]
        insort(run, number)
        self._firsts[at] = run[0]
        if len(run) > self._longest:
            # Addresses are often assigned in ascending order: an uneven split keeps runs full then.
            keep = self._longest * 7 // 8 if number == run[-1] else self._longest // 2
            rest = run[keep:]
            del run[keep:]
            self._runs.insert(at + 1, rest)
            self._firsts.insert(at + 1, rest[0])

    def remove(self, number: int) -> None:
        """Remove a number that is in the set."""
        at = bisect_right(self._firsts, number) - 1
        run = self._runs[at]
        del run[bisect_left(run, number)]
        if run:
            self._firsts[at] = run[0]
        else:
            del self._runs[at], self._firsts[at]

    def between(self, first: int, beyond: int, limit: int | None = None) -> list[int]:
        """The numbers from `first` to below `beyond`, in order, at most `limit`."""
        found: list[int] = []
        at = max(bisect_right(self._firsts, first) - 1, 0)
        while at < len(self._runs) and self._firsts[at] < beyond:
            run = self._runs[at]
            start = bisect_left(run, first)
            end = bisect_left(run, beyond, lo=start)
            if limit is not None:
                end = min(end, start + limit - len(found))
            found += run[start:end]
            if limit is not None and len(found) >= limit:
                break
            at += 1
        return found

    def before(self, number: int) -> int | None:
        """The largest smaller number."""
        at = bisect_left(self._firsts, number) - 1
        if at < 0:
            return None
        run = self._runs[at]
        return run[bisect_left(run, number) - 1]

    def after(self, number: int) -> int | None:
        """The smallest larger number."""
        at = max(bisect_right(self._firsts, number) - 1, 0)
        for run in self._runs[at : at + 2]:
            place = bisect_right(run, number)
            if place < len(run):
                return run[place]
        return None

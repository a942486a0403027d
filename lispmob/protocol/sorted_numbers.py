"""Numbers in order, up to a million or more: what is added or removed moves some hundreds of them at most. Pure.

The numbers stand in runs, each sorted, and the runs in order. A run that has grown too long is cut in two, and one that
is empty goes, so that a list of a thousand runs is the longest that is ever moved besides.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from typing import Final

RUN: Final = 1024  # ours: numbers in a run, at most


class SortedNumbers:
    """A set of numbers that knows its order, in runs of at most `longest`."""

    __slots__ = ("_firsts", "_longest", "_runs")

    def __init__(self, longest: int = RUN) -> None:
        self._longest = longest
        self._runs: list[list[int]] = []
        self._firsts: list[int] = []  # of each run; no number is before it

    def add(self, number: int) -> None:
        """Put a number in that is not there yet."""
        if not self._runs:
            self._runs.append([number])
            self._firsts.append(number)
            return
        at = max(bisect_right(self._firsts, number) - 1, 0)
        run = self._runs[at]
        insort(run, number)
        self._firsts[at] = run[0]
        if len(run) > self._longest:
            # Addresses are often given out in ascending order: then runs stay full.
            keep = self._longest * 7 // 8 if number == run[-1] else self._longest // 2
            rest = run[keep:]
            del run[keep:]
            self._runs.insert(at + 1, rest)
            self._firsts.insert(at + 1, rest[0])

    def remove(self, number: int) -> None:
        """Take a number out that is there."""
        at = bisect_right(self._firsts, number) - 1
        run = self._runs[at]
        del run[bisect_left(run, number)]
        if run:
            self._firsts[at] = run[0]
        else:
            del self._runs[at], self._firsts[at]

    def between(self, first: int, beyond: int, limit: int | None = None) -> list[int]:
        """The numbers from `first` on and below `beyond`, in order, at most `limit` of them."""
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
        """The largest that is smaller."""
        at = bisect_left(self._firsts, number) - 1
        if at < 0:
            return None
        run = self._runs[at]
        return run[bisect_left(run, number) - 1]

    def after(self, number: int) -> int | None:
        """The smallest that is larger."""
        at = max(bisect_right(self._firsts, number) - 1, 0)
        for run in self._runs[at : at + 2]:
            place = bisect_right(run, number)
            if place < len(run):
                return run[place]
        return None

"""Things in the order of their last use, up to a million, none of whose steps takes long. Pure.

One OrderedDict of 100,000 takes 6 ms when it outgrows its memory, and one of 200,000 takes 16. So the order is many of
them, each of a few thousand, the least recently used first; a thing that is used again moves to the last one.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Hashable, Iterator
from typing import Final, Generic, TypeAlias, TypeVar

from lispmob.protocol.split_dict import AnyDict, grown

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")
_Run: TypeAlias = "OrderedDict[K, V]"

RUN: Final = 4096  # ours: things in one of them; it grows in a fraction of a millisecond


class Recency(Generic[K, V]):
    """Keys with values, in the order in which `use` was last called for them. `longest`: of one run."""

    __slots__ = ("_longest", "_runs", "_where")

    def __init__(self, longest: int = RUN) -> None:
        self._longest = longest
        self._runs: deque[_Run[K, V]] = deque()
        self._where: AnyDict[K, _Run[K, V]] = {}

    def __len__(self) -> int:
        return len(self._where)

    def __contains__(self, key: object) -> bool:
        return key in self._where

    def use(self, key: K, value: V) -> None:
        """Put it at the end, from wherever it is."""
        run = self._where.get(key)
        if run is not None:
            if run is self._runs[-1]:
                run[key] = value
                run.move_to_end(key)
                return
            del run[key]
        if not self._runs or len(self._runs[-1]) >= self._longest:
            self._runs = deque(filter(None, self._runs))  # those that everybody has left go
            self._runs.append(OrderedDict())
        self._runs[-1][key] = value
        self._where[key] = self._runs[-1]
        self._where = grown(self._where)

    def pop(self, key: K) -> V | None:
        """Take it out; None when it is not here."""
        run = self._where.pop(key, None)
        return None if run is None else run.pop(key)

    def oldest(self) -> Iterator[tuple[K, V]]:
        """From the least recently used on. Nothing may be used or taken out meanwhile."""
        for run in self._runs:
            yield from run.items()

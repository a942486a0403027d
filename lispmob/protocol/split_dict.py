"""A dictionary for a million entries that is never copied as a whole. Pure.

A dict that outgrows its memory is copied, which takes 60 ms for a million entries. So a large one consists of many
small ones, chosen by the key's hash. A small one stays a plain dict, which is faster: `grown` decides when to split.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator
from itertools import chain
from typing import Final, Generic, TypeAlias, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

LARGE: Final = 4096  # ours: moving so many entries into parts takes a millisecond; several tables may grow at once
PARTS: Final = 64  # ours, a power of two: a million entries are parts of 16,384


class SplitDict(Generic[K, V]):
    """The dictionary methods that tables need."""

    __slots__ = ("_parts",)

    def __init__(self, entries: Iterable[tuple[K, V]] = ()) -> None:
        self._parts: list[dict[K, V]] = [{} for _ in range(PARTS)]
        for key, value in entries:
            self[key] = value

    def __len__(self) -> int:
        return sum(map(len, self._parts))

    def __bool__(self) -> bool:
        return any(self._parts)

    def __contains__(self, key: object) -> bool:
        return key in self._parts[hash(key) % PARTS]

    def __getitem__(self, key: K) -> V:
        return self._parts[hash(key) % PARTS][key]

    def __setitem__(self, key: K, value: V) -> None:
        self._parts[hash(key) % PARTS][key] = value

    def __delitem__(self, key: K) -> None:
        del self._parts[hash(key) % PARTS][key]

    def get(self, key: K) -> V | None:
        """The value of a key; None when it is not here."""
        return self._parts[hash(key) % PARTS].get(key)

    def pop(self, key: K, default: None) -> V | None:
        """Remove a key and return its value; the default if it was not there."""
        return self._parts[hash(key) % PARTS].pop(key, default)

    @property
    def parts(self) -> list[dict[K, V]]:
        """The dictionaries that it consists of."""
        return list(self._parts)

    def values(self) -> Iterator[V]:
        """All values, in no particular order."""
        return chain.from_iterable(part.values() for part in self._parts)


AnyDict: TypeAlias = dict[K, V] | SplitDict[K, V]


def parts(table: AnyDict[K, V]) -> list[dict[K, V]]:
    """The plain dictionaries that a table consists of, to be read one after the other."""
    return [table] if isinstance(table, dict) else table.parts


def grown(table: AnyDict[K, V]) -> AnyDict[K, V]:
    """The same table, split once it is large."""
    return SplitDict(table.items()) if isinstance(table, dict) and len(table) > LARGE else table

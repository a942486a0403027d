"""The places of authenticated nodes, with counts: queries cost O(1). Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable
from typing import Generic, TypeVar

from lispmob.protocol.split_dict import AnyDict, grown

K = TypeVar("K", bound=Hashable)
P = TypeVar("P", bound=Hashable)


class PlaceIndex(Generic[K, P]):
    """The places of every key, searchable by place."""

    def __init__(self) -> None:
        self._of: dict[K, frozenset[P]] = {}
        self._count: Counter[P] = Counter()

    def __contains__(self, place: object) -> bool:
        return place in self._count

    def set(self, key: K, places: Iterable[P]) -> None:
        """Replace the places of this key."""
        before, after = self._of.get(key, frozenset()), frozenset(places)
        for place in before - after:
            self._count[place] -= 1
            if not self._count[place]:
                del self._count[place]
        self._count.update(after - before)
        if after:
            self._of[key] = after
        else:
            self._of.pop(key, None)


class AddressCount:
    """Counts the registrations at each address, stored as a number, because there are as many as registrations."""

    def __init__(self) -> None:
        self._count: AnyDict[int, int] = {}

    def __contains__(self, number: object) -> bool:
        return number in self._count

    def add(self, numbers: Iterable[int]) -> None:
        """Count one more registration at these addresses."""
        for number in numbers:
            self._count[number] = (self._count.get(number) or 0) + 1
        self._count = grown(self._count)

    def remove(self, numbers: Iterable[int]) -> None:
        """A registration has left these addresses."""
        for number in numbers:
            left = self._count[number] - 1
            if left:
                self._count[number] = left
            else:
                del self._count[number]

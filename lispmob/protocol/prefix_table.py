"""Longest-prefix match per Instance-ID, for IPv4 and IPv6.

One dictionary per mask length in use, tried from the longest: a lookup costs as many dictionary probes as there are
different lengths (rarely more than five), whatever the number of prefixes.
"""

from __future__ import annotations

import heapq
from bisect import insort
from collections.abc import Iterable, Iterator
from itertools import islice
from operator import itemgetter
from typing import Generic, TypeVar

from lispmob.protocol.sorted_numbers import SortedNumbers
from lispmob.protocol.split_dict import AnyDict, grown, parts
from lispmob.wire.address import EidPrefix, IpAddress

T = TypeVar("T")
_second = itemgetter(1)


class _Space(Generic[T]):
    """The prefixes of one Instance-ID and family."""

    __slots__ = ("by_length", "lengths", "sorted", "width")

    def __init__(self, width: int) -> None:
        self.width = width
        self.by_length: dict[int, AnyDict[int, tuple[EidPrefix, T]]] = {}
        self.lengths: list[int] = []  # in use, longest first
        self.sorted: dict[int, SortedNumbers] = {}  # by length, the prefixes as numbers

    def following(self, last: tuple[int, int] | None, limit: int) -> Iterator[tuple[int, int]]:
        """(Address number, mask length) in order, after `last`; at most `limit` of each length."""
        return heapq.merge(*(self._of_length(mask_len, last, limit) for mask_len in self.lengths))

    def _of_length(self, mask_len: int, last: tuple[int, int] | None, limit: int) -> Iterator[tuple[int, int]]:
        shift, first = self.width - mask_len, 0
        if last is not None:
            number, length = last
            # A prefix with the same address comes after `last` if it is narrower; a wider one came before.
            first = -(-number >> shift) if mask_len > length else (number >> shift) + 1
        return ((number << shift, mask_len) for number in self.sorted[mask_len].between(first, 1 << self.width, limit))


class PrefixTable(Generic[T]):
    """A map from EID-Prefix to a value, searchable by address."""

    def __init__(self) -> None:
        self._spaces: dict[tuple[int, int], _Space[T]] = {}
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __contains__(self, prefix: object) -> bool:
        return isinstance(prefix, EidPrefix) and self.get(prefix) is not None

    def __iter__(self) -> Iterator[tuple[EidPrefix, T]]:
        """Every (prefix, value), in no particular order."""
        for space in self._spaces.values():
            for bucket in space.by_length.values():
                yield from bucket.values()

    def buckets(self) -> Iterator[list[T]]:
        """All values, in lists of at most some ten thousand. Each list is copied when it is requested: in milliseconds.

        The table may change meanwhile. Entries added or removed then may or may not be in a list; all others are.
        """
        tables = [bucket for space in self._spaces.values() for bucket in space.by_length.values()]
        for part in [part for table in tables for part in parts(table)]:
            yield list(map(_second, part.values()))

    def get(self, prefix: EidPrefix) -> T | None:
        """The value of exactly this prefix."""
        space = self._spaces.get((prefix.instance_id, prefix.family))
        bucket = space.by_length.get(prefix.mask_len) if space else None
        if space is None or bucket is None:
            return None
        found = bucket.get(prefix.number >> (space.width - prefix.mask_len))
        return found[1] if found else None

    def insert(self, prefix: EidPrefix, value: T) -> None:
        """Add or replace the value of a prefix."""
        key = (prefix.instance_id, prefix.family)
        space = self._spaces.get(key)
        if space is None:
            space = self._spaces[key] = _Space(prefix.width)
        bucket = space.by_length.get(prefix.mask_len)
        if bucket is None:
            bucket = space.by_length[prefix.mask_len] = {}
            space.sorted[prefix.mask_len] = SortedNumbers()
            insort(space.lengths, prefix.mask_len, key=lambda length: -length)
        shift = space.width - prefix.mask_len
        number = prefix.number >> shift if shift else prefix.number  # use a host's own number, without a copy
        if number not in bucket:
            self._count += 1
            space.sorted[prefix.mask_len].add(number)
            space.by_length[prefix.mask_len] = bucket = grown(bucket)
        bucket[number] = (prefix, value)

    def remove(self, prefix: EidPrefix) -> T | None:
        """Remove a prefix. Returns its value, or None if it was not there."""
        key = (prefix.instance_id, prefix.family)
        space = self._spaces.get(key)
        bucket = space.by_length.get(prefix.mask_len) if space else None
        if space is None or bucket is None:
            return None
        number = prefix.number >> (space.width - prefix.mask_len)
        found = bucket.pop(number, None)
        if found is not None:
            space.sorted[prefix.mask_len].remove(number)
        if not bucket:
            del space.by_length[prefix.mask_len], space.sorted[prefix.mask_len]
            space.lengths.remove(prefix.mask_len)
            if not space.lengths:
                del self._spaces[key]
        if found is None:
            return None
        self._count -= 1
        return found[1]

    def lookup(self, address: IpAddress, instance_id: int = 0) -> tuple[EidPrefix, T] | None:
        """The longest prefix that holds the address, with its value."""
        space = self._spaces.get((instance_id, address.version))
        if space is None:
            return None
        number = int(address)
        for length in space.lengths:
            found = space.by_length[length].get(number >> (space.width - length))
            if found is not None:
                return found
        return None

    def covering(self, prefix: EidPrefix) -> list[tuple[EidPrefix, T]]:
        """Every prefix that is `prefix` or less specific than it, longest first."""
        space = self._spaces.get((prefix.instance_id, prefix.family))
        if space is None:
            return []
        number = prefix.number
        fitting = [length for length in space.lengths if length <= prefix.mask_len]
        found = (space.by_length[length].get(number >> (space.width - length)) for length in fitting)
        return [entry for entry in found if entry is not None]

    def covered(self, prefix: EidPrefix) -> list[tuple[EidPrefix, T]]:
        """Every prefix strictly more specific than `prefix`. Costs a search per mask length, and a step per result."""
        space = self._spaces.get((prefix.instance_id, prefix.family))
        if space is None:
            return []
        head = prefix.number >> (space.width - prefix.mask_len)
        found: list[tuple[EidPrefix, T]] = []
        for length in space.lengths:
            if length <= prefix.mask_len:
                break
            bucket, wider = space.by_length[length], length - prefix.mask_len
            found += [bucket[number] for number in space.sorted[length].between(head << wider, head + 1 << wider)]
        return found

    def following(self, last: EidPrefix | None, limit: int) -> list[tuple[EidPrefix, T]]:
        """At most `limit` prefixes after `last`, with their values; None: from the start. The table may change between
        calls.

        Ordered by family, Instance-ID and address, wider prefixes first. Costs a search for each mask length, and a
        step for each result.
        """
        start = (0, 0) if last is None else (last.family, last.instance_id)
        found: list[tuple[EidPrefix, T]] = []
        for family, instance_id in sorted((family, instance_id) for instance_id, family in self._spaces):
            if (family, instance_id) < start or len(found) >= limit:
                continue
            space = self._spaces[instance_id, family]
            behind = (last.number, last.mask_len) if last is not None and (family, instance_id) == start else None
            for number, mask_len in islice(space.following(behind, limit), limit - len(found)):
                found.append(space.by_length[mask_len][number >> (space.width - mask_len)])
        return found


def widest_hole(address: IpAddress, within: EidPrefix, taken: Iterable[EidPrefix]) -> EidPrefix:
    """The widest prefix in `within` that holds the address and overlaps none of `taken`. None of those holds it."""
    width, number = address.max_prefixlen, int(address)
    mask_len = within.mask_len
    for prefix in taken:
        common = width - (number ^ prefix.number).bit_length()
        mask_len = max(mask_len, common + 1)
    return EidPrefix.make(address, mask_len, within.instance_id)

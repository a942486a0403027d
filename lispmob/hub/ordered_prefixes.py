"""A prefix table that knows its order too: what lies below a prefix, and the gaps between prefixes, in O(log n). Pure.

The prefixes of one Instance-ID and family are kept sorted by their first address, then by their length. What a prefix
covers is then one run of the list. Of all prefixes that do not hold an address, those next to it share the most leading
bits with it, so they alone decide how wide the gap around it is.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from typing import TypeVar

from lispmob.control.prefix_table import PrefixTable
from lispmob.wire.address import EidPrefix, IpAddress

T = TypeVar("T")

_Place = tuple[int, int]  # first address, mask length


class OrderedPrefixTable(PrefixTable[T]):
    """A PrefixTable whose questions about more specific prefixes cost no walk."""

    def __init__(self) -> None:
        super().__init__()
        self._order: dict[tuple[int, int], list[_Place]] = {}  # by Instance-ID and family

    def insert(self, prefix: EidPrefix, value: T) -> None:
        """Add or replace the value of a prefix."""
        if prefix not in self:
            insort(self._order.setdefault((prefix.instance_id, prefix.family), []), _place(prefix))
        super().insert(prefix, value)

    def remove(self, prefix: EidPrefix) -> T | None:
        """Take a prefix out; its value, or None when it was not there."""
        if prefix in self:
            key = (prefix.instance_id, prefix.family)
            places = self._order[key]
            del places[bisect_left(places, _place(prefix))]
            if not places:
                del self._order[key]
        return super().remove(prefix)

    def covered(self, prefix: EidPrefix, limit: int | None = None) -> list[tuple[EidPrefix, T]]:
        """The prefixes strictly more specific than `prefix`, at most `limit` of them, in the order of addresses."""
        places = self._order.get((prefix.instance_id, prefix.family), [])
        first, width = int(prefix.address), prefix.network.max_prefixlen
        start = bisect_right(places, (first, prefix.mask_len))
        end = bisect_left(places, (first + (1 << (width - prefix.mask_len)), 0))
        if limit is not None:
            end = min(end, start + limit)
        found: list[tuple[EidPrefix, T]] = []
        for number, mask_len in places[start:end]:
            below = EidPrefix.make(_address(prefix.address, number), mask_len, prefix.instance_id)
            value = self.get(below)
            if value is not None:
                found.append((below, value))
        return found

    def gap(self, address: IpAddress, within: EidPrefix) -> EidPrefix:
        """The widest prefix in `within` that holds the address, and overlaps no prefix here that does not hold it."""
        places = self._order.get((within.instance_id, within.family), [])
        width, number = address.max_prefixlen, int(address)
        mask_len = within.mask_len
        after = bisect_right(places, (number, width))
        before = after - 1
        while before >= 0 and _holds(places[before], number, width):
            before -= 1  # as many as prefixes can be nested, at most
        for neighbour in (before, after):
            if 0 <= neighbour < len(places):
                common = width - (number ^ places[neighbour][0]).bit_length()
                mask_len = max(mask_len, common + 1)
        return EidPrefix.make(address, mask_len, within.instance_id)


def _place(prefix: EidPrefix) -> _Place:
    return int(prefix.address), prefix.mask_len


def _holds(place: _Place, number: int, width: int) -> bool:
    first, mask_len = place
    return (first ^ number) >> (width - mask_len) == 0


def _address(like: IpAddress, number: int) -> IpAddress:
    return type(like)(number)

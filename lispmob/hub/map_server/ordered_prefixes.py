"""A prefix table with ordered queries: the prefixes below a prefix, and the gaps between prefixes. Pure.

Of all prefixes of one length that do not hold an address, those next to it share the most leading bits with it, so they
alone decide how wide the gap around it is. Every query costs a search or two for each length in use.
"""

from __future__ import annotations

from collections.abc import Iterator
from heapq import merge
from itertools import islice
from typing import TypeVar

from lispmob.protocol.prefix_table import PrefixTable
from lispmob.wire.address import EidPrefix, IpAddress

T = TypeVar("T")


class OrderedPrefixTable(PrefixTable[T]):
    """A PrefixTable in which queries for more specific prefixes need no walk."""

    def covered(self, prefix: EidPrefix, limit: int | None = None) -> list[tuple[EidPrefix, T]]:
        """The prefixes strictly more specific than `prefix`, at most `limit` of them, in the order of addresses."""
        space = self._spaces.get((prefix.instance_id, prefix.family))
        if space is None:
            return []
        width, head = space.width, prefix.number >> (space.width - prefix.mask_len)
        places: list[list[tuple[int, int]]] = []  # first address and mask length; by length
        for length in space.lengths:
            if length <= prefix.mask_len:
                break
            wider = length - prefix.mask_len
            numbers = space.sorted[length].between(head << wider, head + 1 << wider, limit)
            places.append([(number << (width - length), length) for number in numbers])
        found = (
            space.by_length[length][number >> (width - length)] for number, length in islice(merge(*places), limit)
        )
        return list(found)

    def gap(self, address: IpAddress, within: EidPrefix) -> EidPrefix:
        """The widest prefix in `within` that holds the address, and overlaps no prefix here that does not hold it."""
        space = self._spaces.get((within.instance_id, within.family))
        number, mask_len = int(address), within.mask_len
        for length in space.lengths if space is not None else ():
            assert space is not None
            own = number >> (space.width - length)
            for neighbour in (space.sorted[length].before(own), space.sorted[length].after(own)):
                if neighbour is not None:
                    common = length - (own ^ neighbour).bit_length()
                    mask_len = max(mask_len, common + 1)
        return EidPrefix.make(address, mask_len, within.instance_id)

    def slices(self, count: int) -> Iterator[list[T]]:
        """All values, `count` at a time. The table may change between two slices: what stays is visited once."""
        for key in list(self._spaces):
            for length in list(self._spaces[key].lengths) if key in self._spaces else ():
                first = 0
                while (space := self._spaces.get(key)) is not None and length in space.by_length:
                    numbers = space.sorted[length].between(first, 1 << length, count)
                    if not numbers:
                        break
                    yield [space.by_length[length][number][1] for number in numbers]
                    first = numbers[-1] + 1

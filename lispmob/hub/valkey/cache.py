"""What of a shared registry is known here to be current. Pure.

An EID-Prefix that was read, registered or not, stays known while every change of its bucket is heard: changes are
numbered, and a number that is missing makes all of the bucket unknown. Of what is read while a change is on its way
here, the higher number counts, in whatever order the two arrive.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from typing import Final

from lispmob.hub.valkey.keys import BUCKETS, bucket_of
from lispmob.wire.address import EidPrefix

REGISTERED_LIMIT: Final = 100_000
UNREGISTERED_LIMIT: Final = 20_000  # ours: whoever asks for all hosts of a site pushes out his own questions alone
_UNKNOWN: Final = -1


class Cache:
    """By EID-Prefix, the number of the last change that its state in memory includes."""

    def __init__(self, limit: int | None = REGISTERED_LIMIT) -> None:
        """`limit`: of registered EID-Prefixes; None for none."""
        self._limit = limit
        self._registered: OrderedDict[EidPrefix, int] = OrderedDict()
        self._unregistered: OrderedDict[EidPrefix, int] = OrderedDict()
        self._last: list[int] = [_UNKNOWN] * BUCKETS
        self._of_bucket: list[set[EidPrefix]] = [set() for _ in range(BUCKETS)]

    def __len__(self) -> int:
        return len(self._registered) + len(self._unregistered)

    def is_known(self, prefix: EidPrefix) -> bool:
        """True when what is in memory of it is current; it counts as used then."""
        for known in (self._registered, self._unregistered):
            if prefix in known:
                known.move_to_end(prefix)
                return True
        return False

    def unknown(self, prefixes: Iterable[EidPrefix]) -> list[EidPrefix]:
        """Those that have to be read."""
        return [prefix for prefix in prefixes if not self.is_known(prefix)]

    def on_read(self, prefix: EidPrefix, count: int, *, is_registered: bool) -> list[EidPrefix]:
        """It was read when its bucket had seen so many changes. Returns what there is no room for any more."""
        bucket = bucket_of(prefix)
        if self._last[bucket] == _UNKNOWN:
            self._last[bucket] = count
        self._put(prefix, count, is_registered=is_registered)
        self._of_bucket[bucket].add(prefix)
        evicted = []
        if self._limit is not None and len(self._registered) > self._limit:
            evicted.append(self._registered.popitem(last=False)[0])
        if len(self._unregistered) > UNREGISTERED_LIMIT:
            evicted.append(self._unregistered.popitem(last=False)[0])
        for gone in evicted:
            self._of_bucket[bucket_of(gone)].discard(gone)
        return evicted

    def is_newer(self, prefix: EidPrefix, count: int) -> bool:
        """True when a change with this number is not yet in what is known of an EID-Prefix."""
        known = self._registered.get(prefix, self._unregistered.get(prefix))
        return known is None or count > known

    def has(self, prefix: EidPrefix) -> bool:
        """True when it is known; that does not count as use."""
        return prefix in self._registered or prefix in self._unregistered

    def on_change(self, bucket: int, count: int) -> bool:
        """A change with this number was heard; False when others before it were not."""
        last = self._last[bucket]
        self._last[bucket] = max(last, count)
        return last == _UNKNOWN or count <= last + 1

    def last(self, bucket: int) -> int:
        """The number of the last change that was heard; -1: none yet."""
        return self._last[bucket]

    def drop(self, prefix: EidPrefix) -> None:
        """It is not known any more."""
        self._registered.pop(prefix, None)
        self._unregistered.pop(prefix, None)
        self._of_bucket[bucket_of(prefix)].discard(prefix)

    def drop_bucket(self, bucket: int) -> set[EidPrefix]:
        """Changes of the bucket were missed: nothing of it is known any more. Returns what was."""
        gone, self._of_bucket[bucket] = self._of_bucket[bucket], set()
        for prefix in gone:
            self._registered.pop(prefix, None)
            self._unregistered.pop(prefix, None)
        self._last[bucket] = _UNKNOWN
        return gone

    def _put(self, prefix: EidPrefix, count: int, *, is_registered: bool) -> None:
        here, there = self._registered, self._unregistered
        if not is_registered:
            here, there = there, here
        there.pop(prefix, None)
        here[prefix] = count
        here.move_to_end(prefix)

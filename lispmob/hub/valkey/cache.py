"""The parts of a shared registry that are current in memory. Pure.

An EID-Prefix that was read, registered or not, stays known while every change of its bucket is received: changes are
numbered, and a missing number makes the whole bucket unknown. If a read and a change cross, the higher number counts,
whichever arrives first.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from typing import Final

from lispmob.hub.valkey.keys import BUCKETS, bucket_of
from lispmob.wire.address import EidPrefix

REGISTERED_LIMIT: Final = 100_000
UNREGISTERED_LIMIT: Final = 20_000  # ours: a client that asks for all hosts of a site evicts only its own lookups
_UNKNOWN: Final = -1


class Cache:
    """For each EID-Prefix, the number of the last change included in its state in memory."""

    def __init__(self, limit: int | None = REGISTERED_LIMIT) -> None:
        """`limit`: of registered EID-Prefixes; None: no limit."""
        self._limit = limit
        self._registered: OrderedDict[EidPrefix, int] = OrderedDict()
        self._unregistered: OrderedDict[EidPrefix, int] = OrderedDict()
        self._last: list[int] = [_UNKNOWN] * BUCKETS
        self._of_bucket: list[set[EidPrefix]] = [set() for _ in range(BUCKETS)]

    def __len__(self) -> int:
        return len(self._registered) + len(self._unregistered)

    def is_known(self, prefix: EidPrefix) -> bool:
        """True when its state in memory is current; this counts as use."""
        for known in (self._registered, self._unregistered):
            if prefix in known:
                known.move_to_end(prefix)
                return True
        return False

    def unknown(self, prefixes: Iterable[EidPrefix]) -> list[EidPrefix]:
        """Those that have to be read."""
        return [prefix for prefix in prefixes if not self.is_known(prefix)]

    def on_read(self, prefix: EidPrefix, count: int, *, is_registered: bool) -> list[EidPrefix]:
        """It was read at this change number of its bucket. Returns evicted prefixes."""
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
        """True when a change with this number is not yet included in the state of an EID-Prefix."""
        known = self._registered.get(prefix, self._unregistered.get(prefix))
        return known is None or count > known

    def has(self, prefix: EidPrefix) -> bool:
        """True when it is known; does not count as use."""
        return prefix in self._registered or prefix in self._unregistered

    def on_change(self, bucket: int, count: int) -> bool:
        """A change with this number was received; False if earlier ones were missed."""
        last = self._last[bucket]
        self._last[bucket] = max(last, count)
        return last == _UNKNOWN or count <= last + 1

    def last(self, bucket: int) -> int:
        """The number of the last received change; -1: none yet."""
        return self._last[bucket]

    def drop(self, prefix: EidPrefix) -> None:
        """It is unknown from now on."""
        self._registered.pop(prefix, None)
        self._unregistered.pop(prefix, None)
        self._of_bucket[bucket_of(prefix)].discard(prefix)

    def drop_bucket(self, bucket: int) -> set[EidPrefix]:
        """Changes of the bucket were missed: all of it is unknown. Returns what was known."""
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

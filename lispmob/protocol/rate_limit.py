"""Token buckets: how often something may happen, in total or per key, with bounded memory.

Each bucket is one number: the time at which it will be full again (the "theoretical arrival time" of GCRA). Taking a
token adds one interval to it. A token is available while it is less than a whole burst ahead of now.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

from lispmob.wire.address import IpAddress

K = TypeVar("K", bound=Hashable)

_ROUNDING = 1e-6  # ours: no float holds most intervals exactly, and a sum of them must not cost a token
_OWNED_BITS = 64  # of an IPv6 address: the owner of one address has the other 2^64 of its network too


def owner_of(address: IpAddress) -> int:
    """The key of a sender: its whole IPv4 address, or its IPv6 network."""
    return int(address) if address.version == 4 else int(address) >> (128 - _OWNED_BITS) | 1 << _OWNED_BITS


class TokenBucket:
    """At most `burst` at once, and one per `interval_s` seconds in the long run."""

    def __init__(self, interval_s: float, burst: int = 1) -> None:
        assert min(interval_s, burst) > 0, (interval_s, burst)
        self._interval_s = interval_s
        self._ahead_s = interval_s * (burst - 1)
        self._full_at = float("-inf")

    def take(self, now: float) -> bool:
        """Take a token if one is available."""
        if self.available_at(now) > now + self._ahead_s * _ROUNDING:
            return False
        self._full_at = max(self._full_at, now) + self._interval_s
        return True

    def available_at(self, now: float) -> float:
        """When the next token is available: now, or later."""
        return max(now, self._full_at - self._ahead_s)


class KeyedBuckets(Generic[K]):
    """One token bucket per key. At most `limit` keys are kept; the least recently used one goes first."""

    def __init__(self, interval_s: float, burst: int = 1, limit: int = 4096) -> None:
        assert min(interval_s, burst, limit) > 0, (interval_s, burst, limit)
        self._interval_s = interval_s
        self._ahead_s = interval_s * (burst - 1)
        self._limit = limit
        self._full_at: OrderedDict[K, float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._full_at)

    def take(self, key: K, now: float) -> bool:
        """Take a token of this key if one is available."""
        if self.available_at(key, now) > now + self._ahead_s * _ROUNDING:
            return False
        self._full_at[key] = max(self._full_at.get(key, now), now) + self._interval_s
        self._full_at.move_to_end(key)
        if len(self._full_at) > self._limit:
            self._full_at.popitem(last=False)
        return True

    def give_back(self, key: K) -> None:
        """Return a token of this key. A full bucket stays full."""
        if key in self._full_at:
            self._full_at[key] -= self._interval_s

    def available_at(self, key: K, now: float) -> float:
        """When the next token of this key is available: now, or later."""
        return max(now, self._full_at.get(key, now) - self._ahead_s)

"""Map-Version Numbers (RFC 9302): which of two is newer, and that of our own mappings, which grows with changes. Pure.

Sealed packets say them (c/seal/map_version.h), and records do. All our EID-Prefixes share one number.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from lispmob.protocol.rate_limit import TokenBucket

NUMBERS: Final = 1 << 12
NONE: Final = 0  # RFC 9302, 6.1: the Null Map-Version
CHANGES_MAX: Final = 1024  # ours: in one TTL; 2048 later an old copy of a mapping would count as a new one


def is_newer(one: int, other: int) -> bool:
    """Whether `one` comes after `other`, by the shorter way around the circle (RFC 9302, 6). Neither is 0."""
    ahead = (one - other) % NUMBERS
    return 0 < ahead < NUMBERS // 2 or (ahead == NUMBERS // 2 and one > other)


def following(number: int) -> int:
    """The number after this one; 0 is left out."""
    return number % (NUMBERS - 1) + 1


class OwnMapVersion:
    """`draw`: gives the next number, and never one of before; None: our mappings have none.

    A node that changes more often than others can follow keeps its number: then SMRs alone tell of the change.
    """

    def __init__(self, draw: Callable[[], int] | None) -> None:
        self._draw = draw
        self._said: object = None
        self._ttl_min = 0
        self._limit = TokenBucket(1.0)
        self.number = NONE

    def on_records(self, said: object, ttl_min: int, now: float, *, is_wanted: bool) -> int:
        """Our records say this now, for so many minutes: the number that goes with it."""
        if self._draw is None or not is_wanted:
            self.number, self._said = NONE, None
            return NONE
        if ttl_min != self._ttl_min:
            self._ttl_min = ttl_min
            self._limit = TokenBucket(max(ttl_min, 1) * 60.0 / CHANGES_MAX, CHANGES_MAX)
        if said != self._said and (self.number == NONE or self._limit.take(now)):
            self.number = self._draw()
        self._said = said
        return self.number

"""Slow reference of liveness/silence.c, the oracle of its tests: when a locator's silence is reported, and as what.

Times are integers, nanoseconds of a clock that never shows 0.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final

import msgspec

LATELY_NS: Final = 200_000_000
ENOUGH_OCTETS: Final = 1000


class Word(IntEnum):
    """enum lm_silence_kind."""

    NONE = 0
    ONE_SIDED = 1
    FLOWING = 2


class SilenceWatch(msgspec.Struct):
    """One locator. `quick_ns` 0: not watched; `since` None: no packet waits for an answer."""

    quick_ns: int = 0
    slow_ns: int = 0
    since: int | None = None
    heard: int | None = None
    octets: int = 0
    is_reported: bool = False
    waits_for_watch: bool = False

    def watch(self, quick_ns: int, slow_ns: int) -> None:
        """Watch from now on, and report (again)."""
        self.quick_ns, self.slow_ns = quick_ns, max(quick_ns, slow_ns)
        if self.waits_for_watch:
            self.waits_for_watch, self.since = False, None

    def sent(self, now: int, octets: int) -> Word:
        """A packet left."""
        if not self.quick_ns or self.waits_for_watch:
            return Word.NONE
        if self.since is None:
            self.since, self.octets = now, octets
            return Word.NONE
        if self.octets < ENOUGH_OCTETS:
            self.octets += octets
        return self._tell() if now >= self.since + self._patience_ns() else Word.NONE

    def due(self) -> int | None:
        """When to check even if nothing is sent."""
        if not self.quick_ns or self.waits_for_watch or self.since is None or not self._is_flowing():
            return None
        return self.since + self.quick_ns if self.octets >= ENOUGH_OCTETS else None

    def tick(self, now: int) -> Word:
        """Time has passed."""
        due = self.due()
        return self._tell() if due is not None and now >= due else Word.NONE

    def arrived(self, now: int) -> bool:
        """A packet came; True: after a silence that was reported."""
        was_told, self.is_reported = self.is_reported, False
        self.heard, self.since, self.waits_for_watch = now, None, False
        return was_told

    def _tell(self) -> Word:
        word = Word.FLOWING if self._is_flowing() else Word.ONE_SIDED
        self.is_reported = self.waits_for_watch = True
        return word

    def _is_flowing(self) -> bool:
        assert self.since is not None
        return self.heard is not None and self.since <= self.heard + 4 * self.quick_ns + LATELY_NS

    def _patience_ns(self) -> int:
        return self.quick_ns if self._is_flowing() else self.slow_ns

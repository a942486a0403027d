"""One sleep of the machine is told once, whoever notices first: logind, or the kernel's clocks. Pure."""

from __future__ import annotations

from typing import Final

SLEPT_S: Final = 2.0  # ours: the two clocks drift by less than this in years, and a suspend takes longer
SAME_S: Final = 3.0  # ours: logind's word and the clocks' difference come within this of each other


class Waking:
    """Knows whether the machine has just woken up. Times are the loop's, which stands still during a sleep."""

    def __init__(self, suspended_s: float) -> None:
        self._suspended_s = suspended_s
        self._told_at = float("-inf")
        self.is_falling_asleep = False

    def on_clocks(self, suspended_s: float, now: float) -> str | None:
        """How long this machine has slept since its boot; a sentence when that is news."""
        slept_s, self._suspended_s = suspended_s - self._suspended_s, suspended_s
        return self._tell(f"the machine slept for {slept_s:.0f} s", now) if slept_s > SLEPT_S else None

    def on_prepare(self, is_falling_asleep: bool, now: float) -> str | None:
        """logind's PrepareForSleep; a sentence when the machine is awake again and nobody had noticed."""
        self.is_falling_asleep = is_falling_asleep
        return None if is_falling_asleep else self._tell("the machine woke up", now)

    def _tell(self, what: str, now: float) -> str | None:
        if now - self._told_at < SAME_S:
            return None
        self._told_at = now
        return what

"""Reports each suspend once, from logind or from the kernel's clocks, whichever is first. Pure."""

from __future__ import annotations

from typing import Final

SLEPT_S: Final = 2.0  # ours: the two clocks drift less than this in years, and a suspend takes longer
SAME_S: Final = 3.0  # ours: logind's signal and the clocks' difference are within this of each other


class Waking:
    """Whether the machine has just woken up. Times are the loop's, which stops during a suspend."""

    def __init__(self, suspended_s: float) -> None:
        self._suspended_s = suspended_s
        self._reported_at = float("-inf")
        self.is_falling_asleep = False

    def on_clocks(self, suspended_s: float, now: float) -> str | None:
        """The total suspended time since boot; returns a sentence if that is news."""
        slept_s, self._suspended_s = suspended_s - self._suspended_s, suspended_s
        return self._tell(f"the machine slept for {slept_s:.0f} s", now) if slept_s > SLEPT_S else None

    def on_prepare(self, is_falling_asleep: bool, now: float) -> str | None:
        """logind's PrepareForSleep; returns a sentence if the machine is awake again and it was not reported yet."""
        self.is_falling_asleep = is_falling_asleep
        return None if is_falling_asleep else self._tell("the machine woke up", now)

    def _tell(self, what: str, now: float) -> str | None:
        if now - self._reported_at < SAME_S:
            return None
        self._reported_at = now
        return what

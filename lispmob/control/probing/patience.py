"""How long data to a locator may go unanswered before the locator is asked: about a round trip, learned from errors.

Two patiences, since silence means two things. Where packets came all the time until now, the quick one counts, little
more than a round trip. Where traffic has been one-sided for a while, as much of it is by nature, the slow one counts.
A question that turns out to have been needless doubles the patience that led to it; calm halves it again.
"""

from __future__ import annotations

from typing import Final

from lispmob.wire.address import IpAddress

QUICKEST_S: Final = 0.02  # ours: below this a busy host, not the path, would be measured
MARGIN: Final = 1.1  # ours: an answer takes a round trip, give or take; with half a one for what is on the way when a
# locator dies, and the verdict's 1.3, it makes three
SLOW_ROUND_TRIPS: Final = 4.0
SLOWEST_START_S: Final = 0.25
CALM_S: Final = 10.0  # ours: one needless question of several probes in that time costs nobody anything
ALARMS_MAX: Final = 16


class Patience:
    """What is told to the datapath about one remote locator."""

    def __init__(self) -> None:
        self.told: tuple[float, float] | None = None
        self.head: IpAddress | None = None
        self.calm_at: float | None = None
        self._flowing_alarms = 0
        self._one_sided_alarms = 0

    def on_alarm(self, is_flowing: bool, now: float) -> None:
        """Silence was told of."""
        if is_flowing:
            self._flowing_alarms = min(self._flowing_alarms + 1, ALARMS_MAX)
        else:
            self._one_sided_alarms = min(self._one_sided_alarms + 1, ALARMS_MAX)
        self.calm_at = now + CALM_S

    def on_timer(self, now: float) -> bool:
        """True when it has been calm for long enough to be less patient again."""
        if self.calm_at is None or now < self.calm_at:
            return False
        self._flowing_alarms = max(0, self._flowing_alarms - 1)
        self._one_sided_alarms = max(0, self._one_sided_alarms - 1)
        self.calm_at = now + CALM_S if self._flowing_alarms or self._one_sided_alarms else None
        return True

    def of(self, rtt_s: float, timeout_s: float, interval_s: float) -> tuple[float, float]:
        """Both patiences in seconds, for a round trip that is known."""
        usual_s = MARGIN * max(rtt_s, QUICKEST_S)
        longest_s = min(max(timeout_s, 2 * usual_s), interval_s)
        quick_s = min(usual_s * (1 << self._flowing_alarms), longest_s)
        start_s = max(SLOW_ROUND_TRIPS * usual_s, min(SLOWEST_START_S, timeout_s))
        return quick_s, max(quick_s, min(start_s * (1 << self._one_sided_alarms), longest_s))

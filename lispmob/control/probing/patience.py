"""How long data to a locator may go unanswered before the locator is probed: about a round trip, adapted by false
alarms.

There are two timeouts. The quick one, little more than a round trip, applies to traffic that was two-way until now. The
slow one applies to traffic that has been one-way for a while, which much traffic is by nature. A needless probe doubles
the timeout that caused it; a calm period halves it again.
"""

from __future__ import annotations

from typing import Final

from lispmob.wire.address import IpAddress

QUICKEST_S: Final = 0.02  # ours: anything shorter would measure a busy host, not the path
MARGIN: Final = 1.1  # ours: an answer takes about a round trip; with half a one for packets on the way when a
# locator fails, and 1.3 for the verdict, that makes three
SLOW_ROUND_TRIPS: Final = 4.0
SLOWEST_START_S: Final = 0.25
CALM_S: Final = 10.0  # ours: one needless round of probes in that time is harmless
ALARMS_MAX: Final = 16


class Patience:
    """The timeouts that the datapath uses for one remote locator."""

    def __init__(self) -> None:
        self.told: tuple[float, float] | None = None
        self.head: IpAddress | None = None
        self.calm_at: float | None = None
        self._flowing_alarms = 0
        self._one_sided_alarms = 0

    def on_alarm(self, is_flowing: bool, now: float) -> None:
        """The datapath reported unanswered data."""
        if is_flowing:
            self._flowing_alarms = min(self._flowing_alarms + 1, ALARMS_MAX)
        else:
            self._one_sided_alarms = min(self._one_sided_alarms + 1, ALARMS_MAX)
        self.calm_at = now + CALM_S

    def on_timer(self, now: float) -> bool:
        """True when the calm period has passed, and timeouts become shorter."""
        if self.calm_at is None or now < self.calm_at:
            return False
        self._flowing_alarms = max(0, self._flowing_alarms - 1)
        self._one_sided_alarms = max(0, self._one_sided_alarms - 1)
        self.calm_at = now + CALM_S if self._flowing_alarms or self._one_sided_alarms else None
        return True

    def of(self, rtt_s: float, timeout_s: float, interval_s: float) -> tuple[float, float]:
        """Both timeouts in seconds, for a known round trip."""
        usual_s = MARGIN * max(rtt_s, QUICKEST_S)
        longest_s = min(max(timeout_s, 2 * usual_s), interval_s)
        quick_s = min(usual_s * (1 << self._flowing_alarms), longest_s)
        start_s = max(SLOW_ROUND_TRIPS * usual_s, min(SLOWEST_START_S, timeout_s))
        return quick_s, max(quick_s, min(start_s * (1 << self._one_sided_alarms), longest_s))

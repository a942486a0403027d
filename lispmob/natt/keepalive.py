"""How long a NAT keeps an idle binding, and how often it must be refreshed.

It is measured on a second, unused binding: after warm-up it is idle for a while, then a server outside is asked to send
to it. The binding of the data is never at risk.
"""

from __future__ import annotations

from enum import Enum
from typing import Final

import msgspec

SHARE: Final = 0.75  # of the lifetime: one packet may be late, and clocks differ
UNMEASURED_S: Final = 20.0  # ours: consumer NATs drop UDP bindings after 30 s of silence
SHORTEST_S: Final = 5.0  # ours: a NAT that forgets faster is not worth a battery
LONGEST_S: Final = 120.0  # registrations expire after 180 s, and some tries must fit in
# Ours: rising, because a NAT that forgets within the unmeasured interval must be found at once. The last is as long as
# the longest keepalive interval needs.
TRIALS_S: Final = (15.0, 30.0, 60.0, 120.0, LONGEST_S / SHARE)
# Ours: below this the lifetime is found to within STEP_S, because short intervals cost packets.
FINE_BELOW_S: Final = 30.0
STEP_S: Final = 5.0


class Outcome(Enum):
    """The result of a trial."""

    ALIVE = "alive"
    DEAD = "dead"
    LOST = "lost"  # unknown: the binding that is certainly alive was not answered either


class Lifetime(msgspec.Struct, frozen=True):
    """The binding lives for `at_least_s`, and no longer than `below_s` (None: no loss seen yet)."""

    at_least_s: float = 0.0
    below_s: float | None = None

    @property
    def is_measured(self) -> bool:
        """True when another trial would not change the interval."""
        return self.next_trial_s() is None

    def next_trial_s(self) -> float | None:
        """How long the probe binding should be idle in the next trial; None: enough is known."""
        for trial_s in TRIALS_S:
            if self.at_least_s < trial_s and (self.below_s is None or trial_s < self.below_s):
                return trial_s
        if self.below_s is None or self.below_s > FINE_BELOW_S:
            return None
        middle_s = (self.at_least_s + self.below_s) / 2
        return middle_s if self.below_s - self.at_least_s > STEP_S else None

    def after(self, idle_s: float, outcome: Outcome) -> Lifetime:
        """The lifetime after a trial of this length."""
        if outcome is Outcome.ALIVE:
            return Lifetime(max(self.at_least_s, idle_s), self.below_s)
        if outcome is Outcome.DEAD:
            below_s = idle_s if self.below_s is None else min(self.below_s, idle_s)
            return Lifetime(min(self.at_least_s, idle_s), below_s)
        return self

    @property
    def interval_s(self) -> float:
        """Seconds between packets that keep the binding."""
        shortest_s = UNMEASURED_S if self.below_s is None else SHORTEST_S  # a first short trial says little yet
        return min(max(SHARE * self.at_least_s, shortest_s), LONGEST_S)


def interval_for(lifetime: Lifetime, configured_s: float | None, longest_s: float) -> float:
    """The keepalive interval of an uplink: configured or measured; never longer than the dialect allows."""
    return min(lifetime.interval_s if configured_s is None else configured_s, longest_s)

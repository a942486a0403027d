"""How long a NAT keeps an idle binding, and how often it has to be refreshed for that.

Measured with a second binding that nobody needs: warmed up, left alone for a while, then somebody outside is asked to
send to it. The binding that data uses is never put at risk.
"""

from __future__ import annotations

from enum import Enum
from typing import Final

import msgspec

SHARE: Final = 0.75  # of the lifetime: one packet may be late, and clocks differ
UNMEASURED_S: Final = 20.0  # ours: consumer NATs drop UDP bindings after 30 s of silence
SHORTEST_S: Final = 5.0  # ours: a NAT that forgets faster is not worth a battery
LONGEST_S: Final = 120.0  # registrations end after 180 s, and some tries must fit
# Ours: from the short to the long, for a NAT that forgets before the unmeasured interval is over is found out at once;
# the longest is as long as the longest interval needs.
TRIALS_S: Final = (15.0, 30.0, 60.0, 120.0, LONGEST_S / SHARE)
FINE_BELOW_S: Final = 30.0  # ours: below this the lifetime is found to within STEP_S, for there it costs packets
STEP_S: Final = 5.0


class Outcome(Enum):
    """What a trial showed."""

    ALIVE = "alive"
    DEAD = "dead"
    LOST = "lost"  # cannot tell: nobody answered on the binding that is certainly alive either


class Lifetime(msgspec.Struct, frozen=True):
    """What is known: the binding lives for `at_least_s`, and no longer than `below_s` (None: not seen to die yet)."""

    at_least_s: float = 0.0
    below_s: float | None = None

    @property
    def is_measured(self) -> bool:
        """True when another trial would not change the interval."""
        return self.next_trial_s() is None

    def next_trial_s(self) -> float | None:
        """How long to leave the probe binding alone next; None: enough is known."""
        for trial_s in TRIALS_S:
            if self.at_least_s < trial_s and (self.below_s is None or trial_s < self.below_s):
                return trial_s
        if self.below_s is None or self.below_s > FINE_BELOW_S:
            return None
        middle_s = (self.at_least_s + self.below_s) / 2
        return middle_s if self.below_s - self.at_least_s > STEP_S else None

    def after(self, idle_s: float, outcome: Outcome) -> Lifetime:
        """What is known after a trial of this length."""
        if outcome is Outcome.ALIVE:
            return Lifetime(max(self.at_least_s, idle_s), self.below_s)
        if outcome is Outcome.DEAD:
            below_s = idle_s if self.below_s is None else min(self.below_s, idle_s)
            return Lifetime(min(self.at_least_s, idle_s), below_s)
        return self

    @property
    def interval_s(self) -> float:
        """Seconds between packets that keep the binding."""
        shortest_s = UNMEASURED_S if self.below_s is None else SHORTEST_S  # a first short trial says little as yet
        return min(max(SHARE * self.at_least_s, shortest_s), LONGEST_S)


def interval_for(lifetime: Lifetime, configured_s: float | None, longest_s: float) -> float:
    """The keepalive interval of an uplink: as configured, else measured; never longer than the dialect's peers wait."""
    return min(lifetime.interval_s if configured_s is None else configured_s, longest_s)

"""How long a checked NAT binding is trusted although our data is unanswered; pure."""

from __future__ import annotations

from typing import Final

TRUST_S: Final = 1.0  # ours: how long unanswered data is attributed to the peers after a check; doubles
TRUST_MAX_S: Final = 2.0  # ours: an RTR may fail just after the check
TRUST_RESET_S: Final = 10.0
HEARD_TRUST_S: Final = 0.5  # ours: the same once data has come through the RTR: later unanswered data is a new event


class BindingTrust:
    """Unanswered data while the binding is trusted is checked when the trust ends, because it is reported only once."""

    def __init__(self) -> None:
        self._trust_s = TRUST_S
        self._checked_at = self._until = float("-inf")
        self._doubt_at: float | None = None

    def wake_at(self) -> float | None:
        """When unanswered data must be checked."""
        return self._doubt_at

    def on_silence(self, now: float) -> bool:
        """Our data is unanswered. True: check the binding now; it is trusted for a while then."""
        if now < self._until:
            self._doubt_at = self._until
            return False
        self._trust_s = TRUST_S if now > self._until + TRUST_RESET_S else min(2 * self._trust_s, TRUST_MAX_S)
        self._checked_at, self._until = now, now + self._trust_s
        return True

    def on_heard(self) -> None:
        """Data came through the RTR: nothing needs a check.

        Trust attributes unanswered data to the peers. The data shows that they were not silent. More trust would only
        hide an RTR that restarts and fails soon after.
        """
        self._doubt_at = None
        self._until = min(self._until, self._checked_at + HEARD_TRUST_S)

    def is_due(self, now: float) -> bool:
        """True, once, when earlier unanswered data must be checked now."""
        if self._doubt_at is None or now < self._doubt_at:
            return False
        self._doubt_at = None
        return True

    def forget(self) -> None:
        """The uplink is gone."""
        self._doubt_at = None

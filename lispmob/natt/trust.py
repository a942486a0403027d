"""How long a binding of the NAT is trusted after it was checked, although what is sent goes unanswered; pure."""

from __future__ import annotations

from typing import Final

TRUST_S: Final = 1.0  # ours: how long silence is put down to the peers once the binding was checked; doubles
TRUST_MAX_S: Final = 2.0  # ours: an RTR may die just after it was checked
TRUST_RESET_S: Final = 10.0
HEARD_TRUST_S: Final = 0.5  # ours: the same once data has come through the RTR: a silence after that is a new one


class BindingTrust:
    """A silence that begins while the binding is trusted is looked into when that ends: it is told of once only."""

    def __init__(self) -> None:
        self._trust_s = TRUST_S
        self._checked_at = self._until = float("-inf")
        self._doubt_at: float | None = None

    def wake_at(self) -> float | None:
        """When a silence has to be looked into."""
        return self._doubt_at

    def on_silence(self, now: float) -> bool:
        """What we send is not answered. True: check the binding now; it is trusted for a while then."""
        if now < self._until:
            self._doubt_at = self._until
            return False
        self._trust_s = TRUST_S if now > self._until + TRUST_RESET_S else min(2 * self._trust_s, TRUST_MAX_S)
        self._checked_at, self._until = now, now + self._trust_s
        return True

    def on_heard(self) -> None:
        """Data came through the RTR: the silence is over, and there is nothing to look into.

        Trust puts a silence down to the peers. What is heard shows that this one was not theirs, so the rest of the
        trust would only hide the death of an RTR that restarts and dies right after.
        """
        self._doubt_at = None
        self._until = min(self._until, self._checked_at + HEARD_TRUST_S)

    def is_due(self, now: float) -> bool:
        """True, once, when a silence of before has to be looked into now."""
        if self._doubt_at is None or now < self._doubt_at:
            return False
        self._doubt_at = None
        return True

    def forget(self) -> None:
        """The uplink is gone."""
        self._doubt_at = None

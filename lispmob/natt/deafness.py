"""An RTR that confirms what is registered through it, and passes nothing on to us; pure.

Open Overlay Router's RTR never takes another place outside for a node that it knows: after the NAT has given us another
port, registers are confirmed there, and data goes on to the old one.
"""

from __future__ import annotations

from typing import Final

PATIENCE_S: Final = (
    5.0  # ours: a binding that was lost is open again within a second, and peers send again what they lost
)
LATELY_S: Final = 30.0  # ours: only a silence in what flowed both ways tells anything
REST_S: Final = 60.0  # ours: between two verdicts, so that a peer that went away costs no more than one change


class Deafness:
    """Of one uplink. Data that comes from its RTR shows that all is well."""

    def __init__(self) -> None:
        self._heard_at = self._said_at = float("-inf")
        self._due_at: float | None = None
        self._is_confirmed = False
        self.is_told = False  # that nothing comes back

    def wake_at(self) -> float | None:
        """When to call is_due."""
        return self._due_at

    def on_heard(self, now: float) -> bool:
        """Data came through the RTR; True when it was said that none does."""
        was_told, self.is_told = self.is_told, False
        self._heard_at, self._due_at = now, None
        return was_told

    def on_silence(self, now: float) -> None:
        """What we send is not answered."""
        if self._due_at is None and now <= self._heard_at + LATELY_S and now >= self._said_at + REST_S:
            self._due_at, self._is_confirmed = now + PATIENCE_S, False

    def on_confirmed(self) -> None:
        """A register through the RTR was confirmed: it is there, and the Map-Server is."""
        self._is_confirmed = True

    def is_due(self, now: float) -> bool:
        """True, once, when it confirms and nothing else comes."""
        if self._due_at is None or now < self._due_at:
            return False
        self._due_at = None
        if not self._is_confirmed:
            return False  # it is dead, or the network is: others notice that
        self._said_at = now
        self.is_told = True
        return True

    def forget(self) -> None:
        """The uplink is gone, or has another RTR."""
        self._heard_at, self._due_at, self.is_told = float("-inf"), None, False

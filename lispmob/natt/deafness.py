"""An RTR that confirms what is registered through it, and passes nothing on to us; pure.

Open Overlay Router's RTR never takes another place outside for a node that it knows: after the NAT has given us another
port, registers are confirmed there, and data goes on to the old one.

A verdict is sure when data came through the RTR until just before. After a longer rest a silence may as well be that of
the peer, so that nothing is said then; but what costs one register is tried, ever more seldom.
"""

from __future__ import annotations

from typing import Final

PATIENCE_S: Final = (
    5.0  # ours: a binding that was lost is open again within a second, and peers send again what they lost
)
LATELY_S: Final = 30.0  # ours: only a silence in what flowed both ways tells anything for sure
REST_S: Final = 60.0  # ours: between two verdicts, so that a peer that went away costs no more than one change
REST_MAX_S: Final = 3600.0  # ours: of verdicts that nothing came of


class Deafness:
    """Of one uplink. Data that comes from its RTR shows that all is well."""

    def __init__(self) -> None:
        self._heard_at = self._said_at = float("-inf")
        self._rest_s = REST_S
        self._due_at: float | None = None
        self._is_confirmed = False
        self.is_sure = False
        """Of the last verdict: data came until just before."""
        self.is_told = False  # that nothing comes back

    def wake_at(self) -> float | None:
        """When to call is_due."""
        return self._due_at

    def on_heard(self, now: float) -> bool:
        """Data came through the RTR; True when it was said that none does."""
        was_told, self.is_told = self.is_told, False
        self._heard_at, self._due_at, self._rest_s = now, None, REST_S
        return was_told

    def on_silence(self, now: float) -> None:
        """What we send is not answered. Where nothing ever came, it may be that there is nobody.

        A silence is told once: one that begins too soon after a verdict is judged when that is a while ago.
        """
        if self._due_at is None and self._heard_at > float("-inf"):
            self.is_sure = now <= self._heard_at + LATELY_S
            self._due_at, self._is_confirmed = max(now, self._said_at + self._rest_s) + PATIENCE_S, False

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
        if self._said_at > self._heard_at:
            self._rest_s = min(2 * self._rest_s, REST_MAX_S)
        self._said_at = now
        self.is_told |= self.is_sure
        return True

    def forget(self) -> None:
        """The uplink is gone, or has another RTR."""
        self._heard_at, self._due_at, self.is_told, self._rest_s = float("-inf"), None, False, REST_S

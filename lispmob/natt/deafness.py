"""Detects an RTR that confirms registrations and forwards no data to us; pure.

Open Overlay Router's RTR never updates the outside address of a node that it knows: after the NAT has assigned another
port, it confirms registrations there, and still sends data to the old one.

The verdict is certain if data came through the RTR until just before. After a longer idle time the peer may be silent
instead. Then no event is reported, but the cheap remedy, one register, is tried at growing intervals.
"""

from __future__ import annotations

from typing import Final

PATIENCE_S: Final = 5.0  # ours: a lost binding is open again within a second, and peers retransmit
LATELY_S: Final = 30.0  # ours: only the end of recent two-way traffic is a certain sign
REST_S: Final = 60.0  # ours: between two verdicts, so that a peer that left costs no more than one change
REST_MAX_S: Final = 3600.0  # ours: if the verdicts have no effect


class Deafness:
    """The state for one uplink. Data from its RTR clears it."""

    def __init__(self) -> None:
        self._heard_at = self._said_at = float("-inf")
        self._rest_s = REST_S
        self._due_at: float | None = None
        self._is_confirmed = False
        self.is_sure = False
        """Of the last verdict: data came until just before."""
        self.is_reported = False  # an event has reported it

    def wake_at(self) -> float | None:
        """When to call is_due."""
        return self._due_at

    def on_heard(self, now: float) -> bool:
        """Data came through the RTR; True if an event had reported that none does."""
        was_reported, self.is_reported = self.is_reported, False
        self._heard_at, self._due_at, self._rest_s = now, None, REST_S
        return was_reported

    def on_silence(self, now: float, *, may_be_sure: bool = True) -> None:
        """Our data is unanswered. If no data ever came, there may be no peer that would send.

        `may_be_sure` False: this RTR sends data to where the last register came from, so the peers may be silent.
        The datapath reports this once: a report soon after a verdict is considered after a pause.
        """
        if self._due_at is None and self._heard_at > float("-inf"):
            self.is_sure = may_be_sure and now <= self._heard_at + LATELY_S
            self._due_at, self._is_confirmed = max(now, self._said_at + self._rest_s) + PATIENCE_S, False

    def on_confirmed(self) -> None:
        """A register through the RTR was confirmed: the RTR and the Map-Server work."""
        self._is_confirmed = True

    def is_due(self, now: float) -> bool:
        """True, once, when registers are confirmed and no data comes."""
        if self._due_at is None or now < self._due_at:
            return False
        self._due_at = None
        if not self._is_confirmed:
            return False  # the RTR or the network is down: other machines detect that
        if self._said_at > self._heard_at:
            self._rest_s = min(2 * self._rest_s, REST_MAX_S)
        self._said_at = now
        self.is_reported |= self.is_sure
        return True

    def forget(self) -> None:
        """The uplink is gone, or uses another RTR."""
        self._heard_at, self._due_at, self.is_reported, self._rest_s = float("-inf"), None, False, REST_S

"""When this host's own firewall lets our control messages out again; pure.

A kill switch or a firewall that is being loaded refuses every message, and timers grow meanwhile. Nothing reports its
end. The first message that leaves shows it, and the node then starts over, as after a suspension.
"""

from __future__ import annotations

from typing import Final

from lispmob.wire.address import IpAddress

LASTED_S: Final = 1.0  # ours: a firewall that limits rates refuses single messages
RESTARTS_S: Final = 10.0  # ours: between two starts
RECENT_S: Final = 90.0  # ours: longer than any wait between two messages to a server
SERVERS_MAX: Final = 64  # ours


class OwnFirewall:
    """What it refuses, by destination."""

    def __init__(self) -> None:
        self._since: dict[IpAddress, float] = {}
        self._last: dict[IpAddress, float] = {}
        self._restarted_at = float("-inf")

    def is_refusing(self, now: float) -> bool:
        """True when it refused something lately, and has let nothing out to the same place since."""
        return any(now < at + RECENT_S for at in self._last.values())

    def on_refused(self, destination: IpAddress, now: float) -> None:
        """The kernel refused to send there (EPERM)."""
        if len(self._since) < SERVERS_MAX:
            self._since.setdefault(destination, now)
            self._last[destination] = now

    def on_sent(self, destination: IpAddress, now: float) -> bool:
        """A message left for this destination; True when the node should start over."""
        if not self._since:
            return False
        self._last.pop(destination, None)
        since = self._since.pop(destination, None)
        if since is None or now < since + LASTED_S or now < self._restarted_at + RESTARTS_S:
            return False
        self._restarted_at = now
        return True

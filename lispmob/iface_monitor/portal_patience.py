"""How long a reported login page keeps us from using a network; pure.

NetworkManager's check queries one web server. A filter in between, or a server that is down, looks like a login page
for as long. Our own probes prove more: so after a while the interface is used if there is no other.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

PATIENCE_S: Final = 20.0  # ours: a user who logs in at once is not overtaken, and the wait stays below a minute


class PortalPatience:
    """Since when each interface has been reported to show a login page. Times are monotonic seconds."""

    def __init__(self) -> None:
        self._since: dict[str, float] = {}

    def on_portals(self, interfaces: Iterable[str], now: float) -> None:
        """The interfaces that are reported to show one now."""
        self._since = {name: self._since.get(name, now) for name in interfaces}

    def outlasted(self, now: float) -> frozenset[str]:
        """Those that were reported for so long that they may be tried."""
        return frozenset(name for name, since in self._since.items() if now >= since + PATIENCE_S)

    def wake_at(self, now: float) -> float | None:
        """When the next one may be tried."""
        due = (since + PATIENCE_S for since in self._since.values())
        return min((at for at in due if at > now), default=None)

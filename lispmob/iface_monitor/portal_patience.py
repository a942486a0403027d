"""How long the word of somebody else, that a network only shows a login page, keeps us from trying it; pure.

NetworkManager's check asks one web server. A filter in between, or a server that is down, looks like a login page for
as long as one looks. What we do ourselves proves more: so after a while the interface is used where nothing else is.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

PATIENCE_S: Final = 20.0  # ours: a person who logs in at once is not overtaken, and nobody waits for a minute


class PortalPatience:
    """Since when each interface has been said to show a login page. Times are monotonic seconds."""

    def __init__(self) -> None:
        self._since: dict[str, float] = {}

    def on_portals(self, interfaces: Iterable[str], now: float) -> None:
        """These are said to show one, and no others."""
        self._since = {name: self._since.get(name, now) for name in interfaces}

    def outlasted(self, now: float) -> frozenset[str]:
        """Those that it has been said of for so long that they may be tried."""
        return frozenset(name for name, since in self._since.items() if now >= since + PATIENCE_S)

    def wake_at(self, now: float) -> float | None:
        """When the next one may be tried."""
        due = (since + PATIENCE_S for since in self._since.values())
        return min((at for at in due if at > now), default=None)

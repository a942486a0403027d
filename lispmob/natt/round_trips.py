"""How long an RTR takes to answer, for the wait before a request is repeated; pure."""

from __future__ import annotations

from collections import deque
from typing import Final

KEPT: Final = 8  # ours: of the latest; a restart spoils those of all EID-Prefixes and both families once


class RoundTrips:
    """The latest round trips, in seconds.

    The quickest counts. A late answer, because an RTR restarts or is busy, does not predict the next one. A wait
    computed from it would hide the RTR's death for seconds.
    """

    def __init__(self) -> None:
        self._latest: deque[float] = deque(maxlen=KEPT)

    def add(self, rtt_s: float) -> None:
        """An answer came after this time."""
        self._latest.append(rtt_s)

    @property
    def quickest_s(self) -> float | None:
        """None before the first answer."""
        return min(self._latest, default=None)

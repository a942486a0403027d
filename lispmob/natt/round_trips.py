"""How long an answer of an RTR takes, for the wait before a question is asked again; pure."""

from __future__ import annotations

from collections import deque
from typing import Final

KEPT: Final = 8  # ours: of the latest; a restart spoils those of all EID-Prefixes and of both families once


class RoundTrips:
    """The latest round trips, seconds.

    The quickest of them counts. An answer that an RTR gives late, since it restarts or has much to do, says nothing
    about how long the next one takes; a wait that is made of it would hide the RTR's death for seconds.
    """

    def __init__(self) -> None:
        self._latest: deque[float] = deque(maxlen=KEPT)

    def add(self, rtt_s: float) -> None:
        """An answer came after so long."""
        self._latest.append(rtt_s)

    @property
    def quickest_s(self) -> float | None:
        """None before the first answer."""
        return min(self._latest, default=None)

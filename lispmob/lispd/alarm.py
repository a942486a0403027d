"""One timer of the event loop that follows a machine's next deadline."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Alarm:
    """Calls `ring()` once at the time that was set last (the loop's clock)."""

    def __init__(self, ring: Callable[[], None]) -> None:
        self._ring = ring
        self._timer: asyncio.TimerHandle | None = None

    def set(self, at: float | None) -> None:
        """Ring at this time only; None: never."""
        if self._timer is not None and self._timer.when() == at:
            return
        self.cancel()
        if at is not None:
            self._timer = asyncio.get_running_loop().call_at(at, self._on_time)

    def cancel(self) -> None:
        """Cancel the timer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _on_time(self) -> None:
        self._timer = None
        self._ring()

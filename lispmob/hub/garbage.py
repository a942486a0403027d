"""Python's garbage collector in a process that keeps a million registrations and may not pause (adapter).

The collector goes through all objects now and then, 5 s for a million registrations, and a registration is no garbage:
it goes when its last reference does. So only what is new is looked through, in the quiet of the loop, and what is left
of it is put aside, where no collection looks again. A ring of objects that lives for longer than that, and dies later,
is never found; a hub makes none that count, and a small one, in which a full collection takes no time, is looked
through as a whole.
"""

from __future__ import annotations

import asyncio
import gc
from typing import Final

EVERY_S: Final = 1.0
SMALL: Final = 100_000  # ours: objects that are looked through in 10 ms


class GarbageDay:
    """Collects once a second, from `start` to `stop`."""

    def __init__(self) -> None:
        self._timer: asyncio.TimerHandle | None = None
        self._put_aside = 0

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """From now on nothing is collected but here."""
        gc.disable()
        self._loop = loop
        self._on_time()

    def stop(self) -> None:
        """As Python does it by itself."""
        if self._timer is not None:
            self._timer.cancel()
            gc.enable()
            gc.unfreeze()

    def collect(self) -> None:
        """Look through what is new since the last time."""
        new = gc.get_count()[0]
        gc.collect(0)
        self._put_aside += new
        if self._put_aside > SMALL:
            gc.freeze()  # moves all lists of the collector into one, whatever they hold
        elif new:
            gc.collect()

    def _on_time(self) -> None:
        self.collect()
        self._timer = self._loop.call_later(EVERY_S, self._on_time)

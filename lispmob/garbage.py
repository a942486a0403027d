"""Python's garbage collector in a process that keeps a million registrations or mappings and may not pause (adapter).

The collector goes through all objects now and then, 5 s for a million registrations, and a registration is no garbage:
it goes when its last reference does, and so does a mapping. So once there are many objects, those that a collection of
the young ones leaves are put aside, where no collection looks again. A ring of objects that dies later than that is
never found; hub and node make none that count. A process with few objects is looked through as a whole, as any program.
"""

from __future__ import annotations

import gc
from typing import Any, Final

YOUNG: Final = 2_500  # ours: new objects before they are looked through, which takes 3 ms where all of them stay
SMALL: Final = 50_000  # ours: objects that are looked through as a whole; as long


class GarbageRules:
    """In force from `start` to `stop`."""

    def __init__(self) -> None:
        self._threshold = gc.get_threshold()
        self._left = 0

    def start(self, *, is_quick: bool = False) -> None:
        """What is there stays: it is put aside at once. `is_quick`: without looking for what could go, some 20 ms."""
        if not is_quick:
            gc.collect()
        gc.freeze()
        gc.set_threshold(YOUNG, *self._threshold[1:])
        gc.callbacks.append(self._on_collection)

    def stop(self) -> None:
        """As Python does it by itself. May be called without a start."""
        if self._on_collection in gc.callbacks:
            gc.callbacks.remove(self._on_collection)
            gc.set_threshold(*self._threshold)
            gc.unfreeze()

    def _on_collection(self, phase: str, told: dict[str, Any]) -> None:
        if phase != "stop":
            return
        self._left += YOUNG - int(told["collected"])
        if self._left > SMALL:
            gc.freeze()  # moves all lists of the collector into one, whatever they hold

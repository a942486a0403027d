"""Python's garbage collector in a process that keeps a million registrations or mappings and may not pause (adapter).

A full collection visits all objects: 5 s for a million registrations, which are no garbage, since reference counts free
registrations and mappings. So in a process with many objects, those that survive a young collection are frozen, and no
collection visits them again. A reference cycle that dies later is never freed; hub and node make hardly any. A process
with few objects has full collections, as any program.
"""

from __future__ import annotations

import gc
from typing import Any, Final

YOUNG: Final = 2_500  # ours: new objects before a collection, which takes 3 ms if all of them survive
SMALL: Final = 50_000  # ours: objects that a full collection visits; as long


class GarbageRules:
    """In force from `start` to `stop`."""

    def __init__(self) -> None:
        self._threshold = gc.get_threshold()
        self._left = 0

    def start(self, *, is_quick: bool = False) -> None:
        """Freeze the existing objects. `is_quick`: without a collection before, which saves about 20 ms."""
        if not is_quick:
            gc.collect()
        gc.freeze()
        gc.set_threshold(YOUNG, *self._threshold[1:])
        gc.callbacks.append(self._on_collection)

    def stop(self) -> None:
        """Restore Python's defaults. May be called without a start."""
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

"""Requests the hub's settings when a registration fails: the EIDs may have changed.

lispd may not write lispd.conf. It touches a file beside its socket; systemd watches that (lispmob-refresh.path, which
`lispctl join` starts), and runs `lispctl refresh` as root. Without that unit nothing happens.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Final

from lispmob.api.schema import Event

NAME: Final = "refresh-wanted"
FAILED: Final = frozenset({"register-timeout", "auth-failed"})
EVERY_S: Final = 60.0  # ours: at most so often while the hub is away

log = logging.getLogger("lispd")


class Refreshing:
    """`directory`: of the control socket; `now`: monotonic seconds."""

    def __init__(self, directory: Path, now: Callable[[], float]) -> None:
        self._path, self._now = directory / NAME, now
        self._asked_at: float | None = None

    def on_event(self, event: Event) -> None:
        """A published event."""
        if event.kind not in FAILED:
            return
        now = self._now()
        if self._asked_at is None or now - self._asked_at >= EVERY_S:
            self._asked_at = now
            with contextlib.suppress(OSError):  # a directory that we cannot write to is not watched either
                self._path.touch()

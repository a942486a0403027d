"""Has the settings of the hub asked for, when a registration fails: the EIDs may be others now.

lispd may not write lispd.conf. It touches a file beside its socket; systemd watches that (lispmob-refresh.path, which
`lispctl join` starts), and runs `lispctl refresh` as root. Where nobody watches, nothing comes of it.
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
EVERY_S: Final = 60.0  # ours: a hub that is away is not asked for settings more often

log = logging.getLogger("lispd")


class Refreshing:
    """`directory`: of the control socket; `now`: monotonic seconds."""

    def __init__(self, directory: Path, now: Callable[[], float]) -> None:
        self._path, self._now = directory / NAME, now
        self._asked_at: float | None = None

    def on_event(self, event: Event) -> None:
        """An event that is published."""
        if event.kind not in FAILED:
            return
        now = self._now()
        if self._asked_at is None or now - self._asked_at >= EVERY_S:
            self._asked_at = now
            with contextlib.suppress(OSError):  # a directory that is not ours to write to: nobody watches there
                self._path.touch()

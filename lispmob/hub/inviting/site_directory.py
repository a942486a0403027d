"""Watches sites.d: new, changed and removed files take effect within seconds (adapter).

It compares names, sizes and times, without reading files. A check every two seconds costs nothing; an event from the
kernel would come while an editor is still writing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Final

LOOK_S: Final = 2.0  # ours
Stamp = tuple[tuple[str, int, int, int], ...]


class SiteDirectory:
    """`on_changed` is called when the directory has changed since the last call, and is the same twice in a row."""

    def __init__(self, directory: Path, on_changed: Callable[[], None]) -> None:
        self._directory = directory
        self._on_changed = on_changed
        self._known = self.look()
        self._before = self._known
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Start checking."""
        self._timer = asyncio.get_running_loop().call_later(LOOK_S, self._on_timer)

    def stop(self) -> None:
        """Stop checking."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def look(self) -> Stamp:
        """Name, inode, size and time of each file."""
        found: list[tuple[str, int, int, int]] = []
        try:
            for path in self._directory.glob("*.conf"):
                status = path.stat()
                found.append((path.name, status.st_ino, status.st_size, status.st_mtime_ns))
        except OSError:
            return self._known if found else ()
        return tuple(sorted(found))

    def check(self) -> bool:
        """Check once; True when a change is to be reported."""
        seen = self.look()
        is_news = seen != self._known and seen == self._before
        self._before = seen
        if is_news:
            self._known = seen
        return is_news

    def _on_timer(self) -> None:
        if self.check():
            self._on_changed()
        self.start()

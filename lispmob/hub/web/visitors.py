"""Limits connections to the page, so that visitors without the token do not keep others out. Pure.

A visitor that has not shown the token within PATIENCE_S of connecting is disconnected, whatever it has sent. When there
are too many connections, the oldest without the token is closed; where all have it, the new one is.
"""

from __future__ import annotations

from typing import Final, Generic, TypeVar

PATIENCE_S: Final = 5.0  # ours: a browser sends its request with the connection
MOST: Final = 64  # ours: connections; a browser opens six

T = TypeVar("T")


class Visitors(Generic[T]):
    """Connections. `now` is in monotonic seconds."""

    def __init__(self, patience_s: float = PATIENCE_S) -> None:
        self._patience_s = patience_s
        self._strangers: dict[T, float] = {}
        self._known: set[T] = set()

    def __len__(self) -> int:
        return len(self._strangers) + len(self._known)

    def on_open(self, visitor: T, now: float) -> T | None:
        """Add a connection; returns the one to close for it."""
        self._strangers[visitor] = now
        if len(self) <= MOST:
            return None
        leaves = next(iter(self._strangers))  # the oldest; the new one itself when all others have the token
        del self._strangers[leaves]
        return leaves

    def on_token(self, visitor: T) -> None:
        """The visitor has shown the token."""
        if self._strangers.pop(visitor, None) is not None:
            self._known.add(visitor)

    def on_close(self, visitor: T) -> None:
        """Remove a closed connection; also called for one that had to be closed."""
        self._strangers.pop(visitor, None)
        self._known.discard(visitor)

    def wake_at(self) -> float | None:
        """When to call `late`."""
        return next((came_at + self._patience_s for came_at in self._strangers.values()), None)

    def late(self, now: float) -> list[T]:
        """The connections to close now: they are old, and showed no token."""
        leave = [visitor for visitor, came_at in self._strangers.items() if now >= came_at + self._patience_s]
        for visitor in leave:
            del self._strangers[visitor]
        return leave

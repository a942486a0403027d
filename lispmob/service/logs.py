"""Logging for the two daemons: lines on stderr, with the journal's level prefix when the journal reads them."""

from __future__ import annotations

import logging
import os
import sys
from typing import Final

# sd-daemon(3): "<N>" in front of a line is its syslog priority.
_PRIORITIES: Final = ((logging.ERROR, "<3>"), (logging.WARNING, "<4>"), (logging.INFO, "<6>"))

# Events that a person would tell a friend: at INFO. The rest is for debugging.
TOLD: Final = frozenset(
    {
        "registered",
        "auth-failed",
        "moved",
        "withdrawn",
        "natt",
        "rtr-failed",
        "rtr-deaf",
        "rtr-heard",
        "natt-stranded",
        "natt-absent",
        "uplinks-ranked",
        "shortcut-opened",
        "shortcut-closed",
    }
)


_NOISY: Final = frozenset({"asyncio", "pyroute2", "pr2modules", "dbus_next", "dbus_fast"})


def _is_ours_or_grave(record: logging.LogRecord) -> bool:
    """A library's debugging is not ours: asyncio would log every slow callback, pyroute2 every message.

    Levels of their loggers would not do: pyroute2 sets its own when it is imported, which may be later.
    """
    return record.levelno >= logging.WARNING or record.name.partition(".")[0] not in _NOISY


class _JournalFormatter(logging.Formatter):
    """The journal stamps time and level itself: give it the level, and the text."""

    def format(self, record: logging.LogRecord) -> str:
        prefix = next((prefix for level, prefix in _PRIORITIES if record.levelno >= level), "<7>")
        return "\n".join(prefix + line for line in super().format(record).splitlines())


def configure(level: str) -> None:
    """Log to stderr at `level` ("debug", "info", "warning", "error"); may be called again to change the level."""
    handler = logging.StreamHandler(sys.stderr)
    if "JOURNAL_STREAM" in os.environ:
        handler.setFormatter(_JournalFormatter("%(message)s"))
    else:
        handler.setFormatter(logging.Formatter("%(asctime)s.%(msecs)03d %(levelname)-7s %(message)s", "%H:%M:%S"))
    handler.addFilter(_is_ours_or_grave)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())

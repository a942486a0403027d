"""Logging for the two daemons: lines on stderr, with the journal's level prefix when the journal reads them."""

from __future__ import annotations

import logging
import os
import sys
from types import TracebackType
from typing import Final, TypeAlias

# sd-daemon(3): "<N>" in front of a line is its syslog priority.
_ExceptionInfo: TypeAlias = tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]

_PRIORITIES: Final = ((logging.ERROR, "<3>"), (logging.WARNING, "<4>"), (logging.INFO, "<6>"))

_NOISY: Final = frozenset({"asyncio", "pyroute2", "pr2modules", "dbus_next", "dbus_fast"})


def harmless(text: str) -> str:
    """Escape each unprintable character: a peer's text must neither end a line nor colour one.

    These are control characters, line separators, marks that change the direction of writing, and surrogates.
    """
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode("ascii")
        for character in text
    )


class _Formatter(logging.Formatter):
    """Puts each message on one line, whatever text of peers it has. The lines of a traceback are indented behind it."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the standard library's name
        record.message = harmless(record.message)
        return super().formatMessage(record)

    def formatException(self, ei: _ExceptionInfo) -> str:  # noqa: N802 - the standard library's name
        return "\n".join("    " + harmless(line) for line in super().formatException(ei).split("\n"))


class _JournalFormatter(_Formatter):
    """Adds level and text only: the journal adds the time."""

    def format(self, record: logging.LogRecord) -> str:
        prefix = next((prefix for level, prefix in _PRIORITIES if record.levelno >= level), "<7>")
        return "\n".join(prefix + line for line in super().format(record).split("\n"))


def _is_worth_it(record: logging.LogRecord) -> bool:
    """Drop debug messages of libraries: asyncio would log every slow callback, pyroute2 every message.

    Setting their loggers' levels is not enough: pyroute2 sets its own when it is imported, which may be later.
    """
    return record.levelno >= logging.WARNING or record.name.partition(".")[0] not in _NOISY


def configure(level: str) -> None:
    """Log to stderr at `level` ("debug", "info", "warning", "error"); may be called again to change the level."""
    handler = logging.StreamHandler(sys.stderr)
    if "JOURNAL_STREAM" in os.environ:
        handler.setFormatter(_JournalFormatter("%(message)s"))
    else:
        handler.setFormatter(_Formatter("%(asctime)s.%(msecs)03d %(levelname)-7s %(message)s", "%H:%M:%S"))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    handler.addFilter(_is_worth_it)

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
    """The text with every character escaped that is not printed: what peers send must neither end a line nor paint one.

    Control characters, line separators, marks that change the direction of writing, and halves of characters.
    """
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode("ascii")
        for character in text
    )


class _Formatter(logging.Formatter):
    """One message is one line, whoever its words come from. The lines of a traceback are indented behind it."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the standard library's name
        record.message = harmless(record.message)
        return super().formatMessage(record)

    def formatException(self, ei: _ExceptionInfo) -> str:  # noqa: N802 - the standard library's name
        return "\n".join("    " + harmless(line) for line in super().formatException(ei).split("\n"))


class _JournalFormatter(_Formatter):
    """The journal stamps time and level itself: give it the level, and the text."""

    def format(self, record: logging.LogRecord) -> str:
        prefix = next((prefix for level, prefix in _PRIORITIES if record.levelno >= level), "<7>")
        return "\n".join(prefix + line for line in super().format(record).split("\n"))


def _is_worth_it(record: logging.LogRecord) -> bool:
    """A library's debugging is not ours: asyncio would log every slow callback, pyroute2 every message.

    Levels of their loggers would not do: pyroute2 sets its own when it is loaded, which may be later.
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

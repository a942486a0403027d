"""Stores which Map-Resolvers have shown LISP-SEC: otherwise a restart in a hostile network could undo it.

The file has hashes of the address and of the shared secret, one per line: with another secret the Map-Resolver has to
show it again.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Final

FILE_NAME: Final = "lisp-sec-shown"
MARKS_KEPT: Final = 64  # ours: more Map-Resolvers than any node has
_MARK: Final = re.compile(r"[0-9a-f]{32}")

log = logging.getLogger(__name__)


class ShownResolvers:
    """The marks in the state directory. If that fails it is reported, and the marks last until lispd stops."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / FILE_NAME

    def load(self) -> frozenset[str]:
        """The stored marks; none without a readable file."""
        try:
            lines = self._path.read_text("ascii").splitlines()
        except FileNotFoundError:
            return frozenset()
        except (OSError, ValueError) as error:
            log.warning("cannot read %s (%s): which Map-Resolvers know LISP-SEC is found out again", self._path, error)
            return frozenset()
        return frozenset([line for line in lines if _MARK.fullmatch(line)][:MARKS_KEPT])

    def save(self, marks: Iterable[str]) -> None:
        """Store these, and no others."""
        fresh = self._path.with_suffix(".new")
        text = "".join(f"{mark}\n" for mark in sorted(marks)[:MARKS_KEPT])
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            fresh.touch(mode=0o600)
            fresh.write_text(text, "ascii")
            os.replace(fresh, self._path)  # atomic, also at a loss of power
        except OSError as error:
            log.warning(
                "cannot save in %s which Map-Resolvers know LISP-SEC (%s): the next start finds out again", fresh, error
            )

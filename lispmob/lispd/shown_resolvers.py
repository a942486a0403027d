"""Which Map-Resolvers have shown that they know LISP-SEC, over restarts: without, a new network could unlearn it.

The file holds hashes of the address and of the secret that is shared with it, one a line: with another secret the
Map-Resolver has to show it again.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Final

FILE_NAME: Final = "lisp-sec-shown"
MARKS_KEPT: Final = 64  # ours: more Map-Resolvers than anybody has
_MARK: Final = re.compile(r"[0-9a-f]{32}")

log = logging.getLogger(__name__)


class ShownResolvers:
    """The marks in the state directory. One that cannot be used is reported, and remembers as long as lispd runs."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / FILE_NAME

    def load(self) -> frozenset[str]:
        """What was kept; nothing when there is no file, or none that can be read."""
        try:
            lines = self._path.read_text("ascii").splitlines()
        except FileNotFoundError:
            return frozenset()
        except (OSError, ValueError) as error:
            log.warning("cannot read %s (%s): which Map-Resolvers know LISP-SEC is found out again", self._path, error)
            return frozenset()
        return frozenset([line for line in lines if _MARK.fullmatch(line)][:MARKS_KEPT])

    def save(self, marks: Iterable[str]) -> None:
        """Keep these, and no others."""
        fresh = self._path.with_suffix(".new")
        text = "".join(f"{mark}\n" for mark in sorted(marks)[:MARKS_KEPT])
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            fresh.touch(mode=0o600)
            fresh.write_text(text, "ascii")
            os.replace(fresh, self._path)  # never half a file, whenever the power goes
        except OSError as error:
            log.warning("cannot keep in %s who knows LISP-SEC (%s): the next start finds it out again", fresh, error)

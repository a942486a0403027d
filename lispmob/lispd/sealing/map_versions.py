"""The Map-Version Number of our mappings (RFC 9302) over restarts: who begins again is taken for an old copy.

1. The first number of a node is random, and never 0, which stands for no version (RFC 9302, 6).
2. A block of numbers is reserved in the state directory before the first one of it is used. A start goes on behind the
   block.
3. The next block is reserved between moves, when half of the last one is used: no move waits for the disk.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Final

from lispmob.config.static_key import write_lines
from lispmob.control.map_version import NUMBERS, following

FILE_NAME: Final = "map-version"
BLOCK: Final = 8  # ours

log = logging.getLogger(__name__)


class MapVersions:
    """Gives the next number, one a call. A directory that cannot be written is reported once."""

    def __init__(self, directory: Path, *, draw: Callable[[int], int] = secrets.randbelow) -> None:
        self._path = directory / FILE_NAME
        self._draw = draw
        self._last: int | None = None
        self._left = 0
        self._is_failing = False

    def __call__(self) -> int:
        """The number after the last one, of this process or of another one before it."""
        if self._left == 0:
            self._reserve()
        assert self._last is not None
        self._last = following(self._last)
        self._left -= 1
        return self._last

    def keep_ahead(self) -> None:
        """Nothing is urgent: reserve the next block if this one is half used."""
        if self._last is not None and self._left <= BLOCK // 2:
            self._reserve()

    def _reserve(self) -> None:
        if self._last is None:
            kept = self._kept()
            self._last = 1 + self._draw(NUMBERS - 1) if kept is None else kept
        self._left += BLOCK
        end = self._last
        for _ in range(self._left):
            end = following(end)
        try:
            write_lines(self._path, [str(end)])
            self._is_failing = False
        except OSError as error:
            if not self._is_failing:
                log.warning(
                    "cannot keep the Map-Version Number in %s (%s); after the next start peers may take new mappings "
                    "of this node for old ones",
                    self._path,
                    error.strerror,
                )
            self._is_failing = True

    def _kept(self) -> int | None:
        """The end of the last block; None: there is none, or nothing that can be read."""
        try:
            found = int(self._path.read_text("ascii"))
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            log.warning("cannot read %s (%s); another Map-Version Number is drawn", self._path, error)
            return None
        if not 0 < found < NUMBERS:
            log.warning("%s holds no Map-Version Number; another one is drawn", self._path)
            return None
        return found

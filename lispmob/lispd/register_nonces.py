"""The nonces of a node's Map-Registers: they only grow, over restarts too (RFC 9301, 5.6).

1. The count starts at the clock: nanoseconds since 1970. So it still grows if the state directory was lost.
2. It never starts below what was reserved before. So it still grows if the clock was set back.
3. A block is reserved in the state directory, and flushed to the disk, before the first nonce of it is used.
4. The next block is reserved while nothing waits, when half of the last one is used: no move waits for the disk.
5. Each nonce is a random step above the last one, so that an observer cannot predict the next.

A count that is an hour behind the clock begins a new block there. So a machine that is restored from a snapshot, with
an older count in its memory than it has used since, is accepted again. `catch_up` does that at once.
"""

from __future__ import annotations

import logging
import os
import secrets
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

FILE_NAME: Final = "register-nonce"
BLOCK: Final = 1 << 34  # ours: about 2,000 Map-Registers, and 17 s of the clock
STEP_MAX: Final = 1 << 24  # ours: 8 ms of the clock on average, so the count stays behind the clock
LARGEST: Final = 1 << 63  # ours: the year 2262; a file with a larger value is damaged
BEHIND_NS: Final = 3_600_000_000_000  # ours: at most one write an hour
AHEAD_NS: Final = 300_000_000_000  # ours: the write comes so long before it is needed, if nothing waits then

log = logging.getLogger(__name__)


class RegisterNonces:
    """Returns the next nonce at each call. A failure to store is reported once; the clock still counts."""

    def __init__(
        self,
        directory: Path,
        *,
        wall_ns: Callable[[], int] = time.time_ns,
        draw: Callable[[int], int] = secrets.randbelow,
        file_name: str = FILE_NAME,
        what_for: str = "its Map-Server",
    ) -> None:
        """`what_for`: for the log, what would fail if the count went back."""
        self._path = directory / file_name
        self._what_for = what_for
        self._wall_ns = wall_ns
        self._draw = draw
        self._is_failing = False
        self._last = 0
        self._end = 0

    def __call__(self) -> int:
        """The next nonce: greater than every earlier one, of this process or an earlier process."""
        if self._last + STEP_MAX >= self._end or self._wall_ns() - self._last > BEHIND_NS:
            self._reserve()
        self._last += 1 + self._draw(STEP_MAX)
        return self._last

    def catch_up(self) -> None:
        """Begin again at the clock: a copy of this machine may have used larger nonces (control/nonce_doubt.py)."""
        self._reserve()

    def keep_ahead(self) -> None:
        """Nothing is urgent: reserve the next block if this one will soon be used, or is soon too far behind."""
        is_used = self._end != 0
        if is_used and (self._last + BLOCK // 2 >= self._end or self._wall_ns() - self._last > BEHIND_NS - AHEAD_NS):
            self._reserve()

    def _reserve(self) -> None:
        self._last = max(self._last, self._reserved(), self._wall_ns())
        self._end = self._last + BLOCK
        try:
            self._write(self._end)
        except OSError as error:
            if not self._is_failing:
                log.warning(
                    "cannot save the nonce in %s (%s); a clock that is set back could lock this node out of %s",
                    self._path,
                    error.strerror,
                    self._what_for,
                )
            self._is_failing = True
        else:
            self._is_failing = False

    def _reserved(self) -> int:
        """The end of the last stored block; 0 without one."""
        try:
            found = int(self._path.read_text("ascii"))
        except FileNotFoundError:
            return 0
        except (OSError, ValueError) as error:
            log.warning("cannot read %s (%s); the nonces start at the clock", self._path, error)
            return 0
        if not 0 <= found < LARGEST:
            log.warning("%s holds no nonce; the nonces start at the clock", self._path)
            return 0
        return found

    def _write(self, end: int) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        fresh = self._path.with_suffix(".new")
        with open(fresh, "w", encoding="ascii") as file:
            file.write(f"{end}\n")
            file.flush()
            os.fsync(file.fileno())
        os.replace(fresh, self._path)
        directory = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)

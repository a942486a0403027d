"""When what the kernel refused is tried again, and what of it is told; pure."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Final

from lispmob.problems.problem import Problem, Severity

SHORTEST_S: Final = 1.0  # ours: a lock or a module that is on its way takes a second or two
LONGEST_S: Final = 30.0  # ours: what a host does without for hours may be noticed half a minute late
SHARE: Final = 0.1  # ours: of the time that it has lasted

LEVELS: Final = {Severity.NOTICE: logging.INFO, Severity.DEGRADED: logging.WARNING, Severity.BROKEN: logging.ERROR}


class Retry:
    """Follows the problems of one part: each is told once, and how long to wait grows with their age."""

    def __init__(self) -> None:
        self._since: float | None = None
        self._next_at: float | None = None
        self.problems: tuple[Problem, ...] = ()

    def on_problems(self, problems: Iterable[Problem], now: float) -> list[tuple[int, str]]:
        """These are the problems now. Returns (level, sentence) for the log: of new ones, and of those that ended."""
        former = {problem.identity: problem for problem in self.problems}
        self.problems = tuple(problems)
        current = {problem.identity: problem for problem in self.problems}
        fresh = [one for identity, one in current.items() if identity not in former]
        ended = [one for identity, one in former.items() if identity not in current]
        if not current or self._since is None or fresh:
            self._since = now if current else None
        pause_s = 0.0 if self._since is None else min(max((now - self._since) * SHARE, SHORTEST_S), LONGEST_S)
        self._next_at = now + pause_s if current else None
        said = [(LEVELS[one.severity], one.sentence) for one in fresh]
        return said + [(logging.INFO, f"no longer so: {one.what}") for one in ended]

    def pause_s(self, now: float) -> float | None:
        """How long to wait before the next try; None: there is nothing to try again."""
        return None if self._next_at is None else max(0.0, self._next_at - now)

    def is_due(self, now: float) -> bool:
        """True when what was refused is to be tried again."""
        return self._next_at is not None and now >= self._next_at

"""When what the kernel refused is tried again; pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from lispmob.problems.problem import Problem

SHORTEST_S: Final = 1.0  # ours: a lock or a module that is on its way takes a second or two
LONGEST_S: Final = 30.0  # ours: what a host does without for hours may be noticed half a minute late
SHARE: Final = 0.1  # ours: of the time that it has lasted


class Retry:
    """Follows the problems of one part; the pause before the next try grows with their age."""

    def __init__(self) -> None:
        self._since: float | None = None
        self._next_at: float | None = None
        self.problems: tuple[Problem, ...] = ()

    def on_problems(self, problems: Iterable[Problem], now: float) -> bool:
        """These are the problems now. True when they are others than before; a new one is tried again soon."""
        former = self.problems
        self.problems = tuple(problems)
        fresh = {problem.identity for problem in self.problems} - {problem.identity for problem in former}
        if not self.problems or self._since is None or fresh:
            self._since = now if self.problems else None
        pause_s = 0.0 if self._since is None else min(max((now - self._since) * SHARE, SHORTEST_S), LONGEST_S)
        self._next_at = now + pause_s if self.problems else None
        return self.problems != former

    def pause_s(self, now: float) -> float | None:
        """How long to wait before the next try; None: there is nothing to try again."""
        return None if self._next_at is None else max(0.0, self._next_at - now)

    def is_due(self, now: float) -> bool:
        """True when what was refused is to be tried again."""
        return self._next_at is not None and now >= self._next_at

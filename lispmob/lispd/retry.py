"""When to retry what the kernel refused; pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from lispmob.problems.problem import Problem

SHORTEST_S: Final = 1.0  # ours: a lock or a module that is being loaded takes a second or two
LONGEST_S: Final = 30.0  # ours: after hours, half a minute more does not matter
SHARE: Final = 0.1  # ours: of the problem's age


class Retry:
    """Follows the problems of one part; the pause between retries grows with their age."""

    def __init__(self) -> None:
        self._since: float | None = None
        self._next_at: float | None = None
        self.problems: tuple[Problem, ...] = ()

    def on_problems(self, problems: Iterable[Problem], now: float) -> bool:
        """The present problems. True when they have changed; a new one is retried soon."""
        former = self.problems
        self.problems = tuple(problems)
        fresh = {problem.identity for problem in self.problems} - {problem.identity for problem in former}
        if not self.problems or self._since is None or fresh:
            self._since = now if self.problems else None
        pause_s = 0.0 if self._since is None else min(max((now - self._since) * SHARE, SHORTEST_S), LONGEST_S)
        self._next_at = now + pause_s if self.problems else None
        return self.problems != former

    def pause_s(self, now: float) -> float | None:
        """How long to wait before the next retry; None: there is nothing to retry."""
        return None if self._next_at is None else max(0.0, self._next_at - now)

    def is_due(self, now: float) -> bool:
        """True when a retry is due."""
        return self._next_at is not None and now >= self._next_at

"""Which problems are worth a line of the journal: each once when it begins, and once when it ends. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec

from lispmob.problems.problem import Problem

QUIET: Final = frozenset({"starting", "stopping"})  # systemd says so itself
BEGINS_AN_HOUR: Final = 3  # ours: what comes and goes all day is told three times, and is in the status all day
HOUR_S: Final = 3600.0
MAX_KNOWN: Final = 256  # ours: of problems that have ended, those that are remembered


class Line(msgspec.Struct, frozen=True):
    """One line; `is_warning` False: good news."""

    text: str
    is_warning: bool


class _Standing(msgspec.Struct):
    problem: Problem
    since: float
    is_logged: bool


class ProblemJournal:
    """Compares each list with the one before it."""

    def __init__(self) -> None:
        self._standing: dict[tuple[str, str], _Standing] = {}
        self._begun: dict[tuple[str, str], list[float]] = {}

    def since(self, problem: Problem) -> float | None:
        """When it began, in monotonic seconds."""
        found = self._standing.get(problem.identity)
        return None if found is None else found.since

    def on_problems(self, problems: Iterable[Problem], now: float) -> list[Line]:
        """The list is this now; what is new to the journal, ends first."""
        present = {problem.identity: problem for problem in problems}
        lines: list[Line] = []
        for identity, standing in list(self._standing.items()):
            if identity not in present:
                del self._standing[identity]
                if standing.is_logged:
                    lines.append(Line(f"no longer: {standing.problem.what} ({_duration(now - standing.since)})", False))
        for identity, problem in present.items():
            known = self._standing.get(identity)
            if known is not None:
                known.problem = problem
                continue
            is_logged = problem.key not in QUIET and (count := self._begins(identity, now)) <= BEGINS_AN_HOUR
            self._standing[identity] = _Standing(problem, now, is_logged)
            if is_logged:
                last = (
                    " (it comes and goes; for an hour only lispctl status shows it)" if count == BEGINS_AN_HOUR else ""
                )
                lines.append(Line(problem.sentence + last, True))
        return lines

    def _begins(self, identity: tuple[str, str], now: float) -> int:
        """How often it has begun in the last hour, this time included."""
        lately = [at for at in self._begun.pop(identity, []) if at > now - HOUR_S]
        times = [*lately[-BEGINS_AN_HOUR:], now]
        self._begun[identity] = times
        while len(self._begun) > MAX_KNOWN:
            del self._begun[next(iter(self._begun))]
        return len(times)


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"after {seconds:.0f} s"
    return f"after {seconds / 60:.0f} min" if seconds < 7200 else f"after {seconds / 3600:.0f} h"

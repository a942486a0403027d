"""The report of a demonstration: claims with their measurements, and events. Chapters add to it."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from enum import Enum
from pathlib import Path
from typing import Any, Final, TypeAlias

VERSION: Final = 1

Value: TypeAlias = float | int | bool | None


class Verdict(Enum):
    """The result of a claim."""

    REACHED = "reached"
    MISSED = "goal missed"  # it happened, but a figure is beyond its goal, for example on a slow machine
    ABSENT = "did not happen"


@dataclass(frozen=True, slots=True)
class Check:
    """A claim and its measurement. `goal`: the largest good value; None for a claim without a figure."""

    name: str
    ok: bool
    value: Value
    unit: str
    goal: Value
    has_happened: bool = True

    @property
    def verdict(self) -> Verdict:
        if self.ok:
            return Verdict.REACHED
        return Verdict.MISSED if self.has_happened else Verdict.ABSENT

    def to_json(self) -> dict[str, Any]:
        return {"name": self.name, "ok": self.ok, "value": self.value, "unit": self.unit, "goal": self.goal}


def fact(name: str, *, ok: bool, value: Value = None, unit: str = "", goal: Value = None) -> Check:
    """A claim that is true or false; if it is false, the demonstration has failed."""
    return Check(name, ok, value, unit, goal, has_happened=ok)


def figure(name: str, value: float | None, unit: str, goal: float) -> Check:
    """A measurement with a goal. `value` None: there was nothing to measure, which is a failure."""
    if value is None:
        return Check(name, ok=False, value=None, unit=unit, goal=round(goal, 3), has_happened=False)
    # The exact value is compared, the rounded one is written: rounding must not reach a goal.
    return Check(name, ok=value <= goal, value=round(value, 3), unit=unit, goal=round(goal, 3))


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened, `at_ms` after the beginning."""

    at_ms: float
    kind: str
    fields: dict[str, Any]

    def to_json(self) -> dict[str, Any]:
        return {"at_ms": self.at_ms, "kind": self.kind, **self.fields}


@dataclass(frozen=True, slots=True)
class Machine:
    """The machine of the measurement; figures have no meaning without it."""

    system: str
    kernel: str
    architecture: str
    processor: str
    processors: int
    memory_mb: int
    python: str

    @classmethod
    def here(cls) -> Machine:
        name = next((v for k, v in _pairs(Path("/proc/cpuinfo")) if k == "model name"), platform.processor())
        pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        release = dict(_pairs(Path("/etc/os-release"), "="))
        return cls(
            system=release.get("PRETTY_NAME", platform.system()).strip('"'),
            kernel=platform.release(),
            architecture=platform.machine(),
            processor=name,
            processors=len(os.sched_getaffinity(0)),
            memory_mb=pages // 2**20,
            python=platform.python_version(),
        )


class Report:
    """Checks and events of a run, from `began_at` (CLOCK_MONOTONIC seconds)."""

    def __init__(self, began_at: float, machine: Machine) -> None:
        self.began_at = began_at
        self.machine = machine
        self._checks: dict[str, Check] = {}
        self._events: list[Event] = []

    @property
    def checks(self) -> tuple[Check, ...]:
        return tuple(self._checks.values())

    @property
    def events(self) -> tuple[Event, ...]:
        return tuple(sorted(self._events, key=lambda event: event.at_ms))

    @property
    def has_succeeded(self) -> bool:
        """True when everything that was claimed has happened. Figures beyond their goal do not count here."""
        return bool(self._checks) and all(check.verdict is not Verdict.ABSENT for check in self._checks.values())

    def check(self, check: Check) -> None:
        """Add a claim; it replaces an earlier one with the same name."""
        self._checks[check.name] = check

    def claim(self, names: Iterable[str]) -> None:
        """Add those of `names` that have no measurement as "did not happen"."""
        for name in names:
            if name not in self._checks:
                self.check(fact(name, ok=False))

    def event(self, kind: str, at: float, **fields: Any) -> None:
        """Add an event at `at`, CLOCK_MONOTONIC seconds."""
        self._events.append(Event(round((at - self.began_at) * 1000, 2), kind, fields))

    def to_json(self) -> dict[str, Any]:
        return {
            "version": VERSION,
            "machine": asdict(self.machine),
            "checks": [check.to_json() for check in self.checks],
            "events": [event.to_json() for event in self.events],
        }

    def write(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(self.to_json(), indent=1, allow_nan=False) + "\n", encoding="utf-8")


def _pairs(path: Path, separator: str = ":") -> list[tuple[str, str]]:
    if not path.exists():
        return []
    split = (line.partition(separator) for line in path.read_text(encoding="utf-8", errors="replace").splitlines())
    return [(key.strip(), value.strip()) for key, mark, value in split if mark]

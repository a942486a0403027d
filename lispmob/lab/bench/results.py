"""Samples of all cases and paths: medians, ratios, goals, report.json and the tables. Pure."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from lispmob.lab.demo.screen import Table
from lispmob.lab.report import Machine

VERSION: Final = 1
_LOWER_IS_BETTER: Final = {"us", "ms", "s", "ns", "s/GB", "s/Mpackets", "MB", "1/min", "octets", "%", "1/h", "kB/h"}


@dataclass(frozen=True, slots=True)
class Goal:
    """A goal for a ratio of two medians: `case` on `path` by `other_case` on `other`."""

    case: str
    path: str
    other: str
    factor: float
    other_case: str = ""
    is_most: bool = False  # the ratio may be at most the factor

    def name(self) -> str:
        return f"{self.case}: {self.path} / {self.other}" + (f" {self.other_case}" if self.other_case else "")


GOALS: Final = (
    Goal("tcp1", "ebpf", "vxlan", 1.03),
    Goal("tcp1", "ebpf-noseg", "vxlan-noseg", 1.0),
    Goal("udp64", "ebpf", "vxlan", 1.5),
    Goal("udp1400", "ebpf", "vxlan", 1.1),
    Goal("rtt-added", "ebpf", "vxlan", 1.0, is_most=True),
    Goal("tcp1", "tun", "vxlan", 0.5),
    Goal("tcp1", "tun", "tun-plain", 8.0),
    Goal("udp64", "tun", "vxlan", 0.9),
    Goal("lookup-ns-1000000", "tun", "tun", 2.0, "lookup-ns-10", is_most=True),
    Goal("tcp1", "auto-nic", "vxlan-nic", 1.2),
    Goal("tcp1", "tun-rtr", "tun", 0.9),
    Goal("udp64", "tun-rtr", "tun", 0.9),
    Goal("tcp1", "ebpf-rtr", "ebpf", 0.9),
    Goal("udp64", "ebpf-rtr", "ebpf", 0.9),
    Goal("energy-per-gb", "ebpf", "vxlan", 1.1, is_most=True),
    Goal("tcp1", "tun-sealed", "tun", 0.6),
    Goal("tcp1", "tun-sealed-chacha", "tun", 0.35),
    Goal("tcp1", "tun-sealed", "wireguard-go", 5.0),
    Goal("udp64", "tun-sealed", "tun", 0.8),
    Goal("udp64", "tun-sealed", "wireguard-go", 1.5),
    *(
        Goal(f"gap-{way}-{flood}", tier, tier, 2.0, f"gap-{way}-quiet", is_most=True)
        for tier in ("tun", "ebpf")
        for flood in ("junk", "worst")
        for way in ("out", "in")
    ),
)
LIMITS: Final = {
    "octets-per-entry": 100.0,
    "install-100k": 2.0,
    "resident-memory": 45.0,
    "wakeups-per-minute": 4.0,
    "idle-cpu": 0.05,  # printed as 0.0 with one digit
    "start-to-registered": 200.0,  # without the round trip, which is near zero on this cable
    "first-packet-node": 1.0,
    "flood-late": 20.0,
    "flood-lost": 1.0,
    "loop-junk": 20.0,
    "loop-worst": 20.0,
    "lost-registers-junk": 1.0,
    "lost-registers-worst": 1.0,
    "hub-refresh-cpu": 120.0,
    "hub-reply-cpu": 100.0,
    "hub-hole-cpu": 150.0,
    "hub-octets-per-registration": 1200.0,
    "hub-register-p99": 5.0,
    "hub-start-answers": 2.0,
    "hub-start-complete": 30.0,
    "cluster-visible-p50": 5.0,
    "join-to-working": 2000.0,  # without round trips, which are near zero on these cables; the same holds for names
    "name-asked": 5.0,
    "name-cached": 1.0,
    "status-median": 60.0,
    "peers-median": 60.0,
}
"""The goal of each case: its largest good median, for every path that has the case."""


class Results:
    """The measurements of a run."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.skipped: dict[str, str] = {}
        """Paths that could not be measured, each with the reason."""
        self.failed: dict[str, str] = {}
        """Parts and paths that ought to have been measured, each with what went wrong."""
        self.seconds: dict[str, float] = {}
        """What each part of the plan took."""
        self.warnings: list[str] = []
        """Warnings for readers of the figures (quiet.py)."""
        self._samples: dict[tuple[str, str], list[float]] = {}
        self._units: dict[str, str] = {}

    def add(self, case: str, path: str, value: float, unit: str) -> None:
        self._samples.setdefault((case, path), []).append(value)
        self._units[case] = unit

    def median(self, case: str, path: str) -> float | None:
        """The median of the samples; None: not measured."""
        samples = self._samples.get((case, path))
        return statistics.median(samples) if samples else None

    def spread(self, goal: Goal) -> tuple[float, float] | None:
        """The smallest and the largest ratio of a round; None without a round that has both."""
        values = self._samples.get((goal.case, goal.path), [])
        others = self._samples.get((goal.other_case or goal.case, goal.other), [])
        ratios = [value / other for value, other in zip(values, others, strict=False) if other]
        return (min(ratios), max(ratios)) if ratios else None

    def ratio(self, goal: Goal) -> float | None:
        """The ratio of the medians; None when one of them was not measured."""
        value, other = self.median(goal.case, goal.path), self.median(goal.other_case or goal.case, goal.other)
        return None if value is None or not other else value / other

    @property
    def cases(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(case for case, _ in self._samples))

    @property
    def paths(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(path for _, path in self._samples))

    def unit(self, case: str) -> str:
        return self._units[case]

    def to_json(self) -> dict[str, Any]:
        results = [
            {
                "case": case,
                "path": path,
                "unit": self._units[case],
                "median": round(statistics.median(samples), 4),
                "samples": [round(sample, 4) for sample in samples],
            }
            for (case, path), samples in self._samples.items()
        ]
        seconds = {name: round(value, 1) for name, value in self.seconds.items()}
        notes = {"skipped": self.skipped, "failed": self.failed, "seconds": seconds, "warnings": self.warnings}
        return {"version": VERSION, "machine": asdict(self.machine), "results": results, **notes}

    def write(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(self.to_json(), indent=1, allow_nan=False) + "\n", encoding="utf-8")

    def medians_table(self) -> Table:
        """A row for each case, a column for each path."""
        rows = tuple(
            (case, self._units[case], *(_text(self.median(case, path)) for path in self.paths)) for case in self.cases
        )
        return Table("Medians", ("case", "unit", *self.paths), rows)

    def ratios_table(self, reference: str = "vxlan") -> Table:
        """How many times better (throughput) or more expensive (cost) than the reference."""
        paths = [path for path in self.paths if path != reference]
        rows = []
        for case in self.cases:
            other = self.median(case, reference)
            if other:
                values = (self.median(case, path) for path in paths)
                word = "lower" if self._units[case] in _LOWER_IS_BETTER else "higher"
                rows.append((case, word, *(_text(None if value is None else value / other) for value in values)))
        return Table(f"Ratios to {reference}", ("case", "good is", *paths), tuple(rows))

    def goals_table(self) -> Table:
        """The goals, and what was measured."""
        rows: list[tuple[str, ...]] = []
        for goal in GOALS:
            ratio = self.ratio(goal)
            if ratio is not None:
                is_reached = ratio <= goal.factor if goal.is_most else ratio >= goal.factor
                least, most = self.spread(goal) or (ratio, ratio)
                spread = f"{_text(least)} to {_text(most)}"
                rows.append((goal.name(), _text(ratio), spread, _text(goal.factor), _word(is_reached)))
        for case, limit in LIMITS.items():
            for path in self.paths:
                value = self.median(case, path)
                if value is not None:
                    name = f"{case}: {path} ({self._units[case]})"
                    rows.append((name, _text(value), "", _text(limit), _word(value <= limit)))
        return Table("Goals", ("figure", "measured", "rounds", "goal", ""), tuple(rows))


def lines(tables: Sequence[Table]) -> list[str]:
    """The tables as text, with an empty line between them."""
    return [line for table in tables if table.rows for line in (*table.lines(), "")]


def _word(is_reached: bool) -> str:
    return "reached" if is_reached else "missed"


def _text(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.2f}"

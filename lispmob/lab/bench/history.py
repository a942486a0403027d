"""Medians by commit, a line of JSON for each run: the history of the figures, on any machines."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from lispmob.lab.bench.results import Results

_ROOT: Final = Path(__file__).parents[3]


def entry(results: Results, commit: str, at: datetime, warnings: Sequence[str]) -> dict[str, Any]:
    """An entry for a run: commit, time, machine, warnings, and {case: {path: median}}."""
    medians: dict[str, dict[str, float]] = {}
    for case in results.cases:
        found = {path: results.median(case, path) for path in results.paths}
        medians[case] = {path: round(value, 3) for path, value in found.items() if value is not None}
    machine = results.machine
    where = f"{machine.processors} x {machine.processor}, Linux {machine.kernel}"
    when = at.astimezone(UTC).strftime("%Y-%m-%d %H:%M")
    return {"commit": commit, "at": when, "machine": where, "warnings": list(warnings), "medians": medians}


def append(path: Path, line: dict[str, Any]) -> None:
    """Append a run to the file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line, allow_nan=False) + "\n")


def commit_of(tree: Path = _ROOT) -> str:
    """The checked-out commit, with a + if the tree has changes; "unknown" outside of git."""
    command = ["git", "-C", str(tree), "describe", "--always", "--abbrev=9", "--dirty=+", "--exclude=*"]
    told = subprocess.run(command, capture_output=True, text=True, check=False, timeout=20)
    return told.stdout.strip() if told.returncode == 0 else "unknown"

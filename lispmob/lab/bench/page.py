"""The page docs/bench/goals.md: machine, goals and ratios of one run, as Markdown. Pure."""

from __future__ import annotations

from datetime import UTC, datetime

from lispmob.lab.bench.results import Results


def text(results: Results, commit: str, at: datetime) -> str:
    """The page of a run at `commit` that ended at `at`."""
    machine = results.machine
    where = f"{machine.processors} x {machine.processor}, Linux {machine.kernel}"
    origin = f"Commit {commit}, {at.astimezone(UTC):%Y-%m-%d %H:%M} UTC, {where}."
    parts = [
        "# Goals and ratios of one run\n",
        f"`make bench` wrote this page; what the figures mean is in [README.md](README.md). {origin}\n",
        *(f"**Warning**: {warning}.\n" for warning in results.warnings),
        *(f"**Not measured**: {name}: {why}.\n" for name, why in (results.skipped | results.failed).items()),
    ]
    for table in (results.goals_table(), results.ratios_table(), results.medians_table()):
        if table.rows:
            parts += [f"## {table.title}\n", table.markdown()]
    return "\n".join(parts)

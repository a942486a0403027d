"""The resident memory of a node after all chapters."""

from __future__ import annotations

from typing import Final

from lispmob.lab.demo.stage import Stage
from lispmob.lab.report import figure

CLAIMS: Final = ("resident-memory",)
_GOAL_MB: Final = 60.0


def play(stage: Stage) -> None:
    """The larger of the two nodes counts. MB are 10^6 octets."""
    stage.check_services()
    sizes = {name: node.daemon.resident_bytes() / 1e6 for name, node in stage.nodes.items()}
    stage.report.check(figure("resident-memory", max(sizes.values()), "MB", _GOAL_MB))
    stage.screen.say("  resident: " + ", ".join(f"{name} {size:.1f} MB" for name, size in sizes.items()))

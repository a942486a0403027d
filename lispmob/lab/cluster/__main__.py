"""`python -m lispmob.lab.cluster`: three hubs and six servers, faults, and their effect on nodes.

Exit code: 0 when everything that was claimed happened (a figure beyond its goal is reported, and does not change the
code), 1 when a claim did not happen, 77 when this machine cannot make namespaces or has no server.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from lispmob.errors import LispError
from lispmob.lab import namespace
from lispmob.lab.cluster.scene import CLAIMS, Scene
from lispmob.lab.report import Machine, Report
from lispmob.lab.valkey import program

EXIT_FAILED: Final = 1
EXIT_UNAVAILABLE: Final = 77
CHAPTERS: Final = ("visible", "replay", "kill_a_hub", "kill_a_primary", "cut_a_primary", "make_islands")
_OUTPUT: Final = Path("build/cluster-demo")


def main(argv: Sequence[str] | None = None) -> int:
    """Play all chapters, or some; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m lispmob.lab.cluster", description="Three hubs that share six servers. Needs root."
    )
    parser.add_argument("--chapter", action="append", choices=CHAPTERS, help="only this; repeatable")
    parser.add_argument("--output", type=Path, default=_OUTPUT, metavar="DIR", help="where the report goes")
    arguments = parser.parse_args(argv)
    if (why := namespace.why_unavailable() or _why_no_server()) is not None:
        print(f"cluster-demo: {why}", file=sys.stderr)
        return EXIT_UNAVAILABLE
    namespace.sweep()
    report = Report(time.monotonic(), Machine.here())
    try:
        with (
            tempfile.TemporaryDirectory(prefix="lispmob-cluster-") as directory,
            Scene(Path(directory), report) as scene,
        ):
            for chapter in arguments.chapter or CHAPTERS:
                print(chapter.replace("_", " "), flush=True)
                getattr(scene, chapter)()
    except LispError as error:
        print(f"cluster-demo: {error}", file=sys.stderr)
    if arguments.chapter is None:
        report.claim(CLAIMS)
    report.write(arguments.output / "report.json")
    for check in report.checks:
        goal = "" if check.goal is None else f" (goal {check.goal} {check.unit})"
        value = "" if check.value is None else f": {check.value} {check.unit}{goal}"
        print(f"  {check.verdict.value:14} {check.name}{value}")
    print(arguments.output / "report.json")
    return 0 if report.has_succeeded else EXIT_FAILED


def _why_no_server() -> str | None:
    return None if program() is not None else "no Valkey or Redis server: apt-get install redis-tools"


if __name__ == "__main__":
    sys.exit(main())

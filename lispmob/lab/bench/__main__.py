"""`python -m lispmob.lab.bench`: measure every path and the references, print medians, ratios and goals.

All paths take turns in each round, so that other load of the machine affects them alike. Exit code: 0 when everything
was measured (missed goals are reported, and do not change the code), 1 when a measurement failed, 77 without
namespaces. A tier that cannot run here is skipped, and the reason is reported.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from lispmob.errors import LispError
from lispmob.lab import namespace
from lispmob.lab.bench import compare, history, page, plan
from lispmob.lab.bench.paths import PATHS
from lispmob.lab.bench.quiet import Quiet
from lispmob.lab.bench.results import Results, lines
from lispmob.lab.bench.run import Run
from lispmob.lab.report import Machine

EXIT_FAILED: Final = 1
EXIT_UNAVAILABLE: Final = 77
_OUTPUT: Final = Path("build/bench")
_SECONDS: Final = 1.5


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m lispmob.lab.bench",
        description="The datapath beside bare veth, kernel VXLAN and a plain TUN loop, in one run. Needs root.",
    )
    parser.add_argument("--quick", action="store_true", help="one short round: a first look, no figures")
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="samples for each median (default: 5)")
    parser.add_argument(
        "--minutes", type=float, default=plan.BUDGET_S / 60, metavar="M", help="fewer rounds if need be"
    )
    parser.add_argument("--seconds", type=float, default=_SECONDS, metavar="S", help=f"of each stream ({_SECONDS:g})")
    parser.add_argument("--case", action="append", choices=plan.CASES, help="only this; repeatable")
    parser.add_argument("--path", action="append", choices=PATHS, help="only this path; repeatable")
    parser.add_argument("--output", type=Path, default=_OUTPUT, metavar="DIR", help="for report.json and the pictures")
    parser.add_argument("--history", type=Path, metavar="FILE", help="add the medians to this file, a line a run")
    parser.add_argument("--page", type=Path, metavar="FILE", help="write machine, goals and ratios as Markdown")
    parser.add_argument("--compare", metavar="REV", help="measure another revision in turn, and print the ratios")
    arguments = parser.parse_args(argv)
    if arguments.quick:
        arguments.rounds, arguments.seconds = 1, 1
    whole = (*plan.TRAFFIC_CASES, *plan.OTHER_CASES)
    arguments.case = arguments.case or list(compare.CASES if arguments.compare else whole)
    arguments.path = arguments.path or list(compare.PATHS if arguments.compare else PATHS)
    return arguments


def main(argv: Sequence[str] | None = None) -> int:
    arguments = parse(argv)
    if reason := namespace.why_unavailable():
        print(f"bench: {reason}", file=sys.stderr)
        return EXIT_UNAVAILABLE
    namespace.sweep()
    quiet = Quiet()
    code = _compare(arguments) if arguments.compare else _measure(arguments, quiet)
    for warning in quiet.warnings():
        print(f"warning: {warning}")
    return code


def _measure(arguments: argparse.Namespace, quiet: Quiet) -> int:
    results = Results(Machine.here())
    words = arguments.case, arguments.path, arguments.rounds, arguments.seconds, 60 * arguments.minutes
    with tempfile.TemporaryDirectory(prefix="lispmob-bench-") as directory:
        Run(results, Path(directory), *words).measure()
    results.warnings = quiet.warnings()
    results.write(arguments.output / "report.json")
    if arguments.history is not None:
        told = [*results.warnings, *(f"{name} is missing" for name in results.failed)]
        history.append(arguments.history, history.entry(results, history.commit_of(), datetime.now(UTC), told))
    if arguments.page is not None:
        arguments.page.parent.mkdir(parents=True, exist_ok=True)
        arguments.page.write_text(page.text(results, history.commit_of(), datetime.now(UTC)), encoding="utf-8")
    with contextlib.suppress(ImportError):  # without matplotlib: no pictures
        from lispmob.lab.bench import charts

        charts.draw(results, arguments.output)
    tables = (results.medians_table(), results.ratios_table(), results.goals_table())
    print("\n".join(lines(tables)))
    for path, reason in results.skipped.items():
        print(f"not measured: {path}: {reason}")
    for name, fault in results.failed.items():
        print(f"bench: {name}: {fault}", file=sys.stderr)
    print(f"{arguments.output / 'report.json'}")
    return EXIT_FAILED if results.failed else 0


def _compare(arguments: argparse.Namespace) -> int:
    before: list[compare.Round] = []
    now: list[compare.Round] = []
    here = Path(__file__).parents[3]
    try:
        with (
            tempfile.TemporaryDirectory(prefix="lispmob-bench-") as directory,
            compare.checked_out(arguments.compare, Path(directory) / "tree") as tree,
        ):
            for number in range(arguments.rounds):
                for name, place, rounds in ((arguments.compare, tree, before), ("this tree", here, now)):
                    print(f"round {number + 1} of {arguments.rounds}: {name}", flush=True)
                    output = Path(directory) / "output"
                    rounds.append(compare.measure(place, output, arguments.case, arguments.path, arguments.seconds))
    except LispError as error:
        print(f"bench: {error}", file=sys.stderr)
        return EXIT_FAILED
    print("\n".join(lines([compare.table(arguments.compare, before, now)])))
    return 0


if __name__ == "__main__":
    sys.exit(main())

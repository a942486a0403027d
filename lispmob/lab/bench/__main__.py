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
from lispmob.lab.bench import compare, history
from lispmob.lab.bench.quiet import Quiet
from lispmob.lab.bench.results import Results, lines
from lispmob.lab.bench.run import OTHER_CASES, TRAFFIC_CASES, Run
from lispmob.lab.bench.sealed import SEALED_PATHS
from lispmob.lab.bench.wire import NIC_PATHS, NOSEG, PATHS, SUFFIX
from lispmob.lab.report import Machine

EXIT_FAILED: Final = 1
EXIT_UNAVAILABLE: Final = 77
_OUTPUT: Final = Path("build/bench")
_CASES: Final = (*TRAFFIC_CASES, *OTHER_CASES)
_MINUTES: Final = 9.0  # for all rounds; the set-up takes most of another


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m lispmob.lab.bench",
        description="The datapath beside bare veth, kernel VXLAN and a plain TUN loop, in one run. Needs root.",
    )
    paths = [*PATHS, *(path + NOSEG for path in PATHS), *NIC_PATHS, f"tun{SUFFIX}", f"ebpf{SUFFIX}", *SEALED_PATHS]
    parser.add_argument("--quick", action="store_true", help="one short round: a first look, no figures")
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="samples for each median (default: 5)")
    parser.add_argument("--minutes", type=float, default=_MINUTES, metavar="M", help="about; fewer rounds if need be")
    parser.add_argument("--seconds", type=int, default=2, metavar="S", help="of each TCP stream (default: 2)")
    parser.add_argument("--case", action="append", choices=_CASES, help="only this; repeatable")
    parser.add_argument("--path", action="append", choices=paths, help="only this path; repeatable")
    parser.add_argument("--output", type=Path, default=_OUTPUT, metavar="DIR", help="for report.json and the pictures")
    parser.add_argument("--history", type=Path, metavar="FILE", help="add the medians to this file, a line a run")
    parser.add_argument("--compare", metavar="REV", help="measure another revision in turn, and print the ratios")
    arguments = parser.parse_args(argv)
    if arguments.quick:
        arguments.rounds, arguments.seconds = 1, 1
    chosen = compare.CASES, compare.PATHS
    arguments.case = arguments.case or list(chosen[0] if arguments.compare else _CASES)
    arguments.path = arguments.path or list(chosen[1] if arguments.compare else paths)
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
    code, budget_s = 0, 60 * arguments.minutes
    words = arguments.case, arguments.path, arguments.rounds, arguments.seconds, budget_s
    try:
        with tempfile.TemporaryDirectory(prefix="lispmob-bench-") as directory:
            Run(results, Path(directory), *words).measure()
    except LispError as error:
        print(f"bench: {error}", file=sys.stderr)
        code = EXIT_FAILED
    results.warnings = quiet.warnings()
    results.write(arguments.output / "report.json")
    if arguments.history is not None and code == 0:
        line = history.entry(results, history.commit_of(), datetime.now(UTC), results.warnings)
        history.append(arguments.history, line)
    with contextlib.suppress(ImportError):  # without matplotlib there are no pictures
        from lispmob.lab.bench import charts

        charts.draw(results, arguments.output)
    tables = (results.medians_table(), results.ratios_table(), results.goals_table())
    print("\n".join(lines(tables)))
    for path, reason in results.skipped.items():
        print(f"not measured: {path}: {reason}")
    print(f"{arguments.output / 'report.json'}")
    return code


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

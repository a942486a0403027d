"""`python -m lispmob.lab.bench`: measure every path beside the references, print medians, ratios and goals.

All paths take turns in each round, so that what else the machine does hits them alike. Exit code: 0 when everything was
measured (goals missed are told, and do not change the code), 1 when something could not be, 77 without namespaces. A
tier that cannot run here is left out, and the reason is told.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from lispmob.errors import LispError
from lispmob.lab import namespace
from lispmob.lab.bench.relayed import SUFFIX
from lispmob.lab.bench.results import Results, lines
from lispmob.lab.bench.run import OTHER_CASES, TRAFFIC_CASES, Run
from lispmob.lab.bench.sealed import SEALED_PATHS
from lispmob.lab.bench.wire import NOSEG, PATHS
from lispmob.lab.report import Machine

EXIT_FAILED: Final = 1
EXIT_UNAVAILABLE: Final = 77
_OUTPUT: Final = Path("build/bench")
_CASES: Final = (*TRAFFIC_CASES, *OTHER_CASES)


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m lispmob.lab.bench",
        description="The datapath beside bare veth, kernel VXLAN and a plain TUN loop, in one run. Needs root.",
    )
    paths = [*PATHS, *(path + NOSEG for path in PATHS), f"tun{SUFFIX}", f"ebpf{SUFFIX}", *SEALED_PATHS]
    parser.add_argument("--quick", action="store_true", help="one short round: a first look, no figures")
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="samples for each median (default: 5)")
    parser.add_argument("--seconds", type=int, default=2, metavar="S", help="of each TCP stream (default: 2)")
    parser.add_argument("--case", action="append", choices=_CASES, help="only this; repeatable")
    parser.add_argument("--path", action="append", choices=paths, help="only this path; repeatable")
    parser.add_argument("--output", type=Path, default=_OUTPUT, metavar="DIR", help="for report.json and the pictures")
    arguments = parser.parse_args(argv)
    if arguments.quick:
        arguments.rounds, arguments.seconds = 1, 1
    arguments.case = arguments.case or list(_CASES)
    arguments.path = arguments.path or paths
    return arguments


def main(argv: Sequence[str] | None = None) -> int:
    arguments = parse(argv)
    if reason := namespace.why_unavailable():
        print(f"bench: {reason}", file=sys.stderr)
        return EXIT_UNAVAILABLE
    namespace.sweep()
    results = Results(Machine.here())
    code = 0
    try:
        with tempfile.TemporaryDirectory(prefix="lispmob-bench-") as directory:
            Run(results, Path(directory), arguments.case, arguments.path, arguments.rounds, arguments.seconds).measure()
    except LispError as error:
        print(f"bench: {error}", file=sys.stderr)
        code = EXIT_FAILED
    results.write(arguments.output / "report.json")
    with contextlib.suppress(ImportError):  # without matplotlib: no pictures
        from lispmob.lab.bench import charts

        charts.draw(results, arguments.output)
    tables = (results.medians_table(), results.ratios_table(), results.goals_table())
    print("\n".join(lines(tables)))
    for path, reason in results.skipped.items():
        print(f"not measured: {path}: {reason}")
    print(f"{arguments.output / 'report.json'}")
    return code


if __name__ == "__main__":
    sys.exit(main())

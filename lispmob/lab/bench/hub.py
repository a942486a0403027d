"""`python -m lispmob.lab.bench.hub`: the cost of a hub, in the format of the datapath's bench.

Exit code: 0 when everything was measured (missed goals are reported, and do not change the code), 1 when a measurement
failed, 77 without namespaces.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from lispmob.errors import LispError
from lispmob.lab import namespace
from lispmob.lab.bench.hub_run import CASES, STARTS, HubRun
from lispmob.lab.bench.results import Results, lines
from lispmob.lab.cluster.measure import measure_size
from lispmob.lab.report import Machine

EXIT_FAILED: Final = 1
EXIT_UNAVAILABLE: Final = 77
_OUTPUT: Final = Path("build/hub-bench")


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m lispmob.lab.bench.hub", description="What a hub costs; needs root."
    )
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="samples for each median (default: 3)")
    parser.add_argument(
        "--minutes", type=float, default=10.0, metavar="N", help="begin no round that takes longer (default: 10)"
    )
    parser.add_argument("--case", action="append", choices=CASES, help="only this; repeatable")
    parser.add_argument("--start", type=int, action="append", metavar="N", help="registrations of a start; repeatable")
    parser.add_argument(
        "--beside", type=Path, metavar="DIR", help="measure the hub of another checkout in turn, which has measure_core"
    )
    parser.add_argument("--size", type=int, metavar="N", help="only: so many registrations in servers that hubs share")
    parser.add_argument("--output", type=Path, default=_OUTPUT, metavar="DIR", help="for report.json")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    arguments = parse(argv)
    if reason := namespace.why_unavailable():
        print(f"hub-bench: {reason}", file=sys.stderr)
        return EXIT_UNAVAILABLE
    namespace.sweep()
    results, code = Results(Machine.here()), 0
    before: dict[str, Path | None] = {} if arguments.beside is None else {"before": arguments.beside.resolve()}
    try:
        with tempfile.TemporaryDirectory(prefix="lispmob-hub-bench-") as directory:
            if arguments.size is not None:
                measure_size(results, Path(directory), arguments.size, has_replicas=False, seconds=20.0)
                arguments.case, arguments.rounds = [], 0
            run = HubRun(results, Path(directory), {**before, "": None})
            cases = list(CASES) if arguments.case is None else arguments.case
            run.measure(cases, arguments.rounds, tuple(arguments.start or STARTS), arguments.minutes)
            code = EXIT_FAILED if run.failed else 0
            results.skipped.update(run.failed)
    except (LispError, subprocess.SubprocessError) as error:
        print(f"hub-bench: {error}", file=sys.stderr)
        code = EXIT_FAILED
    results.write(arguments.output / "report.json")
    print("\n".join(lines((results.medians_table(), results.goals_table()))))
    print(f"{arguments.output / 'report.json'}")
    return code


if __name__ == "__main__":
    sys.exit(main())

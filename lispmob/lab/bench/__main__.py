"""`python -m lispmob.lab.bench`: measure every path beside the references, print medians, ratios and goals.

All paths take turns in each round, so that what else the machine does hits them alike. Exit code: 0 when everything was
measured (goals missed are told, and do not change the code), 1 when something could not be, 77 without namespaces.
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
from lispmob.lab.bench import idle, sanity, traffic
from lispmob.lab.bench.overlay import Overlay
from lispmob.lab.bench.results import Results, lines
from lispmob.lab.bench.traffic import Figures
from lispmob.lab.bench.wire import NOSEG, PATHS, Way, Wire
from lispmob.lab.report import Machine

EXIT_FAILED: Final = 1
EXIT_UNAVAILABLE: Final = 77
_OUTPUT: Final = Path("build/bench")
_TRAFFIC: Final = ("tcp1", "tcp4", "udp64", "udp512", "udp1400", "rtt", "rtt-loaded")
_OTHERS: Final = ("idle", "table", "start")
_NOSEG_CASES: Final = ("tcp1", "udp64")
_IDLE_S: Final = 20.0


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m lispmob.lab.bench",
        description="The datapath beside bare veth, kernel VXLAN and a plain TUN loop, in one run. Needs root.",
    )
    paths = [*PATHS, *(path + NOSEG for path in PATHS)]
    parser.add_argument("--quick", action="store_true", help="two rounds of one second: a first look, no figures")
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="samples for each median (default: 5)")
    parser.add_argument("--seconds", type=float, default=3.0, metavar="S", help="of each stream (default: 3)")
    parser.add_argument("--case", action="append", choices=[*_TRAFFIC, *_OTHERS], help="only this; repeatable")
    parser.add_argument("--path", action="append", choices=paths, help="only this path; repeatable")
    parser.add_argument("--output", type=Path, default=_OUTPUT, metavar="DIR", help="for report.json and bench.svg")
    arguments = parser.parse_args(argv)
    if arguments.quick:
        arguments.rounds, arguments.seconds = 2, 1.0
    arguments.case = arguments.case or [*_TRAFFIC, *_OTHERS]
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
            _measure(arguments, results, Path(directory))
    except LispError as error:
        print(f"bench: {error}", file=sys.stderr)
        code = EXIT_FAILED
    results.write(arguments.output / "report.json")
    with contextlib.suppress(ImportError):  # without matplotlib: no pictures
        from lispmob.lab.bench import charts

        charts.draw(results, arguments.output / "bench.svg")
    tables = (results.medians_table(), results.ratios_table(), results.goals_table())
    print("\n".join(lines(tables)))
    print(f"{arguments.output / 'report.json'}")
    return code


def _measure(arguments: argparse.Namespace, results: Results, directory: Path) -> None:
    cases = set(arguments.case)
    if cases & {*_TRAFFIC, "idle"}:
        with Wire(directory / "wire") as wire:
            _measure_wire(arguments, results, wire)
    if "table" in cases:
        for _ in range(arguments.rounds):
            _note(results, "tun", idle.table())
    if "start" in cases:
        with Overlay(directory / "overlay") as overlay:
            for number in range(arguments.rounds):
                _note(results, "tun", overlay.sample(number))


def _measure_wire(arguments: argparse.Namespace, results: Results, wire: Wire) -> None:
    paths = [wire.path(name) for name in arguments.path]
    for path in paths:
        wire.settle(path)
        print(f"{path.name}: {sanity.check(wire, path)} packets seen on the cable as they should be", flush=True)
    if "idle" in arguments.case:
        _note(results, "tun", idle.idle(wire.nodes[0].daemon, _IDLE_S))
    for number in range(arguments.rounds):
        bare_us: float | None = None
        for path in paths:
            print(f"round {number + 1} of {arguments.rounds}: {path.name}", flush=True)
            with wire.offloads(path):
                for case in _cases_of(arguments, path):
                    figures = _figures(wire, path, case, arguments.seconds)
                    _note(results, path.name, figures)
                    if path.name == "veth" and "rtt" in figures:
                        bare_us = figures["rtt"][0]
                    elif bare_us is not None and "rtt" in figures:
                        results.add("rtt-added", path.name, figures["rtt"][0] - bare_us, "us")


def _cases_of(arguments: argparse.Namespace, path: Way) -> list[str]:
    wanted = _NOSEG_CASES if path.name.endswith(NOSEG) else _TRAFFIC
    return [case for case in wanted if case in arguments.case]


def _figures(wire: Wire, path: Way, case: str, seconds: float) -> Figures:
    if case.startswith("tcp"):
        return traffic.tcp(wire, path, int(case.removeprefix("tcp")), seconds)
    if case.startswith("udp"):
        return traffic.udp(wire, path, int(case.removeprefix("udp")), seconds)
    if case == "rtt":
        return traffic.round_trip(wire, path)
    return traffic.round_trip_under_load(wire, path, max(2.0, seconds))


def _note(results: Results, path: str, figures: Figures) -> None:
    for case, (value, unit) in figures.items():
        results.add(case, path, value, unit)


if __name__ == "__main__":
    sys.exit(main())

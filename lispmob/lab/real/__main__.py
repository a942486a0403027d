"""`python -m lispmob.lab.real [NAME] [--tier TIER]`: list the scenarios, or play one and print its check as JSON.

Exit code: 0 when its claim happened (a figure beyond its goal is reported), 1 when it did not, 77 without root.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

from lispmob.errors import LispError
from lispmob.lab import namespace
from lispmob.lab.real.catalogue import SCENARIOS, by_name
from lispmob.lab.real.world import World
from lispmob.lab.report import Verdict


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m lispmob.lab.real", description="Play one network of real life.")
    parser.add_argument("name", nargs="?", choices=[scenario.name for scenario in SCENARIOS])
    parser.add_argument("--tier", default="auto", choices=("auto", "tun", "ebpf"), help="the datapath of the nodes")
    arguments = parser.parse_args()
    if arguments.name is None:
        for scenario in SCENARIOS:
            print(f"{scenario.name:32} {scenario.title}")
        return 0
    if reason := namespace.why_unavailable():
        print(f"real: {reason}", file=sys.stderr)
        return 77
    try:
        with (
            tempfile.TemporaryDirectory(prefix="lispmob-real-") as directory,
            World(Path(directory), tier=arguments.tier) as world,
        ):
            check = by_name(arguments.name).run(world)
    except LispError as error:
        print(f"real: {error}", file=sys.stderr)
        return 1
    print(json.dumps({**check.to_json(), "has_happened": check.has_happened}))
    return 1 if check.verdict is Verdict.ABSENT else 0


if __name__ == "__main__":
    sys.exit(main())

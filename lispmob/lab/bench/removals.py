"""`python -m lispmob.lab.bench.removals`: lose one of two uplinks over and over, and count how long TCP stood still.

Both count, the loss and the moment in which the uplink comes back.

The laboratory is that of the demonstration: two nodes with two uplinks each, links of 20 ms, their hub. A stream runs
from the node that loses its better uplink; its gaps are the kernel's own (`lab/tcp_clock.py`). Exit code: 0 when no gap
was longer than the goal, 1 when one was, 77 when this machine cannot make namespaces.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Final

from lispmob.lab import move as moves
from lispmob.lab import namespace
from lispmob.lab.build import Lab
from lispmob.lab.demo.chapters import start
from lispmob.lab.demo.screen import PlainScreen
from lispmob.lab.demo.stage import A, B, Stage
from lispmob.lab.move import Kind, Move
from lispmob.lab.report import Machine, Report
from lispmob.lab.tcp_stream import TcpStream
from lispmob.lab.topology import roaming

EXIT_FAILED: Final = 1
EXIT_UNAVAILABLE: Final = 77
GOAL_S: Final = 0.25  # over links of 20 ms: what is lost is missed after a round trip of 80 ms, and sent again
KINDS: Final = {"address": Kind.ADDRESS_REMOVED, "route": Kind.ROUTE_REMOVED, "link": Kind.LINK_DOWN}
TIERS: Final = ("ebpf", "tun")
AWAY_S: Final = 1.0
BACK_S: Final = 3.0
MARGIN_S: Final = 0.5  # what began so long before belongs to it: a gap begins with the last acknowledgement
UPLINK: Final = "wlan0"
PORT: Final = 47_200
PACE_S: Final = 0.001  # a packet is always under way when the uplink goes


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m lispmob.lab.bench.removals", description=__doc__)
    parser.add_argument("--count", type=int, default=100, help="removals of each kind in each tier")
    parser.add_argument("--kind", action="append", choices=list(KINDS), help="only this kind; several may be given")
    parser.add_argument("--tier", action="append", choices=TIERS, help="only this tier; several may be given")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    arguments = parse(argv)
    if reason := namespace.why_unavailable():
        print(f"removals: {reason}", file=sys.stderr)
        return EXIT_UNAVAILABLE
    worst_s = 0.0
    for tier in arguments.tier or TIERS:
        for kind in arguments.kind or KINDS:
            lost, back = play(tier, KINDS[kind], arguments.count)
            worst_s = max(worst_s, *lost, *back)
            print(json.dumps(summary(tier, kind, lost, back)), flush=True)
    return 0 if worst_s <= GOAL_S else EXIT_FAILED


def play(tier: str, kind: Kind, count: int) -> tuple[list[float], list[float]]:
    """The longest TCP gap around each of `count` removals, and after them, seconds. Raises ProcessFailed."""
    report = Report(time.monotonic(), Machine.here())
    with tempfile.TemporaryDirectory(prefix="lispmob-removals-") as directory, Lab(roaming()) as lab:
        stage = Stage(lab, report, PlainScreen(), Path(directory), Path(directory, "kept"))
        try:
            stage.more_configuration = f"datapath: {{tier: {tier}}}\n"
            start.play(stage)
            with TcpStream(stage.party(A), stage.party(B), port=PORT, pace_s=PACE_S) as stream:
                time.sleep(BACK_S)
                lost_at = [_lose(stage, kind) for _ in range(count)]
                result = stream.finish()
        finally:
            stage.close()
    if not result.is_alive:
        raise SystemExit(f"removals: the stream did not live through it: {result.error or 'octets are missing'}")
    lost = [_longest(result.tcp_gaps, at - MARGIN_S, at + AWAY_S) for at in lost_at]
    return lost, [_longest(result.tcp_gaps, at + AWAY_S, at + AWAY_S + BACK_S - MARGIN_S) for at in lost_at]


def summary(tier: str, kind: str, lost: Sequence[float], back: Sequence[float]) -> dict[str, object]:
    """What is said of one kind in one tier; gaps of 0 were shorter than a tenth of a second."""
    return {
        "tier": tier,
        "kind": kind,
        "removals": len(lost),
        "worst_ms": round(max(lost) * 1000),
        "median_ms": round(median(lost) * 1000),
        "beyond_goal": sum(gap > GOAL_S for gap in lost),
        "worst_back_ms": round(max(back) * 1000),
        "back_beyond_goal": sum(gap > GOAL_S for gap in back),
    }


def _longest(gaps: Sequence[tuple[float, float]], start: float, end: float) -> float:
    """Of the gaps that began between the two."""
    return max((gap for began_at, gap in gaps if start <= began_at < end), default=0.0)


def _lose(stage: Stage, kind: Kind) -> float:
    moment = moves.perform(stage.lab, Move(kind, "a", UPLINK))
    time.sleep(AWAY_S)
    moves.perform(stage.lab, Move(Kind.RESTORED, "a", UPLINK))
    time.sleep(BACK_S)
    stage.check_services()
    return moment.began_at


if __name__ == "__main__":
    sys.exit(main())

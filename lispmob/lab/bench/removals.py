"""`python -m lispmob.lab.bench.removals`: lose one of two uplinks repeatedly, and measure how long TCP stalled.

Both the loss and the return of the uplink are measured.

The laboratory is that of the demonstration: two nodes with two uplinks each, links of 20 ms, their hub. A stream runs
from the node that loses its better uplink; its gaps are the kernel's own (`lab/tcp_clock.py`). Exit code: 0 when no gap
was longer than the goal, 1 when a gap was, 77 when this machine cannot make namespaces.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import Final

from lispmob.lab import move as moves
from lispmob.lab import namespace
from lispmob.lab.build import Lab
from lispmob.lab.demo.chapters import start
from lispmob.lab.demo.screen import PlainScreen
from lispmob.lab.demo.stage import A, B, Stage
from lispmob.lab.handover import Message
from lispmob.lab.move import Kind, Move
from lispmob.lab.process import ProcessFailed
from lispmob.lab.report import Machine, Report
from lispmob.lab.tcp_stream import TcpStream
from lispmob.lab.topology import roaming

EXIT_FAILED: Final = 1
EXIT_UNAVAILABLE: Final = 77
GOAL_S: Final = 0.25  # over links of 20 ms: a loss is detected after a round trip of 80 ms, and repaired
KINDS: Final = {"address": Kind.ADDRESS_REMOVED, "route": Kind.ROUTE_REMOVED, "link": Kind.LINK_DOWN}
TIERS: Final = ("ebpf", "tun")
AWAY_S: Final = 1.0
BACK_S: Final = 1.7  # TCP's window has to grow: with a single segment in flight only a timeout reveals a loss
JOBS: Final = 1
MARGIN_S: Final = 0.5  # a gap begins with the last acknowledgement, so it may begin that long before the event
UPLINK: Final = "wlan0"
PORT: Final = 47_200
PACE_S: Final = 0.001  # so that a packet is always in flight when the uplink goes


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m lispmob.lab.bench.removals", description=__doc__)
    parser.add_argument("--count", type=int, default=100, help="removals of each kind in each tier")
    parser.add_argument("--kind", action="append", choices=list(KINDS), help="only this kind; several may be given")
    parser.add_argument("--tier", action="append", choices=TIERS, help="only this tier; several may be given")
    parser.add_argument("--jobs", type=int, default=JOBS, help="laboratories at the same time (default: %(default)s)")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    arguments = parse(argv)
    if reason := namespace.why_unavailable():
        print(f"removals: {reason}", file=sys.stderr)
        return EXIT_UNAVAILABLE
    wanted = [(tier, kind) for tier in arguments.tier or TIERS for kind in arguments.kind or KINDS]
    worst_s = 0.0
    with ProcessPoolExecutor(arguments.jobs, mp_context=get_context("spawn")) as pool:
        runs = {(tier, kind): pool.submit(play, tier, KINDS[kind], arguments.count) for tier, kind in wanted}
        for (tier, kind), run in runs.items():
            lost, back = run.result()
            worst_s = max(worst_s, *(gap.seconds for gap in (*lost, *back)))
            print(json.dumps(summary(tier, kind, lost, back)), flush=True)
    return 0 if worst_s <= GOAL_S else EXIT_FAILED


@dataclass(frozen=True, slots=True)
class Gap:
    """How long nothing was acknowledged, and when that began after the event. 0: shorter than a tenth of a second.

    `messages`: for a gap beyond the goal, the control messages meanwhile as text, with their time after the event.
    """

    seconds: float = 0.0
    began_after_s: float = 0.0
    messages: tuple[str, ...] = ()


def play(tier: str, kind: Kind, count: int) -> tuple[list[Gap], list[Gap]]:
    """The longest TCP gap around each of `count` removals, and around each return. Raises ProcessFailed."""
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
            seen = stage.watch.messages(lost_at[0])
        finally:
            stage.close()
    if not result.is_alive:
        raise ProcessFailed(f"the stream did not live through it: {result.error or 'octets are missing'}")
    lost = [_longest(result.tcp_gaps, at, at - MARGIN_S, at + AWAY_S, seen) for at in lost_at]
    back_at = [at + AWAY_S for at in lost_at]
    return lost, [_longest(result.tcp_gaps, at, at, at + BACK_S - MARGIN_S, seen) for at in back_at]


def summary(tier: str, kind: str, lost: Sequence[Gap], back: Sequence[Gap]) -> dict[str, object]:
    """The summary of one kind in one tier."""
    worst, worst_back = max(lost, key=_seconds), max(back, key=_seconds)
    return {
        "tier": tier,
        "kind": kind,
        "removals": len(lost),
        "worst_ms": round(worst.seconds * 1000),
        "worst_began_ms": round(worst.began_after_s * 1000),
        "median_ms": round(median(map(_seconds, lost)) * 1000),
        "beyond_goal": sum(gap.seconds > GOAL_S for gap in lost),
        "worst_back_ms": round(worst_back.seconds * 1000),
        "worst_back_began_ms": round(worst_back.began_after_s * 1000),
        "back_beyond_goal": sum(gap.seconds > GOAL_S for gap in back),
        **({"messages": worst.messages} if worst.messages else {}),
        **({"messages_back": worst_back.messages} if worst_back.messages else {}),
    }


def _seconds(gap: Gap) -> float:
    return gap.seconds


def _longest(
    gaps: Sequence[tuple[float, float]], event_at: float, start: float, end: float, seen: Sequence[Message]
) -> Gap:
    """The longest of the gaps that began between `start` and `end`."""
    within = [(seconds, began_at) for began_at, seconds in gaps if start <= began_at < end]
    if not within:
        return Gap()
    seconds, began_at = max(within)
    meanwhile = [message for message in seen if event_at - 0.01 <= message.at < began_at + seconds]
    told = tuple(_words(message, event_at) for message in meanwhile) if seconds > GOAL_S else ()
    return Gap(seconds, began_at - event_at, told)


def _words(message: Message, event_at: float) -> str:
    verb = "sends" if message.is_out else "hears"
    return f"{(message.at - event_at) * 1000:.0f} ms {message.host} {verb} {message.kind}"


def _lose(stage: Stage, kind: Kind) -> float:
    moment = moves.perform(stage.lab, Move(kind, "a", UPLINK))
    time.sleep(AWAY_S)
    moves.perform(stage.lab, Move(Kind.RESTORED, "a", UPLINK))
    time.sleep(BACK_S)
    stage.check_services()
    return moment.began_at


if __name__ == "__main__":
    sys.exit(main())

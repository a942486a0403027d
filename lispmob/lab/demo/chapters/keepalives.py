"""Keepalives: as few packets as the NAT permits, none without a NAT; and a sleeping node whose NAT renumbers."""

from __future__ import annotations

import tempfile
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from lispmob.lab.demo.idle_stage import FORGETS_S, IdleStage, Keepalives
from lispmob.lab.demo.stage import Stage
from lispmob.lab.process import ProcessFailed
from lispmob.lab.report import fact, figure

CLAIMS: Final = (
    "nat.keepalives-per-minute",
    "nat.keepalives-without-nat",
    "nat.short-timeouts.both-ways",
    "nat.changed-address.idle-recovery",
)
_SOONEST_S: Final = 55.0  # no node can measure such a NAT sooner, so it is not asked before
_PATIENCE_S: Final = 30.0


@dataclass(frozen=True, slots=True)
class Idle:
    """What the sleeper sent after it had measured its NAT, and how it recovered when the NAT changed its address."""

    seen: Keepalives
    superfluous: int
    lost: int
    recovery_s: float | None


def begin(stage: Stage) -> None:
    """Start before all chapters: it takes a minute and hardly any processor time."""
    directory = stage.enter(tempfile.TemporaryDirectory(prefix="lispmob-idle-"))
    pool = stage.enter(ThreadPoolExecutor(1))
    idle = stage.enter(IdleStage(Path(directory)))
    stage.idle = pool.submit(_measure, idle)


def _measure(idle: IdleStage) -> Idle:
    idle.rest(_SOONEST_S)
    seen = idle.keepalives()
    if seen is None:
        raise ProcessFailed("the lifetime of the NAT's bindings was not measured in time")
    return Idle(seen, idle.sent_without_nat(), idle.lost_towards_sleeper(), idle.renumbered_recovery_s(_PATIENCE_S))


def play(stage: Stage) -> None:
    """Wait for the measurement, which is over by now, or nearly."""
    future: Future[Idle] | None = stage.idle
    if future is None:
        raise ProcessFailed("there are no sleeping nodes")
    report, found = stage.report, future.result(timeout=90.0)
    seen = found.seen
    stage.screen.say(
        f"  the NAT forgets after {FORGETS_S} s; measured: {seen.at_least_s:.1f} to {seen.below_s:.1f} s, "
        f"one packet every {seen.interval_s:.1f} s; {seen.count} in {seen.window_s:.1f} s"
    )
    is_right = seen.at_least_s <= FORGETS_S < seen.below_s + 1  # conntrack checks once a second
    per_minute, allowed = (count * 60 / seen.window_s if is_right else None for count in (seen.count, seen.allowed))
    report.check(figure("nat.keepalives-per-minute", per_minute, "1/min", allowed or 0.0))
    none_sent, none_lost = found.superfluous == 0, found.lost == 0
    report.check(fact("nat.keepalives-without-nat", ok=none_sent, value=found.superfluous, unit="packets", goal=0))
    report.check(fact("nat.short-timeouts.both-ways", ok=none_lost, value=found.lost, unit="packets lost", goal=0))
    ms = None if found.recovery_s is None else found.recovery_s * 1000
    report.check(figure("nat.changed-address.idle-recovery", ms, "ms", seen.interval_s * 1000))

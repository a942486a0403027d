"""Keepalives: as few packets as the NAT allows, none without one; and a sleeping node that its NAT forgets."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Final

from lispmob.lab.demo.idle_stage import FORGETS_S, IdleStage
from lispmob.lab.demo.stage import Stage
from lispmob.lab.process import ProcessFailed
from lispmob.lab.report import fact, figure

CLAIMS: Final = (
    "nat.keepalives-per-minute",
    "nat.keepalives-without-nat",
    "nat.short-timeouts.both-ways",
    "nat.changed-address.idle-recovery",
)
_PATIENCE_S: Final = 30.0


def begin(stage: Stage) -> None:
    """Started before everything else, and then left alone."""
    directory = stage.enter(tempfile.TemporaryDirectory(prefix="lispmob-idle-"))
    stage.idle = stage.enter(IdleStage(Path(directory)))


def play(stage: Stage) -> None:
    """What the sleeper sent since it knew its NAT, and what becomes of it when the NAT changes its address."""
    report, idle = stage.report, stage.idle
    seen = idle.keepalives() if idle is not None else None
    if idle is None or seen is None:
        raise ProcessFailed("the lifetime of the NAT's bindings was not measured in time")
    stage.screen.say(
        f"  the NAT forgets after {FORGETS_S} s; measured: {seen.at_least_s:.1f} to {seen.below_s:.1f} s, "
        f"one packet every {seen.interval_s:.1f} s; {seen.count} in {seen.window_s:.1f} s"
    )
    is_right = seen.at_least_s <= FORGETS_S < seen.below_s + 1  # conntrack looks once a second
    per_minute, allowed = (count * 60 / seen.window_s if is_right else None for count in (seen.count, seen.allowed))
    report.check(figure("nat.keepalives-per-minute", per_minute, "1/min", allowed or 0.0))
    superfluous = idle.sent_without_nat()
    report.check(fact("nat.keepalives-without-nat", ok=superfluous == 0, value=superfluous, unit="packets", goal=0))
    lost = idle.lost_towards_sleeper()
    report.check(fact("nat.short-timeouts.both-ways", ok=lost == 0, value=lost, unit="packets lost", goal=0))
    took = idle.renumbered_recovery_s(_PATIENCE_S)
    ms = None if took is None else took * 1000
    report.check(figure("nat.changed-address.idle-recovery", ms, "ms", seen.interval_s * 1000))

"""Ping: from EID to EID, in both directions, IPv4 and IPv6."""

from __future__ import annotations

import time
from typing import Final

from lispmob.lab.demo.stage import A, B, Stage
from lispmob.lab.ping import ping
from lispmob.lab.report import fact

CLAIMS: Final = ("ping.both-ways",)
_COUNT: Final = 5


def play(stage: Stage) -> None:
    """No packet may be lost, including those that wait for a mapping."""
    sent = lost = 0
    for source, destination in ((A, B), (B, A)):
        for own, other in ((source.eid4, destination.eid4), (source.eid6, destination.eid6)):
            seen = ping(stage.lab[source.name], other, own, count=_COUNT)
            sent, lost = sent + seen.sent, lost + seen.lost
            median_ms = None if seen.median_s is None else round(seen.median_s * 1000, 2)
            stage.report.event(
                "ping", time.monotonic(), source=str(own), destination=str(other), lost=seen.lost, median_ms=median_ms
            )
            stage.screen.say(f"  {own} to {other}: {seen.sent - seen.lost} of {seen.sent} answered, {median_ms} ms")
    stage.report.check(fact("ping.both-ways", ok=lost == 0 < sent, value=lost, unit="packets lost", goal=0))

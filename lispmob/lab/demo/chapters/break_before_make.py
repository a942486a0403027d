"""Break-before-make: the only uplink moves to another network; it loses the old address before it has the new one."""

from __future__ import annotations

import time
from typing import Final

from lispmob.lab.demo.stage import A, B, Stage
from lispmob.lab.handover import Way
from lispmob.lab.move import Kind, Move
from lispmob.lab.ping import ping
from lispmob.lab.process import ProcessFailed
from lispmob.lab.report import figure

CLAIMS: Final = ("break-before-make.gap-rtts.out", "break-before-make.gap-rtts.in")
_GOAL_RTTS: Final = 2.0
_GOAL_EXTRA_S: Final = 0.010
_SETTLE_S: Final = 6.0  # an EID may send three SMRs to a locator in a row, then one every three seconds
_RATE_HZ: Final = 500.0
"""With 100 a second, the distance of two probes alone would exceed what the goal allows beyond round trips."""


def play(stage: Stage) -> None:
    """Remove the second uplink, then measure the move; the round trip is that of a ping from EID to EID."""
    stage.start_tcp()
    stage.observe("second-uplink-gone", Move(Kind.ROUTE_REMOVED, "a", "lte0"))
    # Every move uses SMRs, whose rate is limited. A node that moves rarely has the full limit.
    stage.screen.say(f"  {_SETTLE_S:.0f} s of rest, until the limits on SMRs are full again")
    time.sleep(_SETTLE_S)
    round_trip_s = ping(stage.lab["a"], B.eid4, A.eid4, count=5).median_s
    if round_trip_s is None:
        raise ProcessFailed("no ping from EID to EID is answered: there is no round trip to measure with")
    move = Move(Kind.NETWORK_CHANGED, "a", "wlan0", network="cafe")
    handover = stage.observe("network-changed", move, rate_hz=_RATE_HZ, after_s=4.0)
    goal = _GOAL_RTTS + _GOAL_EXTRA_S / round_trip_s
    stage.report.event(
        "break-before-make",
        handover.began_at,
        round_trip_ms=round(round_trip_s * 1000, 2),
        goal_ms=round(goal * round_trip_s * 1000, 2),
        gap_out_ms=_ms(handover.ways()[0]),
        gap_in_ms=_ms(handover.ways()[1]),
    )
    for claim, way in zip(CLAIMS, handover.ways(), strict=True):
        stage.report.check(figure(claim, None if way.gap_s is None else way.gap_s / round_trip_s, "RTT", goal))
    stage.screen.say(f"  one round trip is {round_trip_s * 1000:.1f} ms; the goal is {goal:.2f} of them")


def _ms(way: Way) -> float | None:
    return None if way.gap_s is None else round(way.gap_s * 1000, 2)

"""The reference for all other scenarios: a public address, nothing in between."""

from __future__ import annotations

from typing import Final

from lispmob.lab.real.scenario import Scenario, lost_check
from lispmob.lab.real.world import A, B, World
from lispmob.lab.report import Check


def both_ways(check: str, world: World) -> Check:
    """Node and peer have public addresses."""
    world.attach("a", "eth0", ["198.51.100.2/24"], metric=100)
    world.start_hub()
    world.start_node(A)
    world.start_node(B)
    world.wait_registered()
    sent, out, back = world.lost_both_ways(2.0)
    return lost_check(check, 2 * sent, out + back)


SCENARIOS: Final = (Scenario("open.both-ways", "A public address, nothing in between", both_ways),)

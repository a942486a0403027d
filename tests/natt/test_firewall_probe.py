"""A stateful firewall without NAT is distinguished from an open path."""

from __future__ import annotations

from itertools import count

import pytest

from lispmob.natt.firewall_probe import FirewallProbe, Way
from tests.internet.nat import NatBox
from tests.internet.network import Segment, Weather, World
from tests.natt.probing_host import SPARE_PORT, ProbingHost, Servers
from tests.natt.world import EID, MAP_SERVER, RTR, MapServerHost, NodeHost, RtrHost, locator


def verdict(*, firewall: bool, resolves: bool = True, loss: float = 0.0, seed: int = 0) -> Way:
    world = World(seed, Weather(loss=loss))
    Servers(world, resolves=resolves)
    segment: Segment = NatBox(world, "192.0.2.1", translates=False) if firewall else world.internet
    here = locator("192.0.2.10")
    probe = FirewallProbe(here, EID, MAP_SERVER, SPARE_PORT, new_nonce=count(1).__next__)
    ProbingHost(world, segment, here, probe)
    world.run(10.0)
    return probe.way


def test_the_verdict_is_right_in_fair_weather() -> None:
    assert verdict(firewall=True) is Way.FILTERED
    assert verdict(firewall=False) is Way.OPEN


def test_without_a_resolver_there_is_no_verdict() -> None:
    assert verdict(firewall=True, resolves=False) is Way.UNKNOWN
    assert verdict(firewall=False, resolves=False) is Way.UNKNOWN


@pytest.mark.parametrize("seed", range(20))
def test_loss_never_makes_a_closed_way_an_open_one(seed: int) -> None:
    assert verdict(firewall=True, loss=0.3, seed=seed) is not Way.OPEN


def test_an_uplink_behind_a_firewall_goes_through_the_rtr_and_back_when_it_is_open_again() -> None:
    world = World()
    MapServerHost(world), RtrHost(world)
    node = NodeHost(world)
    here = locator("192.0.2.10")
    node.attach((here, NatBox(world, "192.0.2.1", translates=False)))
    world.run(0.5)
    states = [node.state]

    for is_filtered in (True, False):
        node.perform(node.traversal.on_filtered(here.place, is_filtered, world.now))
        world.run(0.5)
        states.append(node.state)

    assert states == ["direct", "relayed", "direct"]
    assert node.traversal.plan.rtrs == frozenset()
    assert RTR not in {record_locator.address for record_locator in node.traversal.plan.record_locators}

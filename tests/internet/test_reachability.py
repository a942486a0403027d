"""A peer with several locators, some of which fail silently: the node detects it, and returns to them later."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from lispmob.control.probing.path import ProbeConfig
from lispmob.protocol.effect import SendControl
from lispmob.wire.address import IpAddress
from lispmob.wire.map_request import MapRequest
from lispmob.wire.message import decode_control
from tests.internet.world import Lab, NodeHost, Weather, build, ip, locator

PROBING = ProbeConfig(interval_s=5.0, timeout_s=0.5)
FAIR = Weather()
FIRST, SECOND = ip("203.0.113.1"), ip("203.0.113.2")


def talking(seed: int = 0, weather: Weather = FAIR, probing: ProbeConfig = PROBING) -> tuple[Lab, NodeHost]:
    """A node with traffic to a peer with two locators, the first of which is preferred."""
    lab = build(seed=seed, weather=weather, probing=probing)
    node, peer = lab.nodes
    peer.attach(locator(str(FIRST), priority=1), locator(str(SECOND), priority=2, ifindex=3))
    lab.chat(12.0)
    return lab, node


def used(node: NodeHost, peer: NodeHost) -> list[IpAddress]:
    found = node.table.lookup(peer.eid)
    assert found is not None
    return [usable_locator.address for usable_locator in found[1].locators]


def is_probe(effect: SendControl) -> bool:
    message = decode_control(effect.payload)
    return isinstance(message, MapRequest) and message.is_probe


def test_a_dead_locator_is_left_within_two_timeouts_of_the_probe_that_found_it_dead() -> None:
    lab, node = talking()
    peer = lab.nodes[1]
    deaf = replace(peer.config, probing=None, map_resolvers=())  # this one does not detect it first
    peer.perform(peer.node.on_config(deaf, lab.world.now))
    assert used(node, peer) == [FIRST, SECOND]
    died_at = lab.world.now

    lab.world.internet.dead.add(FIRST)
    lab.chat(10.0, pause_s=0.05)

    asked = next(at for at, sent in node.sent if at >= died_at and sent.destination == FIRST and is_probe(sent))
    left = next(at for at, event in node.events if event.kind == "rloc-unreachable")
    assert left - asked <= 2 * PROBING.timeout_s + 0.001
    assert used(node, lab.nodes[1]) == [SECOND]


def test_traffic_goes_on_by_the_other_locator_and_returns_to_the_preferred_one() -> None:
    lab, node = talking()
    lab.world.internet.dead.add(FIRST)
    lab.chat(10.0)
    peer = lab.nodes[1]
    before = len(peer.received)

    lab.chat(5.0)
    went_on = len(peer.received) - before
    lab.world.internet.dead.clear()
    lab.chat(20.0)

    assert went_on == 10
    assert used(node, peer) == [FIRST, SECOND]


def test_when_every_locator_is_silent_packets_are_sent_all_the_same() -> None:
    lab, node = talking()

    lab.world.internet.dead |= {FIRST, SECOND}
    lab.chat(20.0)

    assert used(node, lab.nodes[1]) == [FIRST, SECOND]


@pytest.mark.parametrize("seed", range(5))
def test_a_network_that_loses_a_tenth_each_way_makes_nothing_flap(seed: int) -> None:
    lab, node = talking(seed, Weather(loss=0.1), ProbeConfig(interval_s=5.0, timeout_s=0.5))

    lab.chat(600.0, pause_s=2.0)

    assert "path-down" not in node.kinds()
    assert "rloc-unreachable" not in node.kinds()


def test_an_uplink_that_reaches_no_peer_is_announced_as_not_to_be_used_until_it_does() -> None:
    lab, node = talking()
    node.attach(locator("198.51.100.1"), locator("198.51.100.77", priority=2, ifindex=3))
    lab.chat(12.0)

    lab.world.internet.dead.add(ip("198.51.100.1"))
    lab.chat(15.0)
    without = {one.address: one.priority for one in node.node.locators.locators}
    lab.world.internet.dead.clear()
    lab.chat(25.0)
    after = {one.address: one.priority for one in node.node.locators.locators}

    assert without == {ip("198.51.100.1"): 255, ip("198.51.100.77"): 2}
    assert after == {ip("198.51.100.1"): 1, ip("198.51.100.77"): 2}
    assert lab.is_connected()


def test_a_node_without_traffic_probes_no_locator() -> None:
    lab, node = talking()

    lab.world.run(120.0)
    start = lab.world.now
    lab.world.run(300.0)

    assert not [sent for at, sent in node.sent if at >= start and is_probe(sent)]

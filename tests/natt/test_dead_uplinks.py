"""Uplinks behind NATs whose provider fails while link and address stay: the others are used, also by the RTR."""

from __future__ import annotations

from itertools import product

import pytest

from lispmob.protocol.locator_set import NEVER, LocalLocator
from lispmob.wire.record import Locator
from tests.internet.nat import NatBox
from tests.internet.network import World
from tests.natt.test_every_nat import second_node, talks
from tests.natt.world import EID, MapServerHost, NodeHost, RtrHost, locator

FIRST, SECOND, THIRD = (
    locator("192.168.8.100", 3, priority=1),
    locator("192.168.9.100", 4, priority=2),
    locator("10.7.7.7", 5, priority=3),
)
TWIN = locator("192.168.8.100", 4, priority=2)
LONGEST_S = 5.0


def attached(*uplinks: LocalLocator) -> tuple[World, MapServerHost, RtrHost, NodeHost, NodeHost]:
    """A node behind a NAT for each uplink, and a peer."""
    world = World()
    server, rtr = MapServerHost(world), RtrHost(world)
    node = NodeHost(world)
    node.attach(*((one, NatBox(world, f"203.0.113.{20 + number}")) for number, one in enumerate(uplinks)))
    world.run(2.0)
    return world, server, rtr, node, second_node(world)


def chat(world: World, node: NodeHost, peer: NodeHost, seconds: float) -> None:
    for _ in range(round(seconds / 0.1)):
        node.say(peer.eid, b"there")
        world.run(0.1)


def places(rtr: RtrHost) -> list[str]:
    """The locators to which the RTR would send, best first."""
    found = rtr.rtr.entries.get(EID)
    return [str(binding.address) for binding in found.usable()] if found else []


@pytest.mark.parametrize(
    ("uplinks", "dead"),
    [((FIRST, SECOND), 1), ((FIRST, SECOND, THIRD), 1), ((FIRST, SECOND, THIRD), 2), ((FIRST, TWIN), 1)],
    ids=["two", "three", "three-of-which-two-die", "twins"],
)
def test_the_rtr_leaves_out_what_the_node_has_found_dead(uplinks: tuple[LocalLocator, ...], dead: int) -> None:
    world, _, rtr, node, peer = attached(*uplinks)
    assert places(rtr)[0] == "203.0.113.20"

    node.dead = {uplink.place for uplink in uplinks[:dead]}
    chat(world, node, peer, LONGEST_S)

    assert places(rtr) == [f"203.0.113.{20 + number}" for number in range(dead, len(uplinks))]
    assert talks(world, node, peer)


@pytest.mark.parametrize(("priority", "weight"), list(product((1, 2), (50, 100))))
def test_a_dead_uplink_is_named_as_not_to_be_used_whatever_it_counted(priority: int, weight: int) -> None:
    other = LocalLocator(SECOND.address, SECOND.ifindex, "eth4", priority, weight)
    world, server, _, node, peer = attached(FIRST, other)

    node.dead = {FIRST.place}
    chat(world, node, peer, LONGEST_S)

    record = server.record()
    assert record is not None
    said = {candidate.ip: candidate for candidate in record.locators if isinstance(candidate, Locator)}
    assert said[FIRST.address].priority == NEVER
    assert (said[other.address].priority, said[other.address].weight) == (priority, weight)


@pytest.mark.parametrize("uplinks", [(FIRST, SECOND), (FIRST, TWIN)], ids=["two", "twins"])
def test_an_uplink_that_comes_back_has_its_priority_again(uplinks: tuple[LocalLocator, ...]) -> None:
    world, _, rtr, node, peer = attached(*uplinks)
    node.dead = {FIRST.place}
    chat(world, node, peer, LONGEST_S)
    assert places(rtr) == ["203.0.113.21"]

    node.dead = set()
    chat(world, node, peer, 30.0)

    assert places(rtr) == ["203.0.113.20", "203.0.113.21"]


def test_two_uplinks_with_one_address_are_two_bindings_with_the_weights_of_each() -> None:
    one = LocalLocator(FIRST.address, 3, "eth3", 1, 75)
    other = LocalLocator(FIRST.address, 4, "eth4", 1, 25)
    _, _, rtr, node, _ = attached(one, other)

    found = rtr.rtr.entries.get(EID)

    assert found is not None
    assert sorted((str(binding.address), binding.weight) for binding in found.usable()) == [
        ("203.0.113.20", 75),
        ("203.0.113.21", 25),
    ]
    assert [machine.state.value for machine in node.traversal.machines] == ["relayed", "relayed"]


def test_of_three_uplinks_with_one_address_each_can_be_lost_by_itself() -> None:
    third = locator("192.168.8.100", 5, priority=3)
    world, _, rtr, node, peer = attached(FIRST, TWIN, third)

    node.dead = {FIRST.place, TWIN.place}
    chat(world, node, peer, 2 * LONGEST_S)

    assert places(rtr) == ["203.0.113.22"]
    assert talks(world, node, peer)

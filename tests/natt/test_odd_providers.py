"""Networks neither in the open nor behind an ordinary NAT: carriers' address pools, guest networks, filters."""

from __future__ import annotations

from itertools import product

import pytest

from tests.internet.nat import Kind, NatBox
from tests.internet.network import World
from tests.natt.world import PEER, MapServerHost, NodeHost, RtrHost, locator

OTHER_XTR = bytes(reversed(range(16)))
POOL = [f"203.0.113.{number}" for number in range(201, 217)]
BACK_S = 35.0  # the longest pause between two tries
WORLDS = list(product((Kind.ENDPOINT_INDEPENDENT, Kind.ADDRESS_DEPENDENT), range(4)))


def carrier(world: World, mapping: Kind = Kind.ADDRESS_DEPENDENT, **options: object) -> NatBox:
    """Carrier-grade NAT that gives each mapping an address of its pool, and a port of its own choice."""
    return NatBox(world, "203.0.113.200", mapping=mapping, preserves_ports=False, pool=POOL, **options)  # type: ignore[arg-type]


def scene(seed: int = 0) -> tuple[World, NodeHost, NodeHost]:
    """A Map-Server, an RTR, and two nodes that are not attached yet."""
    world = World(seed)
    MapServerHost(world)
    RtrHost(world)
    return world, NodeHost(world), NodeHost(world, PEER, OTHER_XTR)


def talks(world: World, one: NodeHost, other: NodeHost) -> bool:
    before = len(one.received), len(other.received)
    one.say(other.eid, b"there")
    other.say(one.eid, b"and back")
    world.run(0.2)
    return len(one.received) > before[0] and len(other.received) > before[1]


def at_home(world: World, peer: NodeHost) -> None:
    peer.attach((locator("192.168.7.7"), NatBox(world, "203.0.113.77")))
    world.run(1.0)


@pytest.mark.parametrize(("mapping", "seed"), WORLDS)
def test_a_carrier_that_gives_each_flow_another_address_is_no_obstacle(mapping: Kind, seed: int) -> None:
    world, node, peer = scene(seed)
    node.attach((locator("100.64.9.9"), carrier(world, mapping)))
    at_home(world, peer)

    assert talks(world, node, peer)


@pytest.mark.parametrize("seed", range(4))
def test_two_customers_of_one_carrier_with_one_address_reach_each_other(seed: int) -> None:
    world, node, peer = scene(seed)
    node.attach((locator("100.64.9.9"), carrier(world)))
    peer.attach((locator("100.64.9.9"), NatBox(world, "203.0.113.230", preserves_ports=False, pool=["203.0.113.231"])))
    world.run(1.0)

    assert talks(world, node, peer)


@pytest.mark.parametrize("seed", range(4))
def test_a_carrier_that_forgets_within_half_a_minute_keeps_an_idle_node_reachable(seed: int) -> None:
    world, node, peer = scene(seed)
    node.attach((locator("100.64.9.9"), carrier(world, timeout_s=30.0, inbound_refreshes=False)))
    at_home(world, peer)

    world.run(3600.0)

    assert talks(world, node, peer)


@pytest.mark.parametrize("seed", range(4))
def test_a_home_line_that_dies_beside_a_phone_on_a_carriers_pool_is_left(seed: int) -> None:
    world, node, peer = scene(seed)
    home = locator()
    node.attach((home, NatBox(world, "203.0.113.66")), (locator("100.64.9.9", ifindex=3, priority=2), carrier(world)))
    at_home(world, peer)
    assert talks(world, node, peer)

    node.dead.add(home.place)

    assert world.run_until(lambda: talks(world, node, peer), within_s=5.0) <= 5.0


@pytest.mark.parametrize("seed", range(4))
def test_a_line_on_which_nothing_gets_out_any_more_is_left_by_the_next_keepalive(seed: int) -> None:
    world, node, peer = scene(seed)
    home = NatBox(world, "203.0.113.66")
    node.attach((locator(), home), (locator("100.64.9.9", ifindex=3, priority=2), carrier(world)))
    at_home(world, peer)
    assert talks(world, node, peer)

    home.blocked_ports |= {4341, 4342}  # and what others send still arrives

    assert world.run_until(lambda: talks(world, node, peer), within_s=BACK_S) <= BACK_S


@pytest.mark.parametrize("direct", [False, True])
@pytest.mark.parametrize("hairpins", [False, True])
def test_two_guests_of_a_hotel_that_keeps_them_apart_reach_each_other(direct: bool, hairpins: bool) -> None:
    world, node, peer = scene()
    node = NodeHost(world, direct=direct) if direct else node
    hotel = NatBox(world, "203.0.113.200", isolates=True, hairpins=hairpins)
    node.attach((locator("10.7.0.2"), hotel))
    peer.attach((locator("10.7.0.3"), hotel))
    world.run(1.0)

    lost = 0
    for _ in range(40):
        lost += not talks(world, node, peer)
        world.run(0.5)

    assert lost <= 4
    assert talks(world, node, peer)


@pytest.mark.parametrize("blocked", [{4342}, {4341, 4342}], ids=str)
def test_a_filter_on_a_port_strands_the_node_until_it_is_lifted(blocked: set[int]) -> None:
    world, node, peer = scene()
    hotel = NatBox(world, "203.0.113.200")
    hotel.blocked_ports |= blocked
    node.attach((locator("10.7.0.2"), hotel))
    at_home(world, peer)
    world.run(60.0)
    assert not talks(world, node, peer)

    hotel.blocked_ports.clear()
    world.run(BACK_S)

    assert talks(world, node, peer)


def test_a_filter_on_questions_while_a_node_is_registered_is_left_by_the_other_uplink() -> None:
    world, node, peer = scene()
    hotel, phone = NatBox(world, "203.0.113.200"), NatBox(world, "203.0.113.201")
    node.attach((locator("10.7.0.2"), hotel), (locator("192.168.43.2", ifindex=3, priority=2), phone))
    at_home(world, peer)
    assert talks(world, node, peer)

    hotel.blocked_ports.add(4342)

    assert world.run_until(lambda: talks(world, node, peer), within_s=20.0) <= 20.0


def test_a_hub_at_home_that_its_own_router_does_not_lead_back_to_is_found_when_the_laptop_leaves_within_5_s() -> None:
    world, node, peer = scene()
    router = NatBox(world, "198.51.100.200")  # the Map-Server's public name leads to this router, which has no hairpin
    router.blocked_ports |= {4341, 4342}
    node.attach((locator(), router))
    at_home(world, peer)
    assert not talks(world, node, peer)

    node.attach((locator("10.7.0.2"), NatBox(world, "203.0.113.200")))

    assert world.run_until(lambda: talks(world, node, peer), within_s=5.0) <= 5.0

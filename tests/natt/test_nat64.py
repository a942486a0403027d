"""A node in an IPv6-only network, an IPv4-only hub, and a translator (NAT64, RFC 6146) between them."""

from __future__ import annotations

import dataclasses
from ipaddress import IPv4Address, IPv6Network
from itertools import product

import pytest
from msgspec.structs import replace

from lispmob.protocol.locator_set import LocalLocator
from lispmob.protocol.servers import MapServerPeer
from lispmob.wire.address import IpAddress
from lispmob.wire.address_class import may_be_rloc
from lispmob.wire.embedded_ipv4 import embed
from lispmob.wire.header import MessageType
from tests.internet.nat import Kind, Nat64Box, NatBox
from tests.internet.network import Weather, World, ip
from tests.natt.world import (
    KEY,
    MAP_SERVER,
    OOR_KEY,
    PEER,
    RTR,
    RTR2,
    FragileMapServerHost,
    MapServerHost,
    NodeHost,
    RtrHost,
    locator,
)

WELL_KNOWN = IPv6Network("64:ff9b::/96")
OWN, SECOND = "2001:db8:a::7", "2001:db8:a::8"
OTHER_XTR = bytes(reversed(range(16)))
KINDS = list(product(Kind, Kind, (True, False)))


def translated(
    address: str = OWN, prefix: IPv6Network = WELL_KNOWN, ifindex: int = 2, priority: int = 1
) -> LocalLocator:
    return dataclasses.replace(locator(address, ifindex, priority), nat64=prefix)


def beyond(address: IpAddress) -> IpAddress:
    assert isinstance(address, IPv4Address)
    return embed(WELL_KNOWN, address)


def behind(
    prefix: IPv6Network = WELL_KNOWN, weather: Weather | None = None, **options: object
) -> tuple[World, MapServerHost, Nat64Box, NodeHost]:
    world = World(0, weather or Weather(delay_s=(0.01, 0.01)))
    server, _ = MapServerHost(world), RtrHost(world)
    box = Nat64Box(world, "203.0.113.64", str(prefix), **options)
    node = NodeHost(world)
    node.attach((translated(prefix=prefix), box))
    return world, server, box, node


def peer_behind_a_nat(world: World) -> NodeHost:
    peer = NodeHost(world, PEER, OTHER_XTR)
    peer.attach((locator("192.168.7.7"), NatBox(world, "203.0.113.77")))
    world.run(0.3)
    return peer


def talks(world: World, one: NodeHost, other: NodeHost) -> bool:
    before = len(one.received), len(other.received)
    one.say(other.eid, b"there")
    other.say(one.eid, b"and back")
    world.run(0.3)
    return len(one.received) > before[0] and len(other.received) > before[1]


@pytest.mark.parametrize(("mapping", "filtering", "preserves"), KINDS)
def test_packets_go_both_ways_through_a_translator_of_any_kind(mapping: Kind, filtering: Kind, preserves: bool) -> None:
    world, _, _, node = behind(mapping=mapping, filtering=filtering, preserves_ports=preserves)
    peer = peer_behind_a_nat(world)

    assert node.state == "relayed"
    assert talks(world, node, peer)


@pytest.mark.parametrize(
    "prefix",
    [
        "64:ff9b::/96",
        "2001:db8:64::/96",
        "2001:db8:1:2::/64",
        "2001:db8:aa:bb00::/56",
        "2001:db8:64::/48",
        "2001:db9:f00::/40",
        "2a00:1::/32",
    ],
)
def test_every_form_of_prefix_serves(prefix: str) -> None:
    world, _, _, node = behind(IPv6Network(prefix))
    peer = peer_behind_a_nat(world)

    assert talks(world, node, peer)


def test_two_nodes_behind_translators_talk() -> None:
    world, _, _, node = behind()
    peer = NodeHost(world, PEER, OTHER_XTR)
    other = IPv6Network("2001:db8:64:64::/64")
    peer.attach((translated("2001:db8:b::9", other), Nat64Box(world, "203.0.113.99", str(other))))
    world.run(0.5)

    assert talks(world, node, peer)


def test_the_record_names_the_rtr_by_its_ipv4_address_and_nothing_that_others_might_send_to() -> None:
    world, server, _, _ = behind()
    world.run(0.5)

    record = server.record()
    assert record is not None
    told = record.locators

    assert [one.ip for one in told if one.is_reachable] == [RTR]
    assert not any(may_be_rloc(one.ip) for one in told if not one.is_reachable and one.ip is not None)


def test_the_datapath_sends_to_where_the_translator_takes_the_rtr() -> None:
    world, _, _, node = behind()
    world.run(0.5)

    [uplink] = node.traversal.plan.uplinks

    assert [relay.address for relay in uplink.relays] == [beyond(RTR)]
    assert uplink.data_port == "fixed"
    assert not uplink.passes_zero
    assert [relay.address for relay in node.traversal.plan.defaults] == [beyond(RTR)]


def test_nothing_is_sent_to_an_ipv4_address_from_an_ipv6_one() -> None:
    world, _, _, node = behind()
    peer = peer_behind_a_nat(world)
    talks(world, node, peer)
    world.run(300.0)

    assert node.sent
    assert all(sent.source is None or sent.source.version == sent.destination.version for _, sent in node.sent)


def test_a_translator_that_forgets_is_opened_again_by_the_next_packet() -> None:
    world, _, box, node = behind()
    peer = peer_behind_a_nat(world)
    assert talks(world, node, peer)

    box.reboot()
    node.say(peer.eid, b"into nothing?")
    world.run(1.0)

    assert talks(world, node, peer)


def test_a_translator_that_gets_another_address_is_found_again_within_a_keepalive() -> None:
    world, _, box, node = behind(timeout_s=60.0)
    peer = peer_behind_a_nat(world)

    box.renumber("203.0.113.65")
    world.run(21.0)

    assert talks(world, node, peer)


def test_an_idle_node_stays_reachable_for_an_hour() -> None:
    world, _, _, node = behind(timeout_s=60.0)
    peer = peer_behind_a_nat(world)
    world.run(3600.0)

    peer.say(node.eid, b"after an hour")
    world.run(0.3)

    assert node.received[-1][1] == b"after an hour"


def test_one_datagram_in_five_may_get_lost() -> None:
    world, _, _, node = behind(weather=Weather(loss=0.2, delay_s=(0.01, 0.05)))

    assert world.run_until(lambda: node.state == "relayed", within_s=20.0) < 20.0


def test_a_dead_rtr_is_left_for_the_next_one() -> None:
    world = World(0, Weather(delay_s=(0.01, 0.01)))
    MapServerHost(world, (RTR, RTR2))
    first, second = RtrHost(world), RtrHost(world, RTR2)
    node = NodeHost(world)
    node.attach((translated(), Nat64Box(world, "203.0.113.64")))
    world.run(0.5)
    (used,) = node.traversal.machines[0].rtrs
    dead = first if used == RTR else second
    dead.is_up = False

    world.run_until(
        lambda: node.traversal.machines[0].rtrs not in ((), (used,)) and node.state == "relayed", within_s=40.0
    )

    assert node.state == "relayed"


def test_a_hub_without_an_rtr_strands_the_node_which_asks_again() -> None:
    world = World(0, Weather(delay_s=(0.01, 0.01)))
    server = MapServerHost(world, ())
    node = NodeHost(world)
    node.attach((translated(), Nat64Box(world, "203.0.113.64")))
    world.run(1.0)

    [machine] = node.traversal.machines

    assert (machine.state.value, machine.is_translated) == ("stranded", True)
    assert [one.ip for one in node.traversal.plan.record_locators] == [ip(OWN)]
    assert server.info is not None


def test_two_addresses_of_one_interface_are_two_places_to_the_rtr() -> None:
    world = World(0, Weather(delay_s=(0.01, 0.01)))
    MapServerHost(world), RtrHost(world)
    box, node = Nat64Box(world, "203.0.113.64"), NodeHost(world)
    node.attach((translated(OWN), box), (translated(SECOND), box))
    world.run(1.0)

    assert [machine.state.value for machine in node.traversal.machines] == ["relayed", "relayed"]
    assert len({machine.name for machine in node.traversal.machines}) == 2


def test_a_move_from_a_nat_to_a_translator_keeps_the_node_reachable() -> None:
    world, _, box, node = behind()
    peer = peer_behind_a_nat(world)
    wifi = NatBox(world, "203.0.113.200")
    node.attach((locator(), wifi))
    world.run(1.0)
    assert talks(world, node, peer)

    node.attach((translated(), box))
    took = world.run_until(lambda: node.state == "relayed", within_s=1.0)

    assert took < 0.2  # the RTRs are known: no Info-Reply is awaited
    assert talks(world, node, peer)


def test_an_ipv4_uplink_and_a_translated_one_work_side_by_side() -> None:
    world, _, box, node = behind()
    peer = peer_behind_a_nat(world)
    node.attach((locator(priority=2, ifindex=3), NatBox(world, "203.0.113.200")), (translated(), box))
    world.run(1.0)

    assert [machine.state.value for machine in node.traversal.machines] == ["relayed", "relayed"]
    assert talks(world, node, peer)


def test_a_prefix_that_is_found_later_is_used_at_once() -> None:
    world, _, box, node = behind()
    node.attach((dataclasses.replace(translated(), nat64=None), box))
    world.run(5.0)
    assert node.state == "probing"

    node.attach((translated(), box))
    took = world.run_until(lambda: node.state == "relayed", within_s=10.0)

    assert took < 0.2


def test_a_wrong_prefix_does_not_keep_the_right_one_from_working() -> None:
    world, _, box, node = behind()
    node.attach((translated(prefix=IPv6Network("2001:db8:bad::/96")), box))
    world.run(30.0)
    assert node.state == "probing"

    node.attach((translated(), box))
    took = world.run_until(lambda: node.state == "relayed", within_s=10.0)

    assert took < 0.2


def with_ipv6_server(address: IpAddress) -> tuple[World, NodeHost]:
    """The node knows a Map-Server with IPv6 besides the one that has none."""
    world = World(0, Weather(delay_s=(0.01, 0.01)))
    MapServerHost(world), RtrHost(world)
    node = NodeHost(world)
    servers = (MapServerPeer(address, KEY), *node.config.map_servers)
    node.traversal.on_config(replace(node.config, map_servers=servers), world.now)
    node.attach((translated(), Nat64Box(world, "203.0.113.64")))
    return world, node


def test_a_map_server_with_ipv6_of_its_own_is_asked_without_the_translator() -> None:
    native = ip("2001:db8:51::1")
    world, node = with_ipv6_server(native)
    world.run(0.5)

    asked = [sent.destination for _, sent in node.sent if sent.payload[0] >> 4 == MessageType.INFO]

    assert asked == [native]
    assert [one.address for one in node.traversal.plan.direct] == [ip(OWN)]


def test_where_that_one_does_not_answer_the_translator_leads_to_the_other() -> None:
    world, node = with_ipv6_server(ip("2001:db8:51::1"))

    assert world.run_until(lambda: node.state == "relayed", within_s=5.0) < 5.0


def test_an_address_that_dns_made_up_of_the_map_servers_own_is_no_second_server() -> None:
    world, node = with_ipv6_server(beyond(MAP_SERVER))
    world.run(0.5)

    assert node.state == "relayed"


def test_a_lost_question_is_repeated_within_seconds() -> None:
    world, _, _, node = behind(weather=Weather(delay_s=(0.1, 0.1)))
    world.internet.dead.add(MAP_SERVER)
    world.run(0.5)
    world.internet.dead.clear()

    assert world.run_until(lambda: node.state == "relayed", within_s=10.0) < 10.0


def test_a_translator_that_begins_to_work_is_found_within_half_a_minute() -> None:
    world, _, _, node = behind()
    world.internet.dead.add(MAP_SERVER)
    world.run(300.0)
    assert node.state == "probing"
    assert [one.address for one in node.traversal.plan.direct] == [ip(OWN)]  # for peers with IPv6 it is a locator

    world.internet.dead.clear()

    assert world.run_until(lambda: node.state == "relayed", within_s=30.0) < 30.0


def test_the_hub_of_open_overlay_router_serves_through_a_translator() -> None:
    world = World(0, Weather(delay_s=(0.01, 0.01)))
    server, _ = FragileMapServerHost(world, (RTR,)), RtrHost(world)
    node = NodeHost(world, key=OOR_KEY)
    node.attach((translated(), Nat64Box(world, "203.0.113.64")))

    world.run_until(lambda: node.state == "relayed", within_s=60.0)

    assert (node.state, server.deaths) == ("relayed", 0)

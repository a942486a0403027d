"""A node behind NATs of every RFC 4787 kind: reachable, and again soon after any change of the NAT."""

from __future__ import annotations

import dataclasses
from itertools import product

import pytest

from lispmob.hub.rtr.relayed import RtrPeer
from lispmob.natt.effect import SendFromDataPort
from lispmob.protocol.locator_set import EidRank
from lispmob.wire.address import EidPrefix
from tests.internet.nat import Kind, NatBox
from tests.internet.network import Weather, World, ip
from tests.natt.world import EID, PEER, RTR, RTR2, MapServerHost, NodeHost, RtrHost, locator

ROUND_TRIP_S = 0.02  # between any two hosts on the Internet
KINDS = list(product(Kind, Kind, (True, False)))
OTHER_XTR = bytes(reversed(range(16)))


def behind(
    seed: int = 0, loss: float = 0.0, delay_s: tuple[float, float] = (0.01, 0.01), **options: object
) -> tuple[World, MapServerHost, RtrHost, NatBox, NodeHost]:
    world = World(seed, Weather(loss=loss, delay_s=delay_s))
    server, rtr = MapServerHost(world), RtrHost(world)
    nat = NatBox(world, "203.0.113.200", **options)  # type: ignore[arg-type]
    node = NodeHost(world)
    node.attach((locator(), nat))
    return world, server, rtr, nat, node


def with_two_rtrs(seconds: float) -> tuple[World, RtrHost, NodeHost]:
    """A node behind a NAT and a Map-Server with two RTRs, after so many seconds; the RTR that the node uses."""
    world = World()
    MapServerHost(world, (RTR, RTR2))
    first, _ = RtrHost(world, RTR), RtrHost(world, RTR2)
    node = NodeHost(world)
    node.attach((locator(), NatBox(world, "203.0.113.200")))
    world.run(seconds)
    return world, first, node


def talks(world: World, one: NodeHost, other: NodeHost) -> bool:
    """True if a packet each way arrives, each within a second."""
    before = len(one.received), len(other.received)
    one.say(other.eid, b"there")
    other.say(one.eid, b"and back")
    world.run(0.2)
    return len(one.received) > before[0] and len(other.received) > before[1]


def second_node(world: World) -> NodeHost:
    peer = NodeHost(world, PEER, OTHER_XTR)
    peer.attach((locator("192.168.7.7"), NatBox(world, "203.0.113.77")))
    world.run(0.3)
    return peer


@pytest.mark.parametrize(("mapping", "filtering", "preserves"), KINDS)
def test_two_nodes_behind_nats_of_any_kind_talk_through_the_rtr(
    mapping: Kind, filtering: Kind, preserves: bool
) -> None:
    world, _, _, _, node = behind(mapping=mapping, filtering=filtering, preserves_ports=preserves)
    peer = second_node(world)

    assert node.state == "relayed"
    assert talks(world, node, peer)


def test_a_node_that_stops_withdraws_its_mapping_through_the_rtr() -> None:
    world, server, _, _, node = behind()
    world.run(1.0)
    assert server.record() is not None

    node.perform(node.traversal.on_shutdown(world.now))
    world.run(0.2)

    assert server.record() is None


def test_a_new_address_is_of_use_after_three_round_trips() -> None:
    world, _, _, _, node = behind()

    took = world.run_until(lambda: node.state == "relayed", within_s=1.0)

    assert took <= 3 * ROUND_TRIP_S + 0.02


def test_a_private_address_does_not_wait_for_its_info_reply_when_the_rtrs_are_known() -> None:
    world, _, _, _, node = behind()
    world.run(1.0)
    other = NatBox(world, "203.0.113.201")

    node.attach((locator("10.9.9.9"), other))
    took = world.run_until(lambda: node.state == "relayed", within_s=1.0)

    assert took <= 2 * ROUND_TRIP_S + 0.002


@pytest.mark.parametrize("kind", Kind)
def test_the_binding_is_kept_through_an_hour_of_silence(kind: Kind) -> None:
    world, _, _, _, node = behind(mapping=kind, filtering=kind, timeout_s=30.0, inbound_refreshes=False)
    peer = second_node(world)

    world.run(3600.0)

    assert talks(world, node, peer)


def test_keeping_the_binding_costs_one_packet_per_interval() -> None:
    world, _, _, _, node = behind(timeout_s=30.0)
    world.run(1.0)
    interval_s = node.traversal.machines[0].keepalive_s
    assert interval_s is not None
    start = world.now

    world.run(600.0)

    assert len(node.outbound(start)) <= 600.0 / interval_s + 1


def test_a_nat_that_forgets_is_noticed_within_one_keepalive_interval() -> None:
    world, _, _, nat, node = behind(mapping=Kind.ADDRESS_AND_PORT_DEPENDENT, preserves_ports=False)
    peer = second_node(world)

    nat.reboot()
    world.run(node.traversal.machines[0].keepalive_s or 0.0)
    world.run(0.2)

    assert talks(world, node, peer)


@pytest.mark.parametrize(("event", "kind"), list(product(["reboot", "renumber"], Kind)))
def test_a_node_that_is_sending_is_back_after_two_round_trips(event: str, kind: Kind) -> None:
    is_symmetric = kind is Kind.ADDRESS_AND_PORT_DEPENDENT
    world, _, _, nat, node = behind(mapping=kind, preserves_ports=not is_symmetric)
    peer = second_node(world)
    if event == "reboot":
        nat.reboot()
    else:
        nat.renumber("203.0.113.222")
    node.say(PEER, b"lost")
    start = world.now

    def heard_again() -> bool:
        peer.say(EID, b"are you there")
        return any(at > start for at, _ in node.received)

    took = world.run_until(heard_again, within_s=2.0)

    assert took <= 2 * ROUND_TRIP_S + 0.1


def test_an_rtr_that_dies_is_replaced_and_the_mapping_says_so() -> None:
    world = World()
    server = MapServerHost(world, (RTR, RTR2))
    first, _ = RtrHost(world, RTR), RtrHost(world, RTR2)
    node = NodeHost(world)
    node.attach((locator(), NatBox(world, "203.0.113.200")))
    world.run(1.0)
    used = node.traversal.machines[0].rtrs
    assert used == (RTR,)
    first.is_up = False

    world.run(30.0)

    assert node.traversal.machines[0].rtrs == (RTR2,)
    assert node.state == "relayed"
    record = server.record()
    assert record is not None
    assert [candidate.address for candidate in record.locators if candidate.is_reachable] == [RTR2]


def test_with_no_rtr_in_reach_the_node_says_so_goes_on_trying_and_is_there_when_one_comes_back() -> None:
    world = World()
    MapServerHost(world, (RTR, RTR2))
    rtrs = RtrHost(world, RTR), RtrHost(world, RTR2)
    for one in rtrs:
        one.is_up = False
    node = NodeHost(world)
    node.attach((locator(), NatBox(world, "203.0.113.200")))

    world.run(120.0)
    tried = {one.destination for _, one in node.sent if isinstance(one, SendFromDataPort)}
    packets = len(node.sent)
    rtrs[1].is_up = True
    world.run(120.0)

    assert tried == {RTR, RTR2}
    assert packets < 120
    assert node.kinds().count("rtr-failed") >= 2
    assert (node.state, node.traversal.machines[0].rtrs) == ("relayed", (RTR2,))


def test_an_rtr_that_dies_just_after_it_was_found_alive_is_replaced_as_soon() -> None:
    world, first, node = with_two_rtrs(1.0)
    for _ in range(5):  # silences that were not the RTR's fault
        node.perform(node.traversal.on_stalled(ip("192.168.1.2"), world.now))
        world.run(0.5)
    first.is_up = False
    node.perform(node.traversal.on_stalled(ip("192.168.1.2"), world.now))  # reported once

    took = world.run_until(lambda: node.traversal.machines[0].rtrs == (RTR2,) and node.state == "relayed", 15.0)

    assert took < 10.0


@pytest.mark.parametrize("late_s", [0.2, 0.6, 1.5])
def test_an_rtr_that_answers_late_once_and_dies_then_is_replaced_within_three_seconds(late_s: float) -> None:
    world, first, node = with_two_rtrs(1.0)
    usual, world.internet.weather = world.internet.weather, Weather(delay_s=(late_s / 4, late_s / 4))
    node.perform(node.traversal.on_stalled(ip("192.168.1.2"), world.now))
    world.run(1.0)
    world.internet.weather = usual
    world.run(5.0)
    assert node.traversal.machines[0].rtrs == (RTR,)

    first.is_up = False
    node.perform(node.traversal.on_stalled(ip("192.168.1.2"), world.now))
    took = world.run_until(lambda: node.traversal.machines[0].rtrs == (RTR2,) and node.state == "relayed", 15.0)

    assert took < 3.0


def test_two_uplinks_that_register_at_once_do_not_take_each_other_out_of_the_record() -> None:
    world = World()
    server, rtr = MapServerHost(world), RtrHost(world)
    fast, slow = NatBox(world, "203.0.113.200"), NatBox(world, "203.0.113.201")
    node = NodeHost(world)
    node.attach((locator("192.168.1.2", 2, 1), fast))
    world.run(1.0)
    lists: list[set[str]] = []

    node.attach((locator("192.168.1.2", 2, 2), fast), (locator("10.9.9.9", 3, 1), slow))
    for _ in range(200):
        world.run(0.001)
        found = rtr.rtr.entries.get(EID)
        lists.append({str(binding.rloc) for binding in found.usable()} if found is not None else set())

    assert all("192.168.1.2" in one for one in lists)
    first = next(place for place, one in enumerate(lists) if "10.9.9.9" in one)
    assert all("10.9.9.9" in one for one in lists[first:])
    assert _reachable(server) == [str(RTR)]


def test_behind_nats_the_rtr_is_told_what_each_uplink_counts_for_this_eid() -> None:
    world = World()
    server, rtr = MapServerHost(world), RtrHost(world)
    first, second = NatBox(world, "203.0.113.200"), NatBox(world, "203.0.113.201")
    node = NodeHost(world)
    special = dataclasses.replace(locator("192.168.1.2", 2, 1), by_eid=(EidRank(EID, 9, 7),))
    node.attach((special, first), (locator("10.9.9.9", 3, 4), second))
    world.run(2.0)

    found = rtr.rtr.entries.get(EID)
    assert found is not None
    told = {str(binding.rloc): (binding.priority, binding.weight) for binding in found.usable()}
    assert told == {"192.168.1.2": (9, 7), "10.9.9.9": (4, 100)}
    record = server.record()
    assert record is not None
    assert [(candidate.priority, candidate.weight) for candidate in record.locators if candidate.ip == RTR] == [
        (4, 100)
    ]


def test_an_rtr_that_restarts_empty_has_a_sending_node_back_at_once() -> None:
    world, _, rtr, _, node = behind()
    peer = second_node(world)
    rtr.restart()
    node.say(PEER, b"lost")
    peer.say(EID, b"lost too")

    world.run(2 * ROUND_TRIP_S + 0.1)

    assert talks(world, node, peer)


@pytest.mark.parametrize("away_s", [0.2, 0.4, 0.7, 1.4])
def test_an_rtr_that_was_away_and_comes_back_empty_has_a_sending_node_back_at_once(away_s: float) -> None:
    world, _, rtr, _, node = behind()
    peer = second_node(world)
    world.run(2.0)
    rtr.is_up = False
    node.say(PEER, b"lost")
    world.run(away_s)
    rtr.restart()
    rtr.is_up = True
    back_at = world.now

    def heard_again() -> bool:
        node.say(PEER, b"are you there")
        peer.say(EID, b"and you")
        return any(at > back_at for at, _ in node.received)

    assert world.run_until(heard_again, within_s=2.0) <= 4 * ROUND_TRIP_S


@pytest.mark.parametrize("pokes", [1, 40])
def test_forged_words_of_an_rtr_that_is_dead_neither_hide_its_death_nor_hasten_it(pokes: int) -> None:
    def took(forged: int) -> float:
        world, first, node = with_two_rtrs(3.0)
        machine = node.traversal.machines[0]
        first.is_up = False
        node.perform(node.traversal.on_stalled(ip("192.168.1.2"), world.now))
        began = world.now
        for _ in range(forged):
            world.run(2.0 / forged)
            machine.on_poked(world.now)
        world.run_until(lambda: machine.rtrs == (RTR2,) and node.state == "relayed", 15.0)
        return world.now - began

    assert took(pokes) == pytest.approx(took(0), abs=0.05)


@pytest.mark.parametrize("seed", range(8))
def test_loss_and_reordering_delay_a_node_but_do_not_strand_it(seed: int) -> None:
    world, _, _, _, node = behind(seed, loss=0.3, delay_s=(0.005, 0.2), timeout_s=30.0)

    world.run(60.0)
    world.internet.weather = Weather(delay_s=world.internet.weather.delay_s)
    world.run(60.0)

    assert node.state == "relayed"


def test_a_node_behind_two_nats_is_reached_like_behind_one() -> None:
    world = World()
    MapServerHost(world), RtrHost(world)
    carrier = NatBox(world, "203.0.113.9", mapping=Kind.ADDRESS_AND_PORT_DEPENDENT, preserves_ports=False)
    home = NatBox(world, "100.64.0.9", outer=carrier)
    node = NodeHost(world)
    node.attach((locator(), home))
    peer = second_node(world)

    assert talks(world, node, peer)


def test_an_uplink_without_a_nat_registers_itself_and_sends_no_keepalive() -> None:
    world = World()
    server, _ = MapServerHost(world), RtrHost(world)
    node = NodeHost(world)
    node.attach((locator("192.0.2.10"), world.internet))
    world.run(1.0)
    start = world.now

    world.run(600.0)

    assert node.state == "direct"
    record = server.record()
    assert record is None or [str(candidate.address) for candidate in record.locators] == ["192.0.2.10"]
    assert node.outbound(0.0) == []
    assert [one for at, one in node.sent if at > start] == []


def test_moving_from_a_nat_to_a_public_network_and_back_changes_the_registration_each_time() -> None:
    world, server, _, nat, node = behind()
    world.run(0.5)
    seen = [_reachable(server)]

    node.attach((locator("192.0.2.10"), world.internet))
    world.run(0.5)
    seen.append(_reachable(server))
    node.attach((locator(), nat))
    world.run(0.5)
    seen.append(_reachable(server))

    assert seen == [[str(RTR)], ["192.0.2.10"], [str(RTR)]]


def test_a_public_and_a_translated_uplink_stand_in_one_record() -> None:
    world = World()
    server, _ = MapServerHost(world), RtrHost(world)
    node = NodeHost(world)
    nat = NatBox(world, "203.0.113.200")
    node.attach((locator("192.0.2.10", 2, 1), world.internet), (locator("192.168.1.2", 3, 2), nat))
    world.run(1.0)

    record = server.record()

    assert record is not None
    said = [(str(candidate.address), candidate.is_reachable, candidate.priority) for candidate in record.locators]
    assert said == [("192.0.2.10", True, 1), ("192.168.1.2", False, 2), (str(RTR), True, 2)]
    assert node.traversal.plan.asks_mapping_system


def test_a_map_server_without_nat_traversal_gets_an_ordinary_registration() -> None:
    world = World()
    server = MapServerHost(world, None)
    node = NodeHost(world)
    node.attach((locator(), NatBox(world, "203.0.113.200")))

    world.run(300.0)

    record = server.record()
    assert record is not None
    assert [str(candidate.address) for candidate in record.locators] == ["192.168.1.2"]
    assert "natt-absent" in node.kinds()
    assert server.asked <= 4


def test_without_any_rtr_the_node_says_so_and_asks_again_later() -> None:
    world = World()
    server = MapServerHost(world, ())
    node = NodeHost(world)
    node.attach((locator(), NatBox(world, "203.0.113.200")))
    world.run(10.0)
    assert node.state == "stranded"
    assert "natt-stranded" in node.kinds()
    server.info.on_config(server.map_server.sites, (RTR,))
    server.relayed.on_rtrs([RtrPeer(RTR)])
    RtrHost(world, key=None)

    world.run(61.0)

    assert node.state in ("registering", "relayed")


def test_a_firewall_without_nat_is_passed_when_the_rtr_is_preferred() -> None:
    world = World()
    MapServerHost(world), RtrHost(world)
    node = NodeHost(world, prefers_rtr=True)
    node.attach((locator("192.0.2.10"), NatBox(world, "192.0.2.1", translates=False)))
    peer = second_node(world)

    assert node.state == "relayed"
    assert talks(world, node, peer)


def _reachable(server: MapServerHost, prefix: EidPrefix = EID) -> list[str]:
    record = server.record(prefix)
    return [str(candidate.address) for candidate in record.locators if candidate.is_reachable] if record else []

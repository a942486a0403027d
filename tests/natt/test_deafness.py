"""An RTR that confirms every register and forwards nothing: detected, reported, and left if there is another one."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
from msgspec import structs

from lispmob.hub.rtr.relayed import decode_relayed
from lispmob.natt.deafness import PATIENCE_S, REST_MAX_S, REST_S, Deafness
from lispmob.natt.effect import NattEffect, SendFromDataPort
from lispmob.protocol.locator_set import further_name
from lispmob.wire.header import DATA_PORT, MessageType
from tests.internet.nat import NatBox
from tests.internet.network import Packet, World
from tests.natt.world import EID, MAP_SERVER, PEER, RTR, RTR2, MapServerHost, NodeHost, RtrHost, locator


def talking(rtrs: tuple[object, ...]) -> tuple[World, dict[object, RtrHost], NodeHost, NodeHost]:
    """Two nodes behind NATs that have exchanged packets for a while, by the first RTR."""
    world = World()
    MapServerHost(world, rtrs)  # type: ignore[arg-type]
    hosts: dict[object, RtrHost] = {rtr: RtrHost(world, rtr) for rtr in rtrs}  # type: ignore[arg-type]
    node = NodeHost(world)
    peer = NodeHost(world, PEER, bytes(15) + b"p")
    node.attach((locator(), NatBox(world, "203.0.113.200")))
    peer.attach((locator("192.168.7.2"), NatBox(world, "203.0.113.201")))
    world.run(1.0)
    talk(world, node, peer, 2.0)
    assert node.received
    return world, hosts, node, peer


def talk(world: World, node: NodeHost, peer: NodeHost, seconds: float) -> None:
    """Both send ten times a second."""
    for _ in range(int(seconds * 10)):
        node.say(PEER, b"question")
        peer.say(EID, b"answer")
        world.run(0.1)


def test_a_node_leaves_an_rtr_that_confirms_and_passes_nothing_on() -> None:
    world, hosts, node, peer = talking((RTR, RTR2))
    hosts[RTR].is_deaf = True

    talk(world, node, peer, 12.0)

    assert "rtr-deaf" in node.kinds()
    assert node.traversal.machines[0].rtrs == (RTR2,)
    assert node.state == "relayed"


def test_with_one_rtr_alone_it_is_said_and_taken_back_when_data_comes_again() -> None:
    world, hosts, node, peer = talking((RTR,))
    hosts[RTR].is_deaf = True
    talk(world, node, peer, 12.0)
    assert node.kinds().count("rtr-deaf") == 1
    assert node.traversal.machines[0].deafness.is_reported
    assert node.state == "relayed"

    hosts[RTR].is_deaf = False
    talk(world, node, peer, 3.0)

    assert node.kinds().count("rtr-heard") == 1
    assert not node.traversal.machines[0].deafness.is_reported


def test_a_peer_that_never_answered_says_nothing_about_the_rtr() -> None:
    world = World()
    MapServerHost(world)
    RtrHost(world)
    node = NodeHost(world)
    node.attach((locator(), NatBox(world, "203.0.113.200")))
    world.run(1.0)

    for _ in range(200):
        node.say(PEER, b"anybody there?")
        world.run(0.1)

    assert "rtr-deaf" not in node.kinds()


def test_traffic_that_flows_says_nothing() -> None:
    world, _, node, peer = talking((RTR, RTR2))

    talk(world, node, peer, 20.0)

    assert not {"rtr-deaf", "rtr-heard"} & set(node.kinds())


def test_a_dead_rtr_is_left_as_before() -> None:
    world, hosts, node, peer = talking((RTR, RTR2))
    hosts[RTR].is_up = False

    talk(world, node, peer, 12.0)

    assert "rtr-failed" in node.kinds()
    assert "rtr-deaf" not in node.kinds()
    assert node.traversal.machines[0].rtrs == (RTR2,)


@pytest.mark.parametrize("times", [1, 2, 3])
def test_an_rtr_that_keeps_to_the_former_place_gets_the_present_one_by_another_name(times: int) -> None:
    world, hosts, node, peer = talking((RTR,))
    hosts[RTR].is_stubborn = True

    for number in range(times):
        node.attach((locator(), NatBox(world, f"203.0.113.{210 + number}")))
        talk(world, node, peer, 12.0)
        heard = len(node.received)
        talk(world, node, peer, 60.0)  # between two decisions, and past the end of old reports

        assert len(node.received) > heard + 500
    assert node.kinds().count("rtr-deaf") == times
    assert node.kinds().count("rtr-heard") == times


def test_the_names_of_an_uplink_are_all_different_and_no_hosts_address() -> None:
    uplinks = [locator(), replace(locator(), ifindex=3), replace(locator("2001:db8::2"), ifindex=3)]
    names = [further_name(uplink, number, uplink.address) for uplink in uplinks for number in range(1, 200)]

    assert len(set(names)) == len(names)
    assert all(name.is_link_local for name in names)
    assert not {uplink.address for uplink in uplinks} & set(names)


def test_after_a_long_rest_another_name_is_tried_and_nothing_is_said() -> None:
    world, hosts, node, peer = talking((RTR, RTR2))
    hosts[RTR].is_stubborn = True
    world.run(200.0)
    node.attach((locator(), NatBox(world, "203.0.113.210")))
    world.run(100.0)
    heard = len(node.received)

    talk(world, node, peer, 12.0)

    assert len(node.received) > heard
    assert node.traversal.machines[0].rtrs == (RTR,)
    assert not {"rtr-deaf", "rtr-heard"} & set(node.kinds())


def test_what_does_not_help_is_tried_ever_more_seldom() -> None:
    deafness = Deafness()
    deafness.on_heard(0.0)
    verdicts = []
    for now in range(100, 20_000):
        deafness.on_silence(now)
        deafness.on_confirmed()
        if deafness.is_due(now):
            verdicts.append(now)

    pauses = [after - before for before, after in itertools.pairwise(verdicts)]
    assert pauses == sorted(pauses)
    assert pauses[0] < 130
    assert pauses[-1] >= REST_MAX_S
    assert not deafness.is_reported


def test_a_silence_soon_after_a_verdict_is_judged_later_though_it_is_told_once() -> None:
    deafness = Deafness()
    deafness.on_heard(0.0)
    deafness.on_silence(1.0)
    deafness.on_confirmed()
    assert deafness.is_due(1.0 + PATIENCE_S)
    deafness.on_heard(10.0)

    deafness.on_silence(20.0)
    deafness.on_confirmed()

    assert not deafness.is_due(20.0 + PATIENCE_S)
    assert deafness.is_due(1.0 + PATIENCE_S + REST_S + PATIENCE_S)


def at_a_hub(*, keeps_keys: bool = True) -> tuple[World, RtrHost, NodeHost, NodeHost]:
    """Two nodes behind NATs that have exchanged packets by their Map-Server, which is their RTR, too."""
    world = World()
    server, rtr = MapServerHost(world, (MAP_SERVER,)), RtrHost(world, MAP_SERVER)

    def on_packet(packet: Packet) -> None:
        is_between = packet.source == MAP_SERVER and decode_relayed(packet.payload) is not None
        is_info = packet.payload[0] >> 4 in (MessageType.INFO, MessageType.MAP_REGISTER)
        is_for_rtr = packet.destination_port == DATA_PORT or not (is_between or is_info)
        (rtr if is_for_rtr else server).on_packet(packet)

    world.internet.plug(MAP_SERVER, on_packet)
    node, peer = NodeHost(world), NodeHost(world, PEER, bytes(15) + b"p")
    for host in (node, peer):
        peers = tuple(structs.replace(one, has_lisp_sec=keeps_keys) for one in host.config.map_servers)
        host.perform(host.traversal.on_config(structs.replace(host.config, map_servers=peers), world.now))
    node.attach((locator(), NatBox(world, "203.0.113.200")))
    peer.attach((locator("192.168.7.2"), NatBox(world, "203.0.113.201")))
    world.run(1.0)
    talk(world, node, peer, 2.0)
    assert node.received
    return world, rtr, node, peer


@pytest.mark.parametrize("goes_on", [True, False], ids=["sends on", "sends no more"])
@pytest.mark.parametrize("keeps_keys", [True, False], ids=["a hub", "another Map-Server"])
def test_a_peer_that_falls_silent_is_not_taken_for_a_hub_that_passes_nothing_on(
    keeps_keys: bool, goes_on: bool
) -> None:
    world, _, node, _ = at_a_hub(keeps_keys=keeps_keys)

    for _ in range(200):
        if goes_on:
            node.say(PEER, b"are you there?")
        world.run(0.1)

    assert node.traversal.machines[0].deafness.is_reported is (goes_on and not keeps_keys)
    assert node.state == "relayed"


def test_a_silence_at_a_hub_has_the_binding_checked_again_later_because_it_is_told_once() -> None:
    """The binding may have died right after the first check."""
    world, _, node, _ = at_a_hub()
    world.run(10.0)
    (address, _), now = node.traversal.machines[0].locator.place, world.now

    first = registers(node.traversal.on_stalled(address, now))
    node.perform(first)
    world.run(1.0)
    again = registers(node.traversal.on_timer(now + PATIENCE_S))

    assert (len(first), len(again)) == (1, 1)
    assert not node.traversal.machines[0].deafness.is_reported


def registers(effects: list[NattEffect]) -> list[NattEffect]:
    return [
        one
        for one in effects
        if isinstance(one, SendFromDataPort) and one.payload[0] >> 4 == MessageType.ENCAPSULATED_CONTROL
    ]

"""A node in the open whose network drops UDP port 4341 asks its peer and the hub's RTR, and uses the RTR."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import count

import pytest
from msgspec.structs import replace

from lispmob.control.probing.path import ProbeConfig
from lispmob.hub.dispatch import ControlPlane
from lispmob.hub.map_server.site import Site
from lispmob.hub.rtr.rtr_effect import InData, SendFromRelayPort
from lispmob.hub.rtr.traversal import PlaneEffect, TraversalPolicy
from lispmob.natt.arrival import DataControl
from lispmob.natt.effect import PlanChanged, SendFromDataPort
from lispmob.natt.plan import NattPlan
from lispmob.node.node import MapServerPeer, NodeConfig, NodeEffect
from lispmob.protocol.effect import SendControl
from lispmob.protocol.natt_settings import NattSettings
from lispmob.wire.address import EidPrefix
from lispmob.wire.header import CONTROL_PORT, DATA_PORT
from lispmob.wire.ip_udp import parse_ip_udp
from tests.internet.network import Packet
from tests.internet.world import HUB, KEY, HubHost, NodeHost, World, ip, locator

WITHIN_S = 5.0


class Filter:
    """What the network between the first node and the rest drops: (destination port, is it dropped inwards)."""

    def __init__(self) -> None:
        self.is_on = False
        self.at_hub = False


class DataHub(HubHost):
    """An RTR too. It takes control messages in data at both of its ports."""

    def on_packet(self, packet: Packet) -> None:
        if packet.destination_port != DATA_PORT and packet.payload[0] >> 4:
            super().on_packet(packet)
            return
        inner = parse_ip_udp(packet.payload[8:])
        where = packet.source, packet.source_port, packet.destination
        is_control = packet.destination_port == CONTROL_PORT
        message = InData(inner.payload, *where, inner.source, inner.source_port, is_control)
        self._perform(self.plane.on_data_control(message, self.world.now))

    def _perform(self, effects: Iterable[PlaneEffect]) -> None:
        for effect in effects:
            if isinstance(effect, SendControl):
                packet = Packet(self.address, effect.destination, effect.payload, CONTROL_PORT, effect.port)
                self.world.internet.send(packet)
            elif isinstance(effect, SendFromRelayPort):
                port = CONTROL_PORT if effect.is_from_control_port else DATA_PORT
                self.world.internet.send(Packet(self.address, effect.destination, effect.payload, port, effect.port))


class DataNode(NodeHost):
    """Its data port carries control messages; a filter may stand in front of it."""

    outside = Filter()

    def on_packet(self, packet: Packet) -> None:
        if packet.destination_port == DATA_PORT:
            inner, now = parse_ip_udp(packet.payload[8:]), self.world.now
            ports = inner.source_port, packet.destination, inner.destination_port
            arrival = DataControl(
                inner.payload, inner.source, *ports, packet.source, packet.source_port, packet.destination, 2
            )
            self.perform(self.node.on_data_control(arrival, now))
        else:
            super().on_packet(packet)

    def perform(self, effects: Sequence[NodeEffect]) -> None:
        super().perform(effects)
        for effect in effects:
            if isinstance(effect, SendFromDataPort):
                is_dropped = effect.port == DATA_PORT and (
                    self.outside.is_on or (self.outside.at_hub and effect.destination == ip(HUB))
                )
                if not is_dropped:
                    packet = Packet(effect.source, effect.destination, effect.payload, DATA_PORT, effect.port)
                    self.world.internet.send(packet)
            elif isinstance(effect, PlanChanged):
                self.plan = effect.plan

    plan = NattPlan()


def two_nodes(*, is_rtr: bool = True) -> tuple[World, DataNode, DataNode]:
    """Two nodes in the open that know each other, and probe."""
    world = World(3)
    eids = [EidPrefix.parse(f"10.1.0.{number}/32") for number in (1, 2)]
    hub = DataHub(world, HUB, [Site(str(eid), (eid,), (KEY,)) for eid in eids])
    policy = TraversalPolicy(is_rtr=is_rtr)
    hub.plane = ControlPlane(
        [Site(str(eid), (eid,), (KEY,)) for eid in eids], traversal=policy, new_nonce=count(1).__next__
    )
    hub.plane.on_addresses([ip(HUB)])
    nodes = []
    for number, eid in enumerate(eids, start=1):
        server = MapServerPeer(ip(HUB), KEY)
        config = NodeConfig((eid,), (server,), (ip(HUB),), probing=ProbeConfig())
        config = replace(config, xtr_id=number.to_bytes(16), natt=NattSettings(mode="auto"))
        node = DataNode(world, config)
        node.outside = Filter()
        node.attach(locator(f"198.51.100.{number}"))
        nodes.append(node)
    world.run(2.0)
    for _ in range(8):
        nodes[0].talk_to(nodes[1])
        nodes[1].talk_to(nodes[0])
        world.run(0.5)
    return world, nodes[0], nodes[1]


def is_relayed(node: DataNode) -> bool:
    return any(uplink.relays for uplink in node.plan.uplinks)


def lose(world: World, node: DataNode, *, answers: bool) -> None:
    """Data to the peer is unanswered; with `answers` the peer's own data still comes in."""
    peer = ip("198.51.100.2")
    node.perform(node.node.on_unanswered(peer, True, world.now))
    for _ in range(10):
        world.run(0.4)
        if answers:
            node.perform(node.node.on_heard([(ip("198.51.100.1"), peer)], world.now))


@pytest.mark.parametrize("answers", [False, True])
def test_a_network_that_drops_data_is_passed_by_the_rtr_within_5_s(answers: bool) -> None:
    world, node, _ = two_nodes()
    assert not is_relayed(node)
    node.outside.is_on = True

    lose(world, node, answers=answers)

    assert is_relayed(node)
    assert node.plan.uplinks[0].relays[0].port == CONTROL_PORT


def test_data_that_only_comes_in_shows_the_filter_too() -> None:
    world, node, _ = two_nodes()
    node.outside.is_on = True
    began = world.now

    while not is_relayed(node) and world.now < began + 10.0:
        node.perform(node.node.on_heard([(ip("198.51.100.1"), ip("198.51.100.2"))], world.now))
        world.run(0.2)

    assert world.now - began <= 6.5


@pytest.mark.parametrize("what", ["a silent peer", "a filter of the hub", "no RTR"])
def test_data_that_is_unanswered_for_another_reason_changes_nothing(what: str) -> None:
    world, node, _ = two_nodes(is_rtr=what != "no RTR")
    node.outside.at_hub = what == "a filter of the hub"
    node.outside.is_on = what == "no RTR"

    lose(world, node, answers=False)

    assert not is_relayed(node)

"""Data of one family is lost between two nodes while control messages pass: packets move to where data passes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest

from lispmob.control.probing.path import ProbeConfig
from lispmob.hub.map_server.site import Site
from lispmob.natt.arrival import DataControl
from lispmob.natt.effect import SendFromDataPort
from lispmob.node.node import MapServerPeer, NodeConfig, NodeEffect
from lispmob.protocol.locator_set import NEVER, LocalLocator
from lispmob.wire.address import EidPrefix, IpAddress
from lispmob.wire.header import DATA_PORT
from lispmob.wire.ip_udp import parse_ip_udp
from tests.internet.network import Network
from tests.internet.world import KEY, HubHost, NodeHost, Packet, World, ip, locator

HUBS = {4: "192.0.2.1", 6: "2001:db8:99::10"}
A = {4: locator("198.51.100.1"), 6: locator("2001:db8:a::2")}
B = {4: locator("203.0.113.1"), 6: locator("2001:db8:b::2")}
OTHER = {4: 6, 6: 4}
WITHIN_S = 5.0
STEP_S = 0.1
SILENCE_S = 0.5  # that the datapath waits for an answer to data
PROBING = ProbeConfig(interval_s=5.0, timeout_s=0.5)


class FilteringNetwork(Network):
    """Drops data from one address to another."""

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.filtered: set[tuple[IpAddress, IpAddress]] = set()

    def send(self, packet: Packet) -> None:
        is_data = packet.data is not None or packet.destination_port == DATA_PORT
        if not (is_data and (packet.source, packet.destination) in self.filtered):
            super().send(packet)


@dataclass
class DataHost(NodeHost):
    """Takes and sends control messages in data, and notices data that is unanswered."""

    takes_control: bool = True
    unanswered: dict[IpAddress, float] = field(default_factory=dict)
    heard: dict[IpAddress, float] = field(default_factory=dict)
    arrivals: list[tuple[float, IpAddress]] = field(default_factory=list)  # with the local address
    questions: int = 0

    def on_packet(self, packet: Packet) -> None:
        now = self.world.now
        if packet.destination_port == DATA_PORT:
            inner = parse_ip_udp(packet.payload[8:])
            ports = inner.source_port, packet.destination, inner.destination_port
            outer = packet.source, packet.source_port, packet.destination
            if self.takes_control:
                arrival = DataControl(inner.payload, inner.source, *ports, *outer, 2)
                self.perform(self.node.on_data_control(arrival, now))
            return
        if packet.data is not None:
            self.unanswered.pop(packet.source, None)
            self.heard[packet.source] = now
            self.arrivals.append((now, packet.destination))
        super().on_packet(packet)

    def talk_to(self, other: NodeHost) -> None:
        super().talk_to(other)
        found = self.table.lookup(other.eid)
        if found is not None and found[1].locators:
            self.unanswered.setdefault(found[1].locators[0].address, self.world.now)

    def notice(self) -> None:
        """Report what was unanswered for too long, as the datapath does."""
        now = self.world.now
        for remote, since in list(self.unanswered.items()):
            if now - since >= SILENCE_S:
                self.unanswered[remote] = now
                is_flowing = self.heard.get(remote, float("-inf")) > now - 2 * SILENCE_S
                self.perform(self.node.on_unanswered(remote, is_flowing, now))

    def perform(self, effects: Sequence[NodeEffect]) -> None:
        super().perform(effects)
        for effect in effects:
            if isinstance(effect, SendFromDataPort):
                self.questions += 1
                packet = Packet(effect.source, effect.destination, effect.payload, DATA_PORT, effect.port)
                self.world.internet.send(packet)


class Pair:
    """Two nodes with addresses of both families, and a hub with one. `talks`: which of them send packets."""

    def __init__(
        self,
        hub_family: int,
        own: Sequence[LocalLocator] = tuple(A.values()),
        peer: Sequence[LocalLocator] = tuple(B.values()),
        talks: tuple[int, ...] = (0, 1),
    ) -> None:
        self.world = World(3)
        self.world.internet = self.network = FilteringNetwork(self.world)
        eids = [EidPrefix.parse(f"10.1.0.{number}/32") for number in (1, 2)]
        HubHost(self.world, HUBS[hub_family], [Site(str(eid), (eid,), (KEY,)) for eid in eids])
        server = MapServerPeer(ip(HUBS[hub_family]), KEY)
        self.nodes = [
            DataHost(self.world, NodeConfig((eid,), (server,), (server.address,), probing=PROBING)) for eid in eids
        ]
        self.node, self.peer = self.nodes
        self.node.attach(*own)
        self.peer.attach(*peer)
        self.talks = talks
        self.world.run(2.0)
        self.chat(8.0)

    def chat(self, seconds: float) -> None:
        for _ in range(round(seconds / STEP_S)):
            for number in self.talks:
                self.nodes[number].talk_to(self.nodes[1 - number])
                self.nodes[number].notice()
            self.world.run(STEP_S)

    def lose(self, family: int, direction: str) -> None:
        """Data between the nodes is lost by this family, seen from the first node."""
        ends = A[family].address, B[family].address
        out, back = {ends}, {(ends[1], ends[0])}
        self.network.filtered |= {"out": out, "in": back, "both": out | back}[direction]

    def arrived_by(self) -> list[set[int]]:
        """For each node, the families by which data came to it in the last second."""
        since = self.world.now - 1.0
        return [{address.version for at, address in node.arrivals if at > since} for node in self.nodes]

    def priorities(self) -> list[dict[int, int]]:
        return [{one.address.version: one.priority for one in node.node.locators.locators} for node in self.nodes]


@pytest.mark.parametrize("direction", ["out", "in", "both"])
@pytest.mark.parametrize("family", [4, 6])
def test_data_that_is_lost_by_the_family_of_the_hub_flows_by_the_other_within_5_s(family: int, direction: str) -> None:
    pair = Pair(family)
    assert pair.arrived_by() == [{family}, {family}]
    assert pair.priorities() == [{family: 1, OTHER[family]: NEVER}] * 2

    pair.lose(family, direction)
    pair.chat(WITHIN_S)

    assert pair.arrived_by()[0] == {OTHER[family]}
    assert pair.arrived_by()[1] == {OTHER[family]}


@pytest.mark.parametrize(("family", "direction"), [(6, "out"), (4, "in"), (6, "both")])
def test_data_does_not_go_back_while_the_filter_stays(family: int, direction: str) -> None:
    pair = Pair(family)
    pair.lose(family, direction)
    pair.chat(WITHIN_S)
    for _ in range(10):
        pair.chat(10.0)

        assert pair.arrived_by() == [{OTHER[family]}, {OTHER[family]}]


@pytest.mark.parametrize("direction", ["out", "in", "both"])
def test_data_goes_back_to_the_better_locator_soon_after_the_filter_is_gone(direction: str) -> None:
    own = (LocalLocator(A[4].address, 2, "eth2", 2), A[6])
    peer = (LocalLocator(B[4].address, 2, "eth2", 2), B[6])
    pair = Pair(6, own, peer)
    pair.lose(6, direction)
    pair.chat(20.0)
    assert pair.arrived_by() == [{4}, {4}]

    pair.network.filtered.clear()
    pair.chat(45.0)

    assert pair.arrived_by() == [{6}, {6}]


@pytest.mark.parametrize("talks", [(0, 1), (0,)], ids=["both send", "one sends"])
@pytest.mark.parametrize("direction", ["out", "both"])
def test_data_that_is_lost_to_one_of_two_announced_locators_goes_to_the_other(
    direction: str, talks: tuple[int, ...]
) -> None:
    second = LocalLocator(ip("203.0.113.77"), 3, "eth3", 2)
    pair = Pair(4, (A[4],), (B[4], second), talks)

    pair.lose(4, direction)
    pair.chat(WITHIN_S)

    found = pair.node.table.lookup(pair.peer.eid)
    assert found is not None
    assert [one.address for one in found[1].locators] == [second.address]
    assert pair.arrived_by()[1] == {4}


def test_two_nodes_whose_data_passes_ask_each_other_nothing_more_after_a_lull() -> None:
    pair = Pair(6)
    for host in pair.nodes:
        host.perform(host.node.on_unanswered(B[6].address if host is pair.node else A[6].address, True, pair.world.now))
    pair.chat(5.0)
    asked = [node.questions for node in pair.nodes]

    pair.chat(60.0)

    assert [node.questions for node in pair.nodes] == asked
    assert pair.priorities() == [{6: 1, 4: NEVER}] * 2


def test_nothing_is_asked_in_data_and_no_last_resort_is_tried_while_data_flows() -> None:
    pair = Pair(6)

    pair.chat(60.0)

    assert [node.questions for node in pair.nodes] == [0, 0]
    assert pair.priorities() == [{6: 1, 4: NEVER}] * 2


def test_a_peer_without_control_messages_in_data_keeps_its_locator_though_nothing_comes_back() -> None:
    second = LocalLocator(ip("203.0.113.77"), 3, "eth3", 2)
    pair = Pair(4, (A[4],), (B[4], second), talks=(0,))
    pair.peer.takes_control = False

    for _ in range(15):
        pair.chat(2.0)
        found = pair.node.table.lookup(pair.peer.eid)
        assert found is not None
        assert found[1].locators[0].address == B[4].address


def test_data_that_is_lost_everywhere_stays_on_the_best_locator() -> None:
    second = LocalLocator(ip("203.0.113.77"), 3, "eth3", 2)
    pair = Pair(4, (A[4],), (B[4], second))
    pair.network.filtered |= {(A[4].address, B[4].address), (A[4].address, second.address)}
    pair.chat(WITHIN_S)

    for _ in range(15):
        pair.chat(2.0)
        found = pair.node.table.lookup(pair.peer.eid)
        assert found is not None
        assert (found[1].disposition, found[1].locators[0].address) == ("ENCAPSULATE", B[4].address)

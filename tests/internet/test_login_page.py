"""A login page that redirects all UDP to itself until the login, and holds each flow for as long as packets come."""

from __future__ import annotations

import pytest

from lispmob.control.source_ports import REST_S, TRIES
from lispmob.hub.map_server.site import Site
from lispmob.node.node import MapServerPeer, NodeConfig
from lispmob.protocol.natt_settings import NattSettings
from lispmob.wire.address import EidPrefix
from lispmob.wire.header import CONTROL_PORT, MessageType
from tests.internet.nat import Kind, NatBox
from tests.internet.network import Packet, World
from tests.internet.world import HUB, KEY, HubHost, NodeHost, ip, locator

EIDS = tuple(EidPrefix.parse(f"10.1.0.{number}/32") for number in (1, 2, 3))
OPEN, PRIVATE = "198.51.100.7", "192.168.8.7"
SOON_S = 5.0


class Hotel:
    """A node in a network with such a page, and a hub outside."""

    def __init__(
        self, address: str, *, eids: int = 1, kind: Kind = Kind.ADDRESS_AND_PORT_DEPENDENT, logged_in: bool = False
    ) -> None:
        self.world = World()
        self.hub = HubHost(self.world, HUB, [Site(str(eid), (eid,), (KEY,), strict_nonces=True) for eid in EIDS])
        is_private = ip(address).is_private and address == PRIVATE
        self.nat = NatBox(self.world, "203.0.113.20", mapping=kind, filtering=kind, translates=is_private)
        self.nat.has_login_page = not logged_in
        self.node = NodeHost(
            self.world, NodeConfig(EIDS[:eids], (MapServerPeer(ip(HUB), KEY),), (ip(HUB),), natt=NattSettings("auto"))
        )
        self.node.inside = self.nat
        self.node.attach(locator(address))
        self.world.run(2.0)

    def is_registered(self) -> bool:
        return all(one.is_confirmed for one in self.node.node.registrations)

    def is_seen(self) -> bool:
        """True when the Map-Server has told our outside address."""
        return self.node.node.traversal.machines[0].seen is not None

    def log_in(self) -> None:
        self.nat.has_login_page = False

    def sent_from(self, since: float) -> list[int]:
        """The source ports of what has arrived at the hub, translated or not."""
        return [
            one.source_port for at, one in self.world.internet.carried if at >= since and one.destination == ip(HUB)
        ]


@pytest.mark.parametrize("outage_s", [6.0, 21.0, 58.0])
@pytest.mark.parametrize("eids", [1, 3])
def test_a_node_is_registered_within_seconds_of_the_login(outage_s: float, eids: int) -> None:
    hotel = Hotel(OPEN, eids=eids)
    hotel.world.run(outage_s)
    assert not hotel.is_registered()

    hotel.log_in()
    hotel.world.run(SOON_S)

    assert hotel.is_registered()


@pytest.mark.parametrize("outage_s", [4.0, 17.0, 44.0])
@pytest.mark.parametrize("kind", Kind)
def test_a_node_behind_a_nat_knows_its_outside_address_within_seconds_of_the_login(kind: Kind, outage_s: float) -> None:
    hotel = Hotel(PRIVATE, kind=kind)
    hotel.world.run(outage_s)
    assert not hotel.is_seen()

    hotel.log_in()
    hotel.world.run(SOON_S)

    assert hotel.is_seen()
    assert hotel.node.node.traversal.machines[0].reach.value == "nat"


def test_an_address_in_the_open_is_not_taken_for_a_translated_one_because_of_the_other_port() -> None:
    hotel = Hotel(OPEN)
    hotel.world.run(10.0)

    hotel.log_in()
    hotel.world.run(SOON_S)

    assert hotel.node.node.traversal.machines[0].reach.value == "direct"


def test_lookups_leave_from_the_port_that_is_answered() -> None:
    hotel = Hotel(OPEN)
    other = NodeHost(hotel.world, NodeConfig(EIDS[1:2], (MapServerPeer(ip(HUB), KEY),), (ip(HUB),)))
    other.attach(locator("198.51.100.8"))
    hotel.world.run(20.0)
    hotel.log_in()
    hotel.world.run(SOON_S)

    hotel.node.talk_to(other)
    hotel.world.run(0.5)

    found = hotel.node.table.lookup(other.eid)
    assert found is not None
    assert [one.address for one in found[1].locators] == [ip("198.51.100.8")]


@pytest.mark.parametrize("address", [OPEN, PRIVATE], ids=["in the open", "behind a NAT"])
def test_the_control_port_is_used_again_once_the_network_has_forgotten_the_old_flow(address: str) -> None:
    hotel = Hotel(address)
    hotel.world.run(30.0)
    hotel.log_in()
    hotel.world.run(SOON_S)
    assert hotel.node.node.source_ports.is_away(ip(address))

    hotel.world.run(4 * REST_S)

    assert not hotel.node.node.source_ports.is_away(ip(address))
    assert not hotel.node.node.source_ports.open_ports
    assert hotel.is_registered() or address == PRIVATE


def test_a_filter_that_lets_only_the_control_port_pass_costs_a_few_tries_more() -> None:
    hotel = Hotel(OPEN, logged_in=True)
    passes, inner = hotel.nat.send, list[Packet]()

    def only_the_control_port(packet: Packet) -> None:
        inner.append(packet)
        if packet.source_port == CONTROL_PORT and hotel.world.now > 40.0:
            passes(packet)

    hotel.nat.send = only_the_control_port  # type: ignore[method-assign]
    hotel.node.attach(locator("198.51.100.9"))
    hotel.world.run(60.0)

    assert hotel.is_registered()


def test_an_outage_costs_no_more_messages_than_without_other_ports_and_few_ports_are_open() -> None:
    hotel = Hotel(OPEN)
    most = 0
    for _ in range(600):
        hotel.world.run(1.0)
        most = max(most, len(hotel.node.node.source_ports.open_ports))
    registers = [one for at, one in hotel.node.sent if one.payload[0] >> 4 == MessageType.MAP_REGISTER]

    assert most <= 3
    assert len(registers) <= 50  # 4 s apart while the outage is young, then a twentieth of its age
    assert len(registers) > TRIES


def test_nothing_leaves_from_another_port_where_all_is_well() -> None:
    hotel = Hotel(OPEN, logged_in=True)

    hotel.world.run(900.0)

    assert hotel.is_registered()
    assert set(hotel.sent_from(0.0)) == {CONTROL_PORT}

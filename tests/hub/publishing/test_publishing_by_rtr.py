"""Publications to a node whose NAT forgets, and whose RTR is not the Map-Server: by the RTR, which has a binding."""

from __future__ import annotations

from dataclasses import dataclass, field
from ipaddress import ip_address

import pytest

from lispmob.hub.dispatch import ControlPlane
from lispmob.hub.map_server.effect import Arrival
from lispmob.hub.map_server.lisp_sec import HubSecurity
from lispmob.hub.rtr.relayed import RtrPeer
from lispmob.hub.rtr.rtr import MapServerLink
from lispmob.hub.rtr.rtr_effect import InData
from lispmob.hub.rtr.traversal import TraversalPolicy
from lispmob.protocol.effect import SendControl
from lispmob.wire.address import IpAddress
from lispmob.wire.auth import Key, sign
from lispmob.wire.data_header import split_data_packet
from lispmob.wire.ecm import EncapsulatedControl
from lispmob.wire.ip_udp import parse_ip_udp
from lispmob.wire.map_notify import MapNotify, MapNotifyAck
from tests.crypto.support import KEY_WRAP, needs_libcrypto
from tests.hub.exchange import HUB, eid, sent, site, xtr
from tests.hub.publishing.subscriber import MOVER, Subscriber, mover, rlocs, until
from tests.hub.rtr.rtr_scene import NAT, RTR, RTR_KEY, WIFI, XTR_ID, Scene

pytestmark = needs_libcrypto

DATA_PORT, CONTROL_PORT = 20_001, 40_000
"""Where the NAT has the node's two ports: keepalives keep the first binding, and the second one lapses."""
SITES = (site("10.1.0.0/16"), site("2001:db8:1::/48"))
MOVERS = {4: MOVER, 6: "2001:db8:1::7/128"}
STRANGER = ip_address("203.0.113.66")


@dataclass
class Town:
    """A Map-Server, an RTR and a node behind a NAT that has subscribed and whose control port has lapsed since."""

    version: int = 4
    server: ControlPlane = field(init=False)
    rtr: ControlPlane = field(init=False)
    node: Subscriber = field(init=False)
    arrived: list[tuple[bytes, InData]] = field(default_factory=list)
    """What has passed the NAT, with the path of its answer."""

    def __post_init__(self) -> None:
        own = "10.1.0.1/32" if self.version == 4 else "2001:db8:1::1/128"
        server = TraversalPolicy(rtrs=(RtrPeer(RTR, RTR_KEY),))
        rtr = TraversalPolicy(is_rtr=True, map_servers=(MapServerLink(HUB, RTR_KEY),))
        self.server = ControlPlane(SITES, security=HubSecurity("prefer", KEY_WRAP), traversal=server)
        self.rtr = ControlPlane((), traversal=rtr)
        self.server.on_addresses([HUB])
        self.rtr.on_addresses([RTR])
        self.move("203.0.113.5", 0.0)
        register = Scene().register(public=(NAT, DATA_PORT), eid=eid(own))
        self.carry(self.rtr.on_datagram(register, 0.0), RTR, 0.0)
        self.node = Subscriber(self.server, address=str(NAT), own=own, xtr_id=XTR_ID)
        asked = self.node.arrival(self.node.request(MOVERS[self.version], rlocs=(str(WIFI),)), source_port=CONTROL_PORT)
        (confirmed,) = [out for out in sent(self.server.on_datagram(asked, 1.0)) if out.destination == NAT]
        self.node.acknowledge(confirmed, 1.1)
        self.arrived.clear()

    def carry(self, effects: object, source: IpAddress, now: float) -> None:
        """Between the two, and to the node as far as its NAT lets it in."""
        for out in sent(effects):  # type: ignore[arg-type]
            if out.destination == RTR:
                self.carry(self.rtr.on_datagram(Arrival(out.payload, source, 4342, RTR), now), RTR, now)
            elif out.destination == HUB:
                self.carry(self.server.on_datagram(Arrival(out.payload, source, 4342, HUB), now), HUB, now)
            elif (out.destination, out.port, source) == (NAT, DATA_PORT, RTR):
                inner = parse_ip_udp(split_data_packet(out.payload)[1])
                self.arrived.append((inner.payload, InData(b"", NAT, DATA_PORT, RTR, inner.destination, 4342)))

    def move(self, address: str, now: float) -> None:
        self.carry(self.server.on_datagram(xtr(address).register(MOVERS[self.version]), now), HUB, now)

    def acknowledge(self, payload: bytes, now: float) -> None:
        """As the node does: in data, by the way that the publication came."""
        notify = MapNotify.decode(payload)
        ack = sign(MapNotifyAck(notify.nonce, notify.records), Key(self.node.secret, self.node.key.key_id))
        back = InData(ack, NAT, DATA_PORT, RTR, WIFI, 4342)
        self.carry(self.rtr.on_data_control(back, now), RTR, now)


@pytest.mark.parametrize("version", [4, 6])
def test_a_move_is_published_by_the_rtr_when_the_nat_has_forgotten_the_control_port(version: int) -> None:
    town = Town(version)

    town.move("203.0.113.77", 60.0)

    ((payload, _),) = town.arrived
    assert rlocs(town.node.read(SendControl(payload, NAT))) == ["203.0.113.77"]


def test_the_acknowledgement_finds_the_map_server_and_nothing_is_repeated() -> None:
    town = Town()
    town.move("203.0.113.77", 60.0)

    town.acknowledge(town.arrived[-1][0], 60.1)

    assert until(town.server, 200.0) == []
    assert len(town.server.publisher) == 1


def test_a_publication_that_got_lost_is_repeated_by_the_rtr() -> None:
    town = Town()
    town.move("203.0.113.77", 60.0)
    (first,) = town.arrived

    for at, out in until(town.server, 64.0):
        town.carry([out], HUB, at)

    assert [payload for payload, _ in town.arrived] == [first[0]] * 2


def test_an_rtr_that_passes_nothing_on_leaves_the_binding_of_the_control_port() -> None:
    town = Town()

    told = sent(town.server.on_datagram(mover("203.0.113.77"), 60.0))

    assert (NAT, CONTROL_PORT) in [(out.destination, out.port) for out in told]


@pytest.mark.parametrize("key", [None, Key(b"a guess", key_id=1)])
def test_a_publication_without_the_map_servers_proof_is_not_passed_on(key: Key | None) -> None:
    town = Town()
    town.server.on_sites(SITES, (), TraversalPolicy(rtrs=(RtrPeer(RTR, key),)), now=50.0)

    town.move("203.0.113.77", 60.0)

    assert town.arrived == []


def test_only_the_map_server_itself_may_have_something_passed_on() -> None:
    town = Town()
    told = sent(town.server.on_datagram(mover("203.0.113.77"), 60.0))
    (out,) = [out for out in told if out.destination == RTR]

    for source, port in ((STRANGER, 4342), (HUB, 4343)):
        town.carry(town.rtr.on_datagram(Arrival(out.payload, source, port, RTR), 60.0), RTR, 60.0)

    assert town.arrived == []
    assert town.rtr.counters["rx_policy"] == 2


def test_a_publication_for_an_eid_that_is_not_registered_there_goes_nowhere() -> None:
    town = Town()
    told = sent(town.server.on_datagram(mover("203.0.113.77"), 60.0))
    (out,) = [out for out in told if out.destination == RTR]
    ecm = EncapsulatedControl.decode(out.payload)
    other = EncapsulatedControl(
        ecm.source, 4342, ip_address("10.1.0.9"), 4342, ecm.message, authentication=ecm.authentication, to_rtr=True
    )

    town.carry(town.rtr.on_datagram(Arrival(other.encode(), HUB, 4342, RTR), 60.0), RTR, 60.0)

    assert town.arrived == []
    assert town.rtr.counters["rx_nonce"] == 1


def test_an_acknowledgement_of_nothing_goes_nowhere() -> None:
    town = Town()
    ack = sign(MapNotifyAck(1234, ()), Key(b"a guess"))

    assert sent(town.rtr.on_data_control(InData(ack, NAT, DATA_PORT, RTR, WIFI, 4342), 60.0)) == []

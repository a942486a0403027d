"""The kind of a NAT as it is found, through NATs whose kind is known; and what is no answer."""

from __future__ import annotations

from itertools import count, product

import pytest

from lispmob.hub.map_server.effect import Arrival
from lispmob.hub.map_server.info import InfoResponder
from lispmob.hub.map_server.map_resolver import MapResolver
from lispmob.hub.map_server.map_server import MapServer
from lispmob.hub.map_server.site import Site
from lispmob.hub.rtr.rtr_effect import InData
from lispmob.hub.rtr.rtr_lispers import tell_place
from lispmob.natt.dialect import Dialect
from lispmob.natt.info_exchange import Seen
from lispmob.natt.kind_probe import ANSWER_S, TRIES, FilteringProbe, KindEffect, KindFound, MappingProbe
from lispmob.natt.question import SendFromSparePort
from lispmob.protocol.effect import SendControl
from lispmob.protocol.servers import MapServerPeer
from lispmob.wire.address import IpAddress
from lispmob.wire.auth import Algorithm, Key, sign
from lispmob.wire.data_header import DATA_HEADER_OCTETS
from lispmob.wire.header import CONTROL_PORT, DATA_PORT, MessageType
from lispmob.wire.info import InfoReply, InfoRequest
from lispmob.wire.ip_udp import parse_ip_udp
from lispmob.wire.lcaf_types import NatTraversal
from lispmob.wire.map_reply import MapReply
from tests.internet.nat import Kind, NatBox
from tests.internet.network import Packet, World, ip
from tests.natt.world import EID, KEY, MAP_SERVER, RTR, locator

SPARE_PORT = 50321
NAT = ip("203.0.113.200")


class Servers:
    """A Map-Server and an RTR, both of them Map-Resolvers too; `silent` ones answer nothing."""

    def __init__(self, world: World, *silent: IpAddress) -> None:
        self.world, self.silent = world, silent
        server = MapServer([Site("home", (EID,), (KEY,))])
        self.info, self.resolver = InfoResponder(server.sites), MapResolver(server, new_nonce=count(1).__next__)
        for address in (MAP_SERVER, RTR):
            world.internet.plug(address, self.on_packet)

    def on_packet(self, packet: Packet) -> None:
        if packet.destination in self.silent:
            return
        if packet.destination_port == DATA_PORT:
            udp = parse_ip_udp(packet.payload[DATA_HEADER_OCTETS:])
            place = packet.source, packet.source_port
            punch = InData(udp.payload, *place, packet.destination, udp.source, udp.source_port)
            answer = tell_place(InfoRequest.decode(udp.payload), punch)
            self.world.internet.send(Packet(packet.destination, *place[:1], answer.payload, DATA_PORT, place[1]))
            return
        arrival = Arrival(packet.payload, packet.source, packet.source_port, packet.destination)
        is_info = packet.payload[0] >> 4 == MessageType.INFO
        ask = self.info.on_info_request if is_info else self.resolver.on_encapsulated_control
        for effect in ask(arrival, self.world.now):
            if isinstance(effect, SendControl):
                sent = Packet(packet.destination, effect.destination, effect.payload, CONTROL_PORT, effect.port)
                self.world.internet.send(sent)


class Prober:
    """A probe on a host behind a NAT."""

    def __init__(
        self, kind: type[MappingProbe | FilteringProbe], world: World, nat: NatBox, rtr: IpAddress = RTR
    ) -> None:
        self.world, self.nat, self.here = world, nat, locator()
        seen = Seen(MapServerPeer(MAP_SERVER, KEY), Dialect.E19, nat.public, CONTROL_PORT, (), False, 3600.0, 0.02)
        self.probe = kind(self.here, EID, seen, rtr, b"laptop", new_nonce=count(1).__next__)
        self.found: list[KindFound] = []
        self.sent: list[tuple[float, IpAddress]] = []
        nat.plug(self.here.address, self.on_packet)
        world.hosts.append(self)
        self.perform(self.probe.start(world.now))

    def wake_at(self) -> float | None:
        return self.probe.wake_at()

    def on_timer(self, now: float) -> None:
        self.perform(self.probe.on_timer(now))

    def on_packet(self, packet: Packet) -> None:
        if packet.destination_port == SPARE_PORT:
            self.perform(self.probe.on_spare_datagram(packet.payload, self.world.now))
        else:
            self.probe.on_control_reply(MapReply.decode(packet.payload))

    def perform(self, effects: list[KindEffect]) -> None:
        for effect in effects:
            if isinstance(effect, KindFound):
                self.found.append(effect)
                continue
            self.sent.append((self.world.now, effect.destination))
            port = SPARE_PORT if isinstance(effect, SendFromSparePort) else CONTROL_PORT
            self.nat.send(Packet(self.here.address, effect.destination, effect.payload, port, effect.port))


def found(
    kind: type[MappingProbe | FilteringProbe], *silent: IpAddress, rtr: IpAddress = RTR, **options: object
) -> tuple[str | None, str | None]:
    world = World()
    Servers(world, *silent)
    prober = Prober(kind, world, NatBox(world, str(NAT), **options), rtr)  # type: ignore[arg-type]
    world.run(60.0)
    (one,) = prober.found
    assert (one.address, prober.probe.wake_at()) == (prober.here.address, None)
    return one.mapping, one.filtering


@pytest.mark.parametrize(("mapping", "filtering", "preserves"), list(product(Kind, Kind, (True, False))))
def test_the_filtering_of_a_nat_is_found_whatever_its_mapping(mapping: Kind, filtering: Kind, preserves: bool) -> None:
    verdict = found(FilteringProbe, mapping=mapping, filtering=filtering, preserves_ports=preserves)

    # That nothing comes says something only where an answer to the control port shows that there are answers.
    shows_answers = preserves and mapping is Kind.ENDPOINT_INDEPENDENT
    is_known = filtering is not Kind.ADDRESS_AND_PORT_DEPENDENT or shows_answers
    assert verdict == (None, filtering.value if is_known else None)


@pytest.mark.parametrize(("mapping", "filtering"), list(product(Kind, Kind)))
def test_the_mapping_of_a_nat_is_found_as_far_as_two_hosts_show_it(mapping: Kind, filtering: Kind) -> None:
    verdict = found(MappingProbe, mapping=mapping, filtering=filtering, preserves_ports=False)

    is_same = mapping is Kind.ENDPOINT_INDEPENDENT
    assert verdict == (Kind.ENDPOINT_INDEPENDENT.value if is_same else Kind.ADDRESS_DEPENDENT.value, None)


@pytest.mark.parametrize("kind", [MappingProbe, FilteringProbe])
def test_an_rtr_that_is_silent_is_asked_three_times_and_nothing_is_known(
    kind: type[MappingProbe | FilteringProbe],
) -> None:
    world = World()
    Servers(world, RTR)
    prober = Prober(kind, world, NatBox(world, str(NAT)))
    world.run(60.0)

    assert prober.sent == [(tries * ANSWER_S, RTR) for tries in range(TRIES)]
    assert prober.found == [KindFound(prober.here.address, None, None)]


def test_a_map_server_that_is_silent_leaves_the_mapping_unknown() -> None:
    assert found(MappingProbe, MAP_SERVER) == (None, None)


def test_an_answer_of_the_rtr_alone_shows_that_addresses_count() -> None:
    verdict = found(FilteringProbe, MAP_SERVER, filtering=Kind.ENDPOINT_INDEPENDENT)

    assert verdict == (None, Kind.ADDRESS_DEPENDENT.value)


@pytest.mark.parametrize(
    ("filtering", "shown"),
    [(Kind.ENDPOINT_INDEPENDENT, Kind.ADDRESS_DEPENDENT), (Kind.ADDRESS_DEPENDENT, Kind.ADDRESS_DEPENDENT)],
)
def test_an_rtr_at_the_map_servers_own_address_shows_less(filtering: Kind, shown: Kind) -> None:
    assert found(FilteringProbe, rtr=MAP_SERVER, filtering=filtering) == (None, shown.value)


def test_two_ports_of_one_host_show_that_ports_count() -> None:
    verdict = found(MappingProbe, rtr=MAP_SERVER, mapping=Kind.ADDRESS_AND_PORT_DEPENDENT, preserves_ports=False)

    assert verdict == (Kind.ADDRESS_AND_PORT_DEPENDENT.value, None)


def test_what_is_no_answer_only_delays_the_verdict() -> None:
    world = World()
    prober = Prober(MappingProbe, world, NatBox(world, str(NAT)))  # nobody is there
    nat = NatTraversal(CONTROL_PORT, 4000, NAT, RTR, None)
    key = Key(b"nobody's", algorithm=Algorithm.HMAC_SHA_256_128)
    forged = sign(InfoReply(5, None, 0, nat, ttl_min=1), key)

    for junk in (b"", b"\x00", forged, MapReply(2, ()).encode(), bytes(40)):
        assert prober.probe.on_spare_datagram(junk, 0.1) == []
    assert not prober.probe.on_control_reply(MapReply(4, ()))
    assert prober.probe.wake_at() == ANSWER_S

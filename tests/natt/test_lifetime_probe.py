"""The binding lifetime as measured through NATs whose lifetime is known."""

from __future__ import annotations

from itertools import count

import pytest

from lispmob.hub.map_server.effect import Arrival
from lispmob.hub.map_server.info import InfoResponder
from lispmob.hub.map_server.map_resolver import MapResolver
from lispmob.hub.map_server.map_server import MapServer
from lispmob.hub.map_server.site import Site
from lispmob.natt.dialect import Dialect
from lispmob.natt.info_exchange import Seen
from lispmob.natt.keepalive import SHORTEST_S, Lifetime
from lispmob.natt.lifetime_probe import LifetimeMeasured, LifetimeProbe, Phase, ProbeEffect
from lispmob.natt.question import SendFromSparePort
from lispmob.protocol.effect import SendControl
from lispmob.protocol.servers import MapServerPeer
from lispmob.wire.header import CONTROL_PORT
from lispmob.wire.map_reply import MapReply
from lispmob.wire.record import MappingRecord
from tests.internet.nat import Kind, NatBox
from tests.internet.network import Packet, World, ip
from tests.natt.world import EID, KEY, MAP_SERVER, locator

SPARE_PORT = 50321


class Server:
    """A Map-Server that is also a Map-Resolver, unless it ignores lookups."""

    def __init__(self, world: World, *, resolves: bool = True) -> None:
        self.world, self.resolves = world, resolves
        server = MapServer([Site("home", (EID,), (KEY,))])
        self.info, self.resolver = InfoResponder(server.sites), MapResolver(server, new_nonce=count(1).__next__)
        world.internet.plug(MAP_SERVER, self.on_packet)

    def on_packet(self, packet: Packet) -> None:
        arrival = Arrival(packet.payload, packet.source, packet.source_port, packet.destination)
        if packet.payload[0] >> 4 == 7:
            effects = self.info.on_info_request(arrival, self.world.now)
        else:
            effects = self.resolver.on_encapsulated_control(arrival, self.world.now) if self.resolves else []
        for effect in effects:
            if isinstance(effect, SendControl):
                self.world.internet.send(
                    Packet(MAP_SERVER, effect.destination, effect.payload, CONTROL_PORT, effect.port)
                )


class Prober:
    """The probe on a host behind a NAT."""

    def __init__(self, world: World, nat: NatBox, control_port: int = 4342) -> None:
        self.world, self.nat = world, nat
        self.here = locator()
        seen = Seen(MapServerPeer(MAP_SERVER, KEY), Dialect.E19, nat.public, control_port, (), False, 3600.0, 0.02)
        nonces = count(1)
        self.probe = LifetimeProbe(self.here, EID, seen, new_nonce=nonces.__next__, known=Lifetime())
        self.trials = 0
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

    def perform(self, effects: list[ProbeEffect]) -> None:
        for effect in effects:
            self.trials += isinstance(effect, LifetimeMeasured)
            if isinstance(effect, SendControl | SendFromSparePort):
                port = SPARE_PORT if isinstance(effect, SendFromSparePort) else CONTROL_PORT
                self.nat.send(Packet(self.here.address, effect.destination, effect.payload, port, effect.port))


def measured(timeout_s: float, **options: object) -> Lifetime:
    world = World()
    Server(world)
    nat = NatBox(world, "203.0.113.200", timeout_s=timeout_s, **options)  # type: ignore[arg-type]
    prober = Prober(world, nat)
    world.run(1800.0)
    assert prober.probe.wake_at() is None
    return prober.probe.lifetime


@pytest.mark.parametrize("kind", [Kind.ENDPOINT_INDEPENDENT, Kind.ADDRESS_DEPENDENT])
@pytest.mark.parametrize("timeout_s", [12.0, 25.0, 45.0, 90.0, 150.0, 600.0])
def test_the_interval_fits_the_nat(timeout_s: float, kind: Kind) -> None:
    interval_s = measured(timeout_s, mapping=kind, filtering=kind).interval_s

    assert interval_s <= max(0.75 * timeout_s, SHORTEST_S)
    assert interval_s >= min(0.3 * timeout_s, 60.0)


def test_a_symmetric_nat_is_measured_as_well() -> None:
    world = World()
    Server(world)
    kind = Kind.ADDRESS_AND_PORT_DEPENDENT
    prober = Prober(world, NatBox(world, "203.0.113.200", mapping=kind, filtering=kind, timeout_s=45.0))

    world.run(600.0)

    assert (prober.probe.lifetime.at_least_s, prober.probe.lifetime.below_s) == (30.0, 60.0)


def test_with_a_server_that_resolves_nothing_nothing_is_learnt_and_the_probe_gives_up() -> None:
    world = World()
    Server(world, resolves=False)
    prober = Prober(world, NatBox(world, "203.0.113.200"))

    world.run(1800.0)

    assert prober.probe.lifetime == Lifetime()
    assert prober.probe.wake_at() is None


def test_an_answer_that_nobody_asked_for_is_counted() -> None:
    world = World()
    Server(world)
    prober = Prober(world, NatBox(world, "203.0.113.200"))
    stray = MapReply(12345, MapReply.decode(_reply()).records).encode()

    assert [str(effect) for effect in prober.probe.on_spare_datagram(stray, 1.0)] == ["Count(name='rx_nonce')"]


def test_an_answer_to_another_question_does_not_end_a_trial() -> None:
    world = World()
    Server(world, resolves=False)
    prober = Prober(world, NatBox(world, "203.0.113.200"))
    while prober.probe.phase is not Phase.ASKING:
        world.run(0.5)
    stray = MapReply(12345, MapReply.decode(_reply()).records).encode()

    said = [str(effect) for effect in prober.probe.on_spare_datagram(stray, world.now)]

    assert said == ["Count(name='rx_nonce')"]
    assert prober.probe.phase is Phase.ASKING


def _reply() -> bytes:
    return MapReply(1, (MappingRecord.of(EID),)).encode()


def test_the_place_outside_has_to_be_the_one_that_the_uplink_is_seen_at() -> None:
    world = World()
    Server(world)
    nat = NatBox(world, "203.0.113.200")
    prober = Prober(world, nat)
    nat.renumber(str(ip("203.0.113.201")))
    prober.perform(prober.probe.start(world.now))

    world.run(4.0)

    assert prober.probe.phase.value == "resting"


def test_a_server_that_answers_nothing_is_asked_in_five_trials_and_no_more() -> None:
    world = World()
    Server(world, resolves=False)
    prober = Prober(world, NatBox(world, "203.0.113.200"))
    trials, before = 0, prober.probe.phase
    for _ in range(3600):
        world.run(0.5)
        trials += before is not Phase.RESTING and prober.probe.phase is Phase.RESTING
        before = prober.probe.phase

    assert trials == 5
    assert prober.probe.wake_at() is None

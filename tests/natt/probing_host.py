"""A host with one probe on it, and the servers that answer its questions, in virtual time."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count
from typing import Generic, Protocol, TypeVar

from lispmob.hub.map_server.effect import Arrival
from lispmob.hub.map_server.info import InfoResponder
from lispmob.hub.map_server.map_resolver import MapResolver
from lispmob.hub.map_server.map_server import MapServer
from lispmob.hub.map_server.site import Site
from lispmob.hub.rtr.rtr_effect import InData
from lispmob.hub.rtr.rtr_lispers import tell_place
from lispmob.natt.dialect import Dialect
from lispmob.natt.info_exchange import Seen
from lispmob.natt.question import SendFromSparePort
from lispmob.protocol.effect import SendControl
from lispmob.protocol.locator_set import LocalLocator
from lispmob.protocol.servers import MapServerPeer
from lispmob.wire.address import IpAddress
from lispmob.wire.data_header import DATA_HEADER_OCTETS
from lispmob.wire.header import CONTROL_PORT, DATA_PORT, MessageType
from lispmob.wire.info import InfoRequest
from lispmob.wire.ip_udp import parse_ip_udp
from lispmob.wire.map_reply import MapReply
from tests.internet.network import Packet, Segment, World
from tests.natt.world import EID, KEY, MAP_SERVER, RTR

SPARE_PORT = 50321


class Probe(Protocol):
    """What the probes of natt/ have in common."""

    def start(self, now: float) -> Sequence[object]: ...

    def wake_at(self) -> float | None: ...

    def on_timer(self, now: float) -> Sequence[object]: ...

    def on_spare_datagram(self, payload: bytes, now: float) -> Sequence[object]: ...

    def on_control_reply(self, reply: MapReply) -> bool: ...


ProbeT = TypeVar("ProbeT", bound=Probe)


def seen_at(address: IpAddress, control_port: int = CONTROL_PORT) -> Seen:
    """The Map-Server's answer: it sees the uplink at this address."""
    return Seen(MapServerPeer(MAP_SERVER, KEY), Dialect.E19, address, control_port, (), False, 3600.0, 0.02)


class ProbingHost(Generic[ProbeT]):
    """A host on `segment` that performs what its probe asks for; the probe starts at once."""

    def __init__(self, world: World, segment: Segment, here: LocalLocator, probe: ProbeT) -> None:
        self.world, self.segment, self.here, self.probe = world, segment, here, probe
        self.sent: list[tuple[float, IpAddress]] = []
        """When it asked whom."""
        self.told: list[object] = []
        """What the probe has found, as its effects say."""
        segment.plug(here.address, self.on_packet)
        world.hosts.append(self)
        self.restart()

    def restart(self) -> None:
        """Start the probe, or start it again."""
        self._perform(self.probe.start(self.world.now))

    def wake_at(self) -> float | None:
        return self.probe.wake_at()

    def on_timer(self, now: float) -> None:
        self._perform(self.probe.on_timer(now))

    def on_packet(self, packet: Packet) -> None:
        if packet.destination_port == SPARE_PORT:
            self._perform(self.probe.on_spare_datagram(packet.payload, self.world.now))
        else:
            self.probe.on_control_reply(MapReply.decode(packet.payload))

    def _perform(self, effects: Sequence[object]) -> None:
        for effect in effects:
            if isinstance(effect, SendControl | SendFromSparePort):
                self.sent.append((self.world.now, effect.destination))
                port = SPARE_PORT if isinstance(effect, SendFromSparePort) else CONTROL_PORT
                self.segment.send(Packet(self.here.address, effect.destination, effect.payload, port, effect.port))
            else:
                self.told.append(effect)


class Servers:
    """A Map-Server and an RTR, both of them Map-Resolvers unless they resolve nothing; `silent` ones never answer."""

    def __init__(self, world: World, *silent: IpAddress, resolves: bool = True) -> None:
        self.world, self.silent, self.resolves = world, silent, resolves
        server = MapServer([Site("home", (EID,), (KEY,))])
        self.info, self.resolver = InfoResponder(server.sites), MapResolver(server, new_nonce=count(1).__next__)
        for address in (MAP_SERVER, RTR):
            world.internet.plug(address, self.on_packet)

    def on_packet(self, packet: Packet) -> None:
        if packet.destination in self.silent:
            return
        if packet.destination_port == DATA_PORT:
            self._punched(packet)
            return
        arrival = Arrival(packet.payload, packet.source, packet.source_port, packet.destination)
        is_info = packet.payload[0] >> 4 == MessageType.INFO
        if not is_info and not self.resolves:
            return
        ask = self.info.on_info_request if is_info else self.resolver.on_encapsulated_control
        for effect in ask(arrival, self.world.now):
            if isinstance(effect, SendControl):
                sent = Packet(packet.destination, effect.destination, effect.payload, CONTROL_PORT, effect.port)
                self.world.internet.send(sent)

    def _punched(self, packet: Packet) -> None:
        """Answer a request inside of data, as the RTR of lispers.net does."""
        udp = parse_ip_udp(packet.payload[DATA_HEADER_OCTETS:])
        punch = InData(udp.payload, packet.source, packet.source_port, packet.destination, udp.source, udp.source_port)
        answer = tell_place(InfoRequest.decode(udp.payload), punch)
        back = Packet(packet.destination, packet.source, answer.payload, DATA_PORT, packet.source_port)
        self.world.internet.send(back)

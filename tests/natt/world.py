"""Nodes, Map-Servers and RTRs on the Internet in memory, with data packets in place of a datapath."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from functools import partial
from itertools import count

from msgspec.structs import replace

from lispmob.hub.map_server.effect import Arrival
from lispmob.hub.map_server.info import InfoResponder
from lispmob.hub.map_server.map_resolver import MapResolver
from lispmob.hub.map_server.map_server import MapServer
from lispmob.hub.map_server.site import Site
from lispmob.hub.rtr.relayed import RelayedRegisters, RtrPeer, decode_relayed
from lispmob.hub.rtr.rtr import MapServerLink, Rtr, RtrPlaneEffect
from lispmob.hub.rtr.rtr_effect import InData, SendFromRelayPort, UnregisteredData
from lispmob.hub.rtr.rtr_lispers import NatCache, tell_place
from lispmob.natt.arrival import DataControl
from lispmob.natt.effect import DataSuspect, LifeSignWanted, NattEffect, PlanChanged, SendFromDataPort
from lispmob.natt.natt_config import NattConfig
from lispmob.natt.plan import UplinkPlan
from lispmob.natt.traversal import Traversal
from lispmob.protocol.datagram import Datagram
from lispmob.protocol.effect import (
    CONTROL_PORT,
    Count,
    Event,
    InstallMapping,
    RemoveMapping,
    SendControl,
    UsableLocator,
)
from lispmob.protocol.locator_set import LocalLocator, LocatorSet, Place
from lispmob.protocol.servers import MapServerPeer
from lispmob.wire.address import EidPrefix, IpAddress
from lispmob.wire.auth import Algorithm, Key, authenticate
from lispmob.wire.data_header import CONTROL_INSTANCE_ID, DATA_HEADER_OCTETS, DataHeader, split_data_packet
from lispmob.wire.ecm import EncapsulatedControl
from lispmob.wire.header import DATA_PORT, MessageType
from lispmob.wire.info import InfoRequest
from lispmob.wire.ip_udp import build_ip_udp, parse_ip_udp
from lispmob.wire.map_notify import MapNotify
from lispmob.wire.map_register import MapRegister
from lispmob.wire.map_request import MapRequest
from lispmob.wire.message import decode_control
from lispmob.wire.record import MappingRecord
from tests.internet.network import Packet, Segment, World, ip

KEY = Key(b"a secret", algorithm=Algorithm.HMAC_SHA_256_128)
OOR_KEY = Key(b"a secret", key_id=1, algorithm=Algorithm.HMAC_SHA_1_96)  # the only kind that it knows
RTR_KEY = Key(b"between servers", key_id=1, algorithm=Algorithm.HMAC_SHA_1_96)
EID = EidPrefix.parse("172.30.1.1/32")
PEER = EidPrefix.parse("172.30.2.2/32")
MAP_SERVER, RTR, RTR2 = ip("198.51.100.1"), ip("198.51.100.77"), ip("198.51.100.78")
XTR_ID = bytes(range(16))
EPHEMERAL = 50123
REGISTER_S, RETRY_S = 30.0, 2.0  # of the ordinary registration
STALL_S = 0.05  # how long the datapath waits for an answer before it reports that there is none


class MapServerHost:
    """A Map-Server with NAT traversal, or without it if `rtrs` is None."""

    def __init__(self, world: World, rtrs: Sequence[IpAddress] | None = (RTR,), *, key: Key | None = RTR_KEY) -> None:
        self.world = world
        self.map_server = MapServer([Site("home", (EID, PEER), (KEY, OOR_KEY), strict_nonces=True)])
        self.info = InfoResponder(self.map_server.sites, rtrs or (), answers_lispers=True)
        self.relayed = RelayedRegisters(self.map_server, [RtrPeer(rtr, key) for rtr in rtrs or ()])
        self.resolver = MapResolver(self.map_server, new_nonce=count(1).__next__)
        self.knows_natt = rtrs is not None
        self.deaf_to_e19 = False
        self.asked = 0
        world.hosts.append(self)
        world.internet.plug(MAP_SERVER, self.on_packet)

    def wake_at(self) -> float | None:
        return self.map_server.wake_at()

    def on_timer(self, now: float) -> None:
        self.map_server.on_timer(now)

    def on_packet(self, packet: Packet) -> None:
        arrival = Arrival(packet.payload, packet.source, packet.source_port, packet.destination)
        kind, now = packet.payload[0] >> 4, self.world.now
        effects: Sequence[object] = ()
        if kind == MessageType.INFO:
            self.asked += 1
            is_heard = self.knows_natt and not (self.deaf_to_e19 and InfoRequest.decode(packet.payload).authentication)
            effects = self.info.on_info_request(arrival, now) if is_heard else ()
        elif kind == MessageType.MAP_REGISTER:
            effects = self.map_server.on_map_register(arrival, now)
        elif (ecm := decode_relayed(packet.payload)) is not None:
            effects = self.relayed.on_encapsulated_register(arrival, ecm, now)
        elif kind == MessageType.ENCAPSULATED_CONTROL:
            effects = self.resolver.on_encapsulated_control(arrival, now)
        for effect in effects:
            if isinstance(effect, SendControl):
                # To where it came from: port 4342, except for nodes behind NATs.
                port = packet.source_port if kind == MessageType.MAP_REGISTER else effect.port
                self.world.internet.send(Packet(MAP_SERVER, effect.destination, effect.payload, CONTROL_PORT, port))

    def record(self, prefix: EidPrefix = EID) -> MappingRecord | None:
        found = self.map_server.registrations.get(prefix)
        return found.record if found else None


class FragileMapServerHost(MapServerHost):
    """As Open Overlay Router's: without RTRs it crashes on a complete Info-Request; with some it takes I=1 from them.

    It drops a message whose digest is cut short in either case, without reading it.
    """

    def __init__(self, world: World, rtrs: Sequence[IpAddress] | None = None) -> None:
        super().__init__(world, rtrs)
        self.deaths = 0
        self.is_up = True
        self.drops: dict[bool, int] = {}  # by whether a register has an xTR-ID: how many more of them are lost

    def on_packet(self, packet: Packet) -> None:
        kind = packet.payload[0] >> 4
        if not self.is_up:
            return
        if kind == MessageType.INFO:
            if len(InfoRequest.decode(packet.payload).authentication) < OOR_KEY.mac_octets:
                return
            if not self.knows_natt:
                self.deaths += 1
                self.is_up = False
        if kind == MessageType.MAP_REGISTER:
            has_xtr_id = MapRegister.decode(packet.payload).xtr_id is not None
            if self.drops.get(has_xtr_id, 0) > 0:
                self.drops[has_xtr_id] -= 1
                return
            if has_xtr_id and self.knows_natt:
                if self.record() is None:  # from a node that it does not know
                    self.deaths += 1
                    self.is_up = False
                return
        super().on_packet(packet)


class RtrHost:
    """An RTR whose datapath is a dictionary."""

    def __init__(self, world: World, address: IpAddress = RTR, *, key: Key | None = RTR_KEY) -> None:
        self.world, self.address, self.key = world, address, key
        self.is_up = True
        self.is_deaf = False  # it confirms registers, and forwards no data
        self.is_old = False  # as other implementations': it tells no places, and takes data at its data port alone
        self.has_one_port = False  # it takes data at its data port alone
        self.has_filter = False  # a firewall in front of it drops port 4341
        self.is_stubborn = False  # as Open Overlay Router's: it keeps the first outside address of a private one
        self.places: dict[IpAddress, tuple[IpAddress, int]] = {}  # the first outside address of each private address
        self.public: dict[IpAddress, IpAddress] = {}  # EIDs that are not behind NATs
        self.restart()
        world.hosts.append(self)
        world.internet.plug(address, self.on_packet)

    def restart(self) -> None:
        self.data_ports: dict[tuple[IpAddress, IpAddress], int] = {}
        self.cache = NatCache()
        self.rtr = Rtr([MapServerLink(MAP_SERVER, self.key)], [self.address])

    def wake_at(self) -> float | None:
        return self.rtr.wake_at()

    def on_timer(self, now: float) -> None:
        self._perform(self.rtr.on_timer(now))

    def on_packet(self, packet: Packet) -> None:
        if not self.is_up:
            return
        if packet.destination_port == DATA_PORT and self.has_filter:
            return
        takes_all = not (self.is_old or self.has_one_port)
        if packet.destination_port == DATA_PORT or (packet.payload[0] >> 4 == 0 and takes_all):
            self._on_data(packet)
            return
        if packet.payload[0] >> 4 == 0:
            return
        arrival = Arrival(packet.payload, packet.source, packet.source_port, packet.destination)
        message = decode_control(packet.payload)
        if isinstance(message, EncapsulatedControl) and message.to_rtr:
            self.places.setdefault(message.source, (packet.source, packet.source_port))
            self._perform(self.rtr.on_encapsulated_control(arrival, message, self.world.now))
        elif isinstance(message, MapRequest):
            self._perform(self.rtr.on_probe(arrival, self.world.now))

    def _on_data(self, packet: Packet) -> None:
        if DataHeader.decode(packet.payload).instance_id == CONTROL_INSTANCE_ID:
            here, place = packet.destination, (packet.source, packet.source_port)
            bare = packet.payload[DATA_HEADER_OCTETS:]
            if bare[0] >> 4 == MessageType.INFO:
                punch = InData(bare, *place, here, *place)
                self._perform(self.cache.on_punch(InfoRequest.decode(bare), punch, self.world.now)[1])
            elif not self.is_old:
                udp = parse_ip_udp(bare)
                asked = InData(udp.payload, *place, here, udp.source, udp.source_port, self._is_control(packet))
                self._perform([tell_place(InfoRequest.decode(udp.payload), asked)])
            return
        _, inner = split_data_packet(packet.payload)
        udp = parse_ip_udp(inner)
        found = self.rtr.entries.lookup(udp.source)
        is_registered = found is not None and any(binding.address == packet.source for binding in found[1].usable())
        last_port = self.data_ports.get((udp.source, packet.source), packet.source_port)
        if udp.source not in self.public and (not is_registered or last_port != packet.source_port):
            stranger = UnregisteredData(
                udp.source,
                0,
                packet.source,
                packet.source_port,
                packet.destination,
                is_registered=is_registered,
                is_at_control_port=self._is_control(packet),
            )
            self._perform(self.rtr.on_unregistered(stranger, self.world.now))
            if not is_registered:
                return
        self.data_ports[udp.source, packet.source] = packet.source_port
        if self.is_deaf:
            return
        target = self.rtr.entries.lookup(udp.destination)
        if target is not None and (usable := target[1].usable()):
            one = usable[0]
            address, port = self.places[one.rloc] if self.is_stubborn else (one.address, one.port)
            self.world.internet.send(Packet(one.rtr, address, packet.payload, one.source_port, port))
        elif (public := self.public.get(udp.destination)) is not None:
            self.world.internet.send(Packet(self.address, public, packet.payload, 40000, DATA_PORT))

    @staticmethod
    def _is_control(packet: Packet) -> bool:
        return packet.destination_port == CONTROL_PORT

    def _perform(self, effects: Iterable[RtrPlaneEffect]) -> None:
        for effect in effects:
            if isinstance(effect, SendControl):
                packet = Packet(self.address, effect.destination, effect.payload, CONTROL_PORT, effect.port)
                self.world.internet.send(packet)
            elif isinstance(effect, SendFromRelayPort):
                port = CONTROL_PORT if effect.is_from_control_port else DATA_PORT
                packet = Packet(effect.source, effect.destination, effect.payload, port, effect.port)
                self.world.internet.send(packet)


class NodeHost:
    """A node: the traversal, an ordinary registration, and data."""

    def __init__(
        self, world: World, eid: EidPrefix = EID, xtr_id: bytes = XTR_ID, key: Key = KEY, **options: object
    ) -> None:
        self.world, self.eid, self.key = world, eid, key
        self._nonces = count(1_000_000 * (1 + len(world.hosts)))
        servers = (MapServerPeer(MAP_SERVER, key),)
        self.config = NattConfig((eid,), servers, xtr_id=xtr_id, **options)  # type: ignore[arg-type]
        self.traversal = Traversal(
            self.config, new_nonce=lambda: world.random.getrandbits(64), next_nonce=self._nonces.__next__
        )
        self.where: dict[Place, Segment] = {}
        self.dead: set[Place] = set()  # nothing gets out there, and nothing in
        self.events: list[tuple[float, Event]] = []
        self.sent: list[tuple[float, SendControl | SendFromDataPort]] = []
        self.received: list[tuple[float, bytes]] = []
        self.ways: dict[IpAddress, UsableLocator] = {}  # direct paths, by EID
        self.suspected: list[DataSuspect] = []
        self.counted: Counter[str] = Counter()
        self._ephemeral = EPHEMERAL  # the kernel chooses another one each time that the plan wants one again
        self._has_wanted = False
        self._ifindex = 0  # of the packet in progress
        self._stalling: Place | None = None
        self._register_at: float | None = None
        self._tries = 0  # registers since the last confirmation
        self._stalled_at: float | None = None
        world.hosts.append(self)

    def wake_at(self) -> float | None:
        times = (self.traversal.wake_at(), self._register_at, self._stalled_at)
        return min((at for at in times if at is not None), default=None)

    def on_timer(self, now: float) -> None:
        if self._register_at is not None and now >= self._register_at:
            self.register()
        if self._stalled_at is not None and now >= self._stalled_at:
            self._stalled_at = None
            address, ifindex = self._stalling or self.traversal.machines[0].locator.place
            self.perform(self.traversal.on_stalled(address, now, ifindex))
        self.perform(self.traversal.on_timer(now))

    def attach(self, *places: tuple[LocalLocator, Segment]) -> None:
        """Use these uplinks from now on."""
        for (address, _), segment in self.where.items():
            segment.unplug(address)
        self.where = {locator.place: segment for locator, segment in places}
        for locator, segment in places:
            segment.plug(locator.address, partial(self.on_packet, locator.ifindex))
        named = LocatorSet.of(1, [locator for locator, _ in places]).locators
        self.perform(self.traversal.on_locators(named, self.world.now))

    def on_packet(self, ifindex: int, packet: Packet) -> None:
        now = self.world.now
        if (packet.destination, ifindex) in self.dead:
            return
        self._ifindex = ifindex
        if packet.destination_port == CONTROL_PORT:
            where = packet.source, packet.source_port, packet.destination, ifindex
            datagram = Datagram(packet.payload, *where)
            effects = self.traversal.on_datagram(datagram, now)
            if effects is not None:
                self.perform(effects)
            elif packet.payload[0] >> 4 == MessageType.MAP_NOTIFY:
                self._register_at = now + REGISTER_S
                tries, self._tries = self._tries, 0
                self.perform(self.traversal.on_map_server_alive(packet.source, now, tries=tries))
        elif (
            packet.source_port == CONTROL_PORT
            and packet.destination_port == self._ephemeral
            and packet.payload[0] >> 4 == MessageType.INFO
        ):
            self._on_control(packet, packet.payload, packet.source, CONTROL_PORT, packet.destination, self._ephemeral)
        elif packet.destination_port in (DATA_PORT, self._ephemeral):
            header, inner = split_data_packet(packet.payload)
            udp = parse_ip_udp(inner)
            if header.instance_id == CONTROL_INSTANCE_ID:
                ports = udp.source_port, udp.destination_port
                self._on_control(packet, udp.payload, udp.source, ports[0], udp.destination, ports[1])
            elif udp.destination == self.eid.address and self._admits(packet):
                self.received.append((now, udp.payload))
                self.perform(self.traversal.on_heard([(packet.destination, packet.source)], now))
                self._stalled_at = None

    def _admits(self, packet: Packet) -> bool:
        uplinks = self.traversal.plan.uplinks
        plan = next((uplink for uplink in uplinks if uplink.locator.address == packet.destination), None)
        if plan is None or not plan.relays or plan.admits_others:
            return True
        return packet.source in {relay.address for relay in plan.relays}

    def _on_control(
        self, packet: Packet, payload: bytes, source: IpAddress, sport: int, destination: IpAddress, dport: int
    ) -> None:
        arrival = DataControl(
            payload,
            source,
            sport,
            destination,
            dport,
            packet.source,
            packet.source_port,
            packet.destination,
            self._ifindex,
        )
        self.perform(self.traversal.on_data_control(arrival, self.world.now) or [])

    def perform(self, effects: Iterable[NattEffect]) -> None:
        for effect in effects:
            match effect:
                case SendControl():
                    self.sent.append((self.world.now, effect))
                    where = effect.source, CONTROL_PORT, effect.destination, effect.port
                    self._send(*where, effect.payload, has_checksum=effect.has_checksum, ifindex=effect.ifindex)
                case SendFromDataPort():
                    self.sent.append((self.world.now, effect))
                    port = DATA_PORT if effect.data_port.value == "fixed" else self._ephemeral
                    if port == DATA_PORT or self._has_ephemeral(effect.source):
                        where = effect.source, port, effect.destination, effect.port
                        self._send(*where, effect.payload, ifindex=effect.ifindex)
                case InstallMapping(prefix, _, locators):
                    self.ways[prefix.address] = locators[0]
                case RemoveMapping(prefix):
                    self.ways.pop(prefix.address, None)
                case Count(name):
                    self.counted[name] += 1
                case Event():
                    self.events.append((self.world.now, effect))
                case DataSuspect():
                    self.suspected.append(effect)
                case PlanChanged() | LifeSignWanted():
                    wants = any(plan.data_port == "ephemeral" for plan in self.traversal.plan.uplinks)
                    self._ephemeral += wants and not self._has_wanted
                    self._has_wanted = wants
                    self._tries = 0
                    self.register()

    def _has_ephemeral(self, address: IpAddress) -> bool:
        """The datapath has such a port only where the plan says so; otherwise it refuses."""
        plans = (uplink for uplink in self.traversal.plan.uplinks if uplink.locator.address == address)
        return any(plan.data_port == "ephemeral" for plan in plans)

    def register(self) -> None:
        """Send the ordinary Map-Register, as the plan demands."""
        plan = self.traversal.plan
        self._register_at = self.world.now + RETRY_S if plan.direct else None
        if not plan.direct or not plan.record_locators:
            return
        record = MappingRecord.of(self.eid, plan.record_locators, ttl_min=10, is_authoritative=True)
        message = MapRegister(next(self._nonces), (record,), proxy_map_reply=True, want_map_notify=True)
        payload = authenticate(message, self.key).encode()
        self._tries += 1
        one = plan.direct[0]
        self._send(one.address, CONTROL_PORT, MAP_SERVER, CONTROL_PORT, payload, ifindex=one.ifindex)

    def say(self, to: EidPrefix, what: bytes) -> None:
        """Send one data packet by the first uplink that can."""
        uplink: UplinkPlan | None = next((plan for plan in self.traversal.plan.uplinks if plan.is_usable), None)
        if uplink is None:
            return
        inner = build_ip_udp(self.eid.address, 7, to.address, 7, what)
        payload = DataHeader(instance_id=0).encode() + inner
        if not uplink.relays:  # in the open: the mapping of the peer, which is behind a NAT, names the RTR
            self._send(uplink.locator.address, self._ephemeral, RTR, DATA_PORT, payload, ifindex=uplink.locator.ifindex)
            return
        if self._stalled_at is None:
            self._stalled_at = self.world.now + STALL_S
        port = self._ephemeral if uplink.data_port == "ephemeral" else DATA_PORT
        way = self.ways.get(to.address)
        if way is not None and way.source == uplink.locator.address:
            self.traversal.shortcuts.on_used([to], self.world.now)
            self._send(way.source, port, way.address, way.port, payload)
            return
        self.perform(self.traversal.on_destination(self.eid.address, to, self.world.now))
        one, relay = uplink.locator, uplink.relays[0]
        self._stalling = one.place
        self._send(one.address, port, relay.address, relay.port, payload, ifindex=one.ifindex)

    def _send(
        self,
        source: IpAddress | None,
        port: int,
        destination: IpAddress,
        dport: int,
        payload: bytes,
        *,
        has_checksum: bool = True,
        ifindex: int = 0,
    ) -> None:
        places = [place for place in self.where if place[0] == source and ifindex in (0, place[1])]
        if source is not None and places and places[0] not in self.dead:
            segment = self.where[places[0]]
            segment.send(Packet(source, destination, payload, port, dport, has_checksum))

    @property
    def passes_zero(self) -> bool:
        """What the datapath is told of the first uplink."""
        return self.traversal.plan.uplinks[0].passes_zero

    @property
    def state(self) -> str:
        return self.traversal.machines[0].state.value

    def kinds(self) -> list[str]:
        return [event.kind for _, event in self.events]

    def outbound(self, since: float) -> list[SendFromDataPort]:
        return [one for at, one in self.sent if at >= since and isinstance(one, SendFromDataPort)]


def locator(address: str = "192.168.1.2", ifindex: int = 2, priority: int = 1, weight: int = 100) -> LocalLocator:
    return LocalLocator(ip(address), ifindex, f"eth{ifindex}", priority, weight)


def forged(notify: MapNotify, key: Key) -> bytes:
    return authenticate(replace(notify, key_id=0), key).encode()

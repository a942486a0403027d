"""Hubs and nodes on the Internet in memory, with a forwarding table in place of the datapath."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from msgspec.structs import replace

from lispmob.control.itr_security import LispSecTools, derived_secret
from lispmob.control.probing.path import ProbeConfig
from lispmob.hub.dispatch import ControlPlane
from lispmob.hub.map_server.effect import Arrival
from lispmob.hub.map_server.lisp_sec import HubSecurity
from lispmob.hub.map_server.site import Site
from lispmob.hub.rtr.traversal import PlaneEffect
from lispmob.node.node import Datagram, MapServerPeer, Node, NodeConfig, NodeEffect
from lispmob.protocol.effect import (
    DropPending,
    Event,
    InstallMapping,
    RemoveMapping,
    SendControl,
)
from lispmob.protocol.locator_set import LocalLocator
from lispmob.protocol.prefix_table import PrefixTable
from lispmob.wire.address import EidPrefix, IpAddress
from lispmob.wire.auth import Key
from lispmob.wire.header import CONTROL_PORT
from lispmob.wire.lisp_sec_auth import KeyWrap
from tests.internet.network import FAIR, Packet, Segment, Weather, World, ip

__all__ = ["HUB", "KEY", "HubHost", "Lab", "NodeHost", "Packet", "Weather", "World", "build", "ip", "locator"]


def locator(text: str, priority: int = 1, ifindex: int = 2) -> LocalLocator:
    return LocalLocator(ip(text), ifindex, f"eth{ifindex}", priority)


class HubHost:
    """A Map-Server and Map-Resolver at one address; at several, when it shares the plane of `other`."""

    def __init__(
        self,
        world: World,
        address: str,
        sites: Iterable[Site],
        other: HubHost | None = None,
        security: HubSecurity | None = None,
    ) -> None:
        self.world = world
        self.address = ip(address)
        self.plane: ControlPlane = ControlPlane(sites, security=security) if other is None else other.plane
        self.is_up = True
        world.hosts.append(self)
        world.internet.plug(self.address, self.on_packet)

    def wake_at(self) -> float | None:
        return self.plane.wake_at()

    def on_timer(self, now: float) -> None:
        self._perform(self.plane.on_timer(now))

    def on_packet(self, packet: Packet) -> None:
        if self.is_up:
            arrival = Arrival(packet.payload, packet.source, packet.source_port, packet.destination)
            self._perform(self.plane.on_datagram(arrival, self.world.now))

    def on_sites(self, sites: Iterable[Site]) -> None:
        """Let the hub read its configuration again."""
        self._perform(self.plane.on_sites(sites, (), now=self.world.now))

    def _perform(self, effects: Iterable[PlaneEffect]) -> None:
        for effect in effects:
            if isinstance(effect, SendControl):
                packet = Packet(effect.source or self.address, effect.destination, effect.payload)
                self.world.internet.send(dataclasses.replace(packet, destination_port=effect.port))


@dataclass
class NodeHost:
    """A mobile node with a forwarding table in memory in place of the datapath."""

    world: World
    config: NodeConfig
    node: Node = field(init=False)
    table: PrefixTable[InstallMapping] = field(default_factory=PrefixTable)
    events: list[tuple[float, Event]] = field(default_factory=list)
    sent: list[tuple[float, SendControl]] = field(default_factory=list)
    received: list[tuple[float, IpAddress]] = field(default_factory=list)
    addresses: frozenset[IpAddress] = frozenset()
    is_asleep: bool = False
    lisp_sec: LispSecTools | None = None
    inside: Segment | None = None  # None: it is attached to the Internet

    def __post_init__(self) -> None:
        random = self.world.random
        self.node = Node(
            self.config, new_nonce=lambda: random.getrandbits(64), jitter=random.random, lisp_sec=self.lisp_sec
        )
        self.world.hosts.append(self)

    @property
    def segment(self) -> Segment:
        return self.inside or self.world.internet

    @property
    def eid(self) -> IpAddress:
        return self.config.eids[0].address

    def kinds(self) -> list[str]:
        return [event.kind for _, event in self.events]

    def wake_at(self) -> float | None:
        return None if self.is_asleep else self.node.wake_at()

    def on_timer(self, now: float) -> None:
        self.perform(self.node.on_timer(now))

    def attach(self, *locators: LocalLocator) -> None:
        """Use these uplinks from now on; packets to the old addresses are lost."""
        for address in self.addresses:
            self.segment.unplug(address)
        self.addresses = frozenset(locator.address for locator in locators)
        for address in self.addresses:
            self.segment.plug(address, self.on_packet)
        self.perform(self.node.on_locators(locators, self.world.now))

    def on_packet(self, packet: Packet) -> None:
        if self.is_asleep:
            return
        now = self.world.now
        if packet.data is None:
            port = 0 if packet.destination_port == CONTROL_PORT else packet.destination_port
            if port and port not in self.node.source_ports.open_ports:
                return
            where = packet.source, packet.source_port, packet.destination, 2
            self.perform(self.node.on_datagram(Datagram(packet.payload, *where, other_port=port), now))
        elif packet.data[1] == self.eid:
            self.received.append((now, packet.data[0]))
            self.perform(self.node.on_heard([(packet.destination, packet.source)], now))

    def talk_to(self, other: NodeHost) -> None:
        """Send one data packet."""
        now = self.world.now
        found = self.table.lookup(other.eid)
        if found is None or found[1].disposition == "MISS":
            self.perform(self.node.on_miss(self.eid, other.eid, 0, now))
            return
        self.perform(self.node.on_used([found[0]], now))
        own = self.node.locators
        for target in found[1].locators:
            if (uplink := own.best(target.address.version)) is not None:
                self.world.internet.send(Packet(uplink.address, target.address, data=(self.eid, other.eid)))
                return

    def perform(self, effects: Sequence[NodeEffect]) -> None:
        for effect in effects:
            match effect:
                case SendControl():
                    self.sent.append((self.world.now, effect))
                    sent, port = self.node.source_ports.on_send(effect, self.world.now)
                    if sent.source in self.addresses:
                        ports = port or CONTROL_PORT, sent.port
                        self.segment.send(Packet(sent.source, sent.destination, sent.payload, *ports))
                case InstallMapping():
                    self.table.insert(effect.prefix, effect)
                case RemoveMapping():
                    self.table.remove(effect.prefix)
                case DropPending():
                    pass
                case Event():
                    self.events.append((self.world.now, effect))


KEY = Key(b"a secret")
HUB = "192.0.2.1"


@dataclass(frozen=True)
class Lab:
    """A world with one hub or more, and nodes 10.1.0.1, 10.1.0.2, ... that know them."""

    world: World
    hubs: tuple[HubHost, ...]
    nodes: tuple[NodeHost, ...]

    def chat(self, seconds: float, pause_s: float = 0.5) -> None:
        """Send packets between all nodes, all the time."""
        for _ in range(round(seconds / pause_s)):
            for node in self.nodes:
                for other in self.nodes:
                    if other is not node:
                        node.talk_to(other)
            self.world.run(pause_s)

    def is_connected(self) -> bool:
        """True when, without losses, each node receives packets of every other one."""
        internet = self.world.internet
        weather, internet.weather = internet.weather, FAIR
        start = self.world.now
        self.chat(1.0)
        self.world.run(0.5)
        internet.weather = weather
        wanted = {(id(node), other.eid) for node in self.nodes for other in self.nodes if node is not other}
        heard = {(id(node), source) for node in self.nodes for at, source in node.received if at >= start}
        return heard == wanted


def build(
    nodes: int = 2,
    seed: int = 0,
    weather: Weather = FAIR,
    hubs: Sequence[str] = (HUB,),
    probing: ProbeConfig | None = None,
    *,
    is_one_hub: bool = False,
    wrap: KeyWrap | None = None,
    **options: object,
) -> Lab:
    """A lab whose nodes are attached to 198.51.100.1, .2, ... and have had a second to register.

    `is_one_hub`: the addresses of `hubs` are those of a single one. With `wrap`, mappings are genuine by LISP-SEC.
    """
    world = World(seed)
    eids = [EidPrefix.parse(f"10.1.0.{number}/32") for number in range(1, nodes + 1)]
    # A site for each node, as in a hub for several people; nonces must grow, so that a late register cannot undo a
    # move.
    sites = [Site(str(eid), (eid,), (KEY,), strict_nonces=True) for eid in eids]
    hosts: tuple[HubHost, ...] = ()
    for address in hubs:
        security = HubSecurity("prefer", wrap) if wrap is not None else None
        hosts += (HubHost(world, address, sites, hosts[0] if hosts and is_one_hub else None, security),)
    built = []
    for number, eid in enumerate(eids, start=1):
        servers = tuple(
            MapServerPeer(host.address, KEY, has_lisp_sec=wrap is not None, sends_xtr_id=wrap is not None)
            for host in hosts
        )
        config = NodeConfig((eid,), servers, tuple(host.address for host in hosts), probing=probing)
        tools = None
        if wrap is not None:
            secret = derived_secret(KEY, "prefer")
            assert secret is not None
            secrets = tuple((host.address, secret) for host in hosts)
            xtr_id = number.to_bytes(16)
            config = replace(config, lisp_sec="prefer", resolver_secrets=secrets, xtr_id=xtr_id, **options)
            tools = LispSecTools(wrap, lambda: world.random.randbytes(16))
        built.append(NodeHost(world, config, lisp_sec=tools))
        built[-1].attach(locator(f"198.51.100.{number}"))
    world.run(1.0)
    world.internet.weather = weather
    return Lab(world, hosts, tuple(built))

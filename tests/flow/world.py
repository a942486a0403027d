"""Two hosts and a network between them that loses, repeats and delays. Virtual time, seeded, in memory.

A flow's socket is a port number here; each end has a program that records what it gets.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from ipaddress import IPv4Address, IPv6Address, ip_address
from itertools import count
from random import Random

from lispmob.flow.auth import FlowKey, Way
from lispmob.flow.caller import FLOW_PORT, Ask
from lispmob.flow.effect import (
    AllocationFailed,
    AskProgram,
    ConnectFlowSocket,
    FlowEffect,
    FlowEnded,
    FlowId,
    FlowOpened,
    ForgetFlow,
    MakeFlowSocket,
    Outlet,
    SendFlowMessage,
)
from lispmob.flow.endpoint import FlowEndpoint
from lispmob.flow.holder import HeldName, Legacy
from lispmob.flow.limits import Limits
from lispmob.flow.message import Kind, decode, is_version_1
from tests.internet.clock import Clock
from tests.internet.network import FAIR, Weather, carry

Address = IPv4Address | IPv6Address
A, B = ip_address("10.99.0.1"), ip_address("10.99.0.2")


def nothing(_octets: bytes, _way: Way) -> bool:
    """Loses no datagram."""
    return False


def no_key(_eid: Address) -> FlowKey | None:
    """Shares a key with no host."""
    return None


def anybody(_caller: Address) -> bool:
    """Admits every caller."""
    return True


class Network(Clock):
    """The network, and the time. `lose` may name datagrams that never arrive."""

    def __init__(self, seed: int = 1, weather: Weather = FAIR, *, lose: Callable[[bytes, Way], bool] = nothing) -> None:
        super().__init__(seed, now=1000.0)
        self.seed, self.weather, self.lose = seed, weather, lose
        self.places: dict[Address, Host] = {}
        self.sent: list[tuple[float, bytes, Way]] = []

    def carry(self, octets: bytes, way: Way) -> None:
        self.sent.append((self.now, octets, way))
        if not self.lose(octets, way):
            carry(self, self.weather, lambda: self._deliver(octets, way))

    def _deliver(self, octets: bytes, way: Way) -> None:
        if (receiver := self.places.get(way.destination)) is not None:
            receiver.receive(octets, way)


class Host:
    """An endpoint, its sockets, and what its programs got."""

    def __init__(
        self, network: Network, address: Address, name: str, *, legacy: Legacy = Legacy.FIRST_DATAGRAM,
        limits: Limits | None = None, has_sockets: bool = True, is_quiet: bool = False, domain: str = "",
        key_for: Callable[[Address], FlowKey | None] = no_key,
    ) -> None:  # fmt: skip
        self.network, self.address = network, address
        random = Random(f"{network.seed}{name}")
        self.endpoint = FlowEndpoint(
            host=name,
            domain=domain,
            new_nonce=lambda: random.randbytes(8),
            jitter=random.random,
            secret=random.randbytes(32),
            legacy=legacy,
            limits=limits,
            is_quiet=is_quiet,
            key_for=key_for,
        )
        self.has_sockets = has_sockets
        self.opened: list[FlowOpened] = []
        self.opened_at: dict[FlowId, float] = {}
        self.failed: list[AllocationFailed] = []
        self.ended: list[FlowEnded] = []
        self.asked: list[AskProgram] = []
        self.ports: dict[FlowId, int] = {}
        self.connected: dict[FlowId, tuple[Address, int]] = {}
        self.firewall: set[tuple[int, Address, int]] | None = None  # None: no firewall; otherwise what may come in
        self._free = count(40000 if name == "b" else 50000)
        if (former := network.places.get(address)) is not None:  # a host that starts again
            network.hosts.remove(former)
        network.places[address] = self
        network.hosts.append(self)

    def wake_at(self) -> float | None:
        return self.endpoint.wake_at()

    def on_timer(self, now: float) -> None:
        self.perform(self.endpoint.on_timer(now))

    def hold(self, name: str, **wishes: object) -> None:
        self.endpoint.holder.hold(HeldName(name, "tester", **{"may_call": anybody, **wishes}))  # type: ignore[arg-type]

    def call(self, peer: Address, name: str, *, port: int = 0, **wishes: object) -> FlowId:
        flow = self.endpoint.new_id()
        self.ports[flow] = port or next(self._free)
        ask = Ask(name, **wishes)  # type: ignore[arg-type]
        self.perform(self.endpoint.call(flow, ask, self.address, self.ports[flow], peer, self.network.now))
        return flow

    def close(self, flow: FlowId) -> None:
        self.perform(self.endpoint.close(flow, self.network.now))

    def send(self, octets: bytes, from_port: int, to: Address, port: int, own: Address | None = None) -> None:
        if self.firewall is not None:
            self.firewall.add((from_port, to, port))
        self.network.carry(octets, Way(own or self.address, from_port, to, port))

    def receive(self, octets: bytes, way: Way) -> None:
        now, port = self.network.now, way.destination_port
        if self.firewall is not None and (port, way.source, way.source_port) not in self.firewall:
            return
        if port == FLOW_PORT:
            self.perform(self.endpoint.on_control(octets, way, now))
            return
        flow = next((flow for flow, own in self.ports.items() if own == port), None)
        if flow is None:
            return
        if self.endpoint.call_of(flow) is not None and flow not in self.connected:
            self.perform(self.endpoint.on_flow_socket(flow, octets, way, now))
        elif octets[:4] != b"\0LF\1" and self.connected.get(flow) == (way.source, way.source_port):
            self.perform(self.endpoint.holder.on_first_datagram(flow, now))

    def perform(self, effects: Iterable[FlowEffect]) -> None:
        now, holder = self.network.now, self.endpoint.holder
        for effect in effects:
            match effect:
                case SendFlowMessage(flow, octets, outlet, own, destination, port):
                    own_port = FLOW_PORT if outlet is Outlet.CONTROL else self.ports[flow]
                    self.send(octets, own_port, destination, port, own)
                case MakeFlowSocket(flow, _, caller, caller_port) if self.has_sockets:
                    self.ports[flow] = next(self._free)
                    self.connected[flow] = caller, caller_port
                    self.perform(holder.on_socket(flow, self.ports[flow], now))
                case MakeFlowSocket(flow):
                    self.perform(holder.on_no_socket(flow))
                case ConnectFlowSocket(flow, port):
                    call = self.endpoint.call_of(flow)
                    assert call is not None
                    self.connected[flow] = call.peer, port
                case AskProgram():
                    self.asked.append(effect)
                case FlowOpened():
                    self.opened.append(effect)
                    self.opened_at[effect.flow] = now
                case AllocationFailed():
                    self.failed.append(effect)
                case FlowEnded():
                    self.ended.append(effect)
                case ForgetFlow(flow):
                    self.ports.pop(flow, None)
                    self.connected.pop(flow, None)


def pair(network: Network | None = None, **wishes: object) -> tuple[Network, Host, Host]:
    """A caller a and a holder b, which holds `backup`."""
    network = network or Network()
    a, b = Host(network, A, "a"), Host(network, B, "b", **wishes)  # type: ignore[arg-type]
    b.hold("backup")
    return network, a, b


def from_the_holder(_octets: bytes, way: Way) -> bool:
    """True for datagrams of host b."""
    return way.source == B


def kinds(network: Network) -> list[Kind]:
    """The kinds of the sent messages, in order."""
    return [decode(octets).kind for _, octets, _ in network.sent if is_version_1(octets)]

"""Two hosts and a network between them that loses, repeats and delays. Virtual time, seeded, in memory.

A flow's socket is a port number here; each end has a program that notes what it was told.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
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

Address = IPv4Address | IPv6Address
A, B = ip_address("10.99.0.1"), ip_address("10.99.0.2")
MAX_STEPS = 400_000


def nothing(_octets: bytes, _way: Way) -> bool:
    """No datagram."""
    return False


def no_key(_eid: Address) -> FlowKey | None:
    """We share a key with nobody."""
    return None


def anybody(_caller: Address) -> bool:
    """Every caller."""
    return True


@dataclass
class Network:
    """The wire. `lose` may name datagrams that never arrive."""

    seed: int = 1
    delay_s: tuple[float, float] = (0.01, 0.01)
    loss: float = 0.0
    duplicates: float = 0.0
    lose: Callable[[bytes, Way], bool] = nothing
    now: float = 1000.0
    hosts: dict[Address, Host] = field(default_factory=dict)
    sent: list[tuple[float, bytes, Way]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.random = Random(self.seed)
        self._order = count()
        self._due: list[tuple[float, int, bytes, Way]] = []

    def carry(self, octets: bytes, way: Way) -> None:
        self.sent.append((self.now, octets, way))
        copies = 2 if self.random.random() < self.duplicates else 1
        for _ in range(copies):
            if self.random.random() >= self.loss and not self.lose(octets, way):
                at = self.now + self.random.uniform(*self.delay_s)
                heapq.heappush(self._due, (at, next(self._order), octets, way))

    def run(self, seconds: float) -> None:
        end = self.now + seconds
        for _ in range(MAX_STEPS):
            timers = [(at, host) for host in self.hosts.values() if (at := host.endpoint.wake_at()) is not None]
            at, host = min(timers, key=lambda timer: timer[0], default=(float("inf"), None))
            due = self._due[0][0] if self._due else float("inf")
            if min(at, due) > end:
                self.now = end
                return
            self.now = max(self.now, min(at, due))
            if due <= at:
                _, _, octets, way = heapq.heappop(self._due)
                if (receiver := self.hosts.get(way.destination)) is not None:
                    receiver.receive(octets, way)
            elif host is not None:
                host.perform(host.endpoint.on_timer(self.now))
        raise AssertionError("the network never comes to rest")


class Host:
    """An endpoint, its sockets, and what its programs were told."""

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
        self.firewall: set[tuple[int, Address, int]] | None = None  # with one: what may come in
        self._free = count(40000 if name == "b" else 50000)
        network.hosts[address] = self

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
    """Datagrams of host b."""
    return way.source == B


def kinds(network: Network) -> list[Kind]:
    """What was sent, in order."""
    return [decode(octets).kind for _, octets, _ in network.sent if is_version_1(octets)]

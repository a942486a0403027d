"""NATs of every RFC 4787 kind, and stateful firewalls: networks at the edge of another one."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from ipaddress import IPv4Address, IPv6Network
from typing import Any

from lispmob.wire.address import IpAddress
from lispmob.wire.embedded_ipv4 import embed, extract
from tests.internet.network import Packet, Receiver, Segment, World, ip

REDIRECTED_S = 30.0  # Linux: nf_conntrack_udp_timeout, of a flow without replies
LOCAL_S = 0.0001  # inside a home packets arrive at once, and none is lost


class Kind(Enum):
    """RFC 4787, sections 4.1 and 5: what a mapping, or a filter, depends on besides the inside address and port."""

    ENDPOINT_INDEPENDENT = "endpoint-independent"
    ADDRESS_DEPENDENT = "address-dependent"
    ADDRESS_AND_PORT_DEPENDENT = "address-and-port-dependent"


@dataclass
class _Mapping:
    outside: IpAddress
    port: int
    used_at: float
    peers: dict[tuple[IpAddress, int], float] = field(default_factory=dict)  # permitted, and until when


class NatBox:
    """A NAT, or with `translates` False a stateful firewall, between an inside network and an outer one."""

    def __init__(
        self,
        world: World,
        public: str,
        *,
        mapping: Kind = Kind.ENDPOINT_INDEPENDENT,
        filtering: Kind = Kind.ADDRESS_AND_PORT_DEPENDENT,
        outer: Segment | None = None,
        timeout_s: float = 60.0,
        preserves_ports: bool = True,
        inbound_refreshes: bool = True,
        hairpins: bool = False,
        translates: bool = True,
        passes_zero: bool = True,
        pool: Sequence[str] = (),
        isolates: bool = False,
    ) -> None:
        self.world = world
        self.public = ip(public)
        self.mapping, self.filtering = mapping, filtering
        self.outer: Segment = outer if outer is not None else world.internet
        self.timeout_s = timeout_s
        self.preserves_ports = preserves_ports
        self.inbound_refreshes = inbound_refreshes
        self.hairpins = hairpins
        self.translates = translates
        self.passes_zero = passes_zero  # else packets without a checksum are lost
        self.pool = [ip(address) for address in pool]  # RFC 4787, REQ-2 "arbitrary": each mapping may get another one
        self.isolates = isolates  # a guest network: inside hosts do not reach each other
        self.blocked_ports: set[int] = set()  # of destinations outside
        self.refused = 0
        self.has_login_page = False  # new flows are redirected to it, and stay so for as long as they last
        self._flows: dict[tuple[IpAddress, int, IpAddress, int], tuple[bool, float]] = {}  # redirected; used at
        self._inside: dict[IpAddress, Receiver] = {}
        self._mappings: dict[tuple[object, ...], _Mapping] = {}
        self._by_port: dict[tuple[IpAddress, int], tuple[object, ...]] = {}
        if translates:
            for address in (self.public, *self.pool):
                self.outer.plug(address, self._from_outside)

    def plug(self, address: IpAddress, receiver: Receiver) -> None:
        self._inside[address] = receiver
        if not self.translates:
            self.outer.plug(address, self._from_outside)

    def unplug(self, address: IpAddress) -> None:
        self._inside.pop(address, None)
        if not self.translates:
            self.outer.unplug(address)

    def reboot(self) -> None:
        """Forget every mapping."""
        self._mappings.clear()
        self._by_port.clear()

    def renumber(self, public: str, *, keeps_mappings: bool = False) -> None:
        """Use another public address; no mapping survives that.

        `keeps_mappings`: a router that moves to another provider and translates known flows to the former address for
        as long as packets come.
        """
        self.outer.unplug(self.public)
        self.public = ip(public)
        self.outer.plug(self.public, self._from_outside)
        if not keeps_mappings:
            self.reboot()

    def end_session(self) -> None:
        """Redirect all flows to the login page, known ones too."""
        self.has_login_page = True
        self._flows.clear()

    def send(self, packet: Packet) -> None:
        """From an inside host."""
        if packet.destination in self._inside and self.isolates:
            self.refused += 1
            return
        if packet.destination in self._inside:
            receiver = self._inside[packet.destination]
            self.world.after(LOCAL_S, lambda: receiver(packet))
            return
        if packet.destination_port in self.blocked_ports or (not packet.has_checksum and not self.passes_zero):
            self.refused += 1
            return
        if self._redirects(packet):
            self.refused += 1
            return
        translated = self._translate(packet)
        if translated.destination == self.public and self.translates:
            if self.hairpins:
                self._from_outside(translated)
            return
        self.outer.send(translated)

    def _redirects(self, packet: Packet) -> bool:
        flow, now = (packet.source, packet.source_port, packet.destination, packet.destination_port), self.world.now
        known, used_at = self._flows.get(flow, (self.has_login_page, now))
        if now - used_at >= REDIRECTED_S:
            known = self.has_login_page
        self._flows[flow] = known, now
        return known

    def _translate(self, packet: Packet) -> Packet:
        now = self.world.now
        key = (
            packet.source,
            packet.source_port,
            *self._part(self.mapping, packet.destination, packet.destination_port),
        )
        found = self._mappings.get(key)
        if found is None or now - found.used_at >= self.timeout_s:
            outside = self._outside(packet.source)
            found = self._mappings[key] = _Mapping(outside, self._new_port(packet, outside), now)
            self._by_port[outside, found.port] = key
        found.used_at = now
        found.peers[packet.destination, packet.destination_port] = now
        return dataclasses.replace(packet, source=found.outside, source_port=found.port)

    def _outside(self, inside: IpAddress) -> IpAddress:
        if not self.translates:
            return inside
        return self.world.random.choice([self.public, *self.pool]) if self.pool else self.public

    def _new_port(self, packet: Packet, outside: IpAddress) -> int:
        if not self.translates:
            return packet.source_port
        if self.preserves_ports and (outside, packet.source_port) not in self._by_port:
            return packet.source_port
        while (outside, port := self.world.random.randrange(1024, 65536)) in self._by_port:
            pass
        return port

    def _from_outside(self, packet: Packet) -> None:
        now = self.world.now
        key = self._by_port.get((packet.destination, packet.destination_port))
        found = self._mappings.get(key) if key is not None else None
        if found is None or key is None or now - found.used_at >= self.timeout_s or not self._lets_in(found, packet):
            self.refused += 1
            return
        if self.inbound_refreshes:
            found.used_at = now
        inside, port = key[0], key[1]
        receiver = self._inside.get(inside)  # type: ignore[call-overload]
        if receiver is not None:
            receiver(dataclasses.replace(packet, destination=inside, destination_port=port))  # type: ignore[arg-type]

    def _lets_in(self, found: _Mapping, packet: Packet) -> bool:
        if self.filtering is Kind.ENDPOINT_INDEPENDENT:
            return True
        if self.filtering is Kind.ADDRESS_DEPENDENT:
            return any(address == packet.source for address, _ in found.peers)
        return (packet.source, packet.source_port) in found.peers

    @staticmethod
    def _part(kind: Kind, address: IpAddress, port: int) -> tuple[object, ...]:
        if kind is Kind.ENDPOINT_INDEPENDENT:
            return ()
        return (address,) if kind is Kind.ADDRESS_DEPENDENT else (address, port)


class Nat64Box(NatBox):
    """A stateful translator (RFC 6146): IPv6 inside, IPv4 outside. Packets not to `prefix` leave unchanged."""

    def __init__(self, world: World, public: str, prefix: str = "64:ff9b::/96", **options: Any) -> None:
        super().__init__(world, public, **options)
        self.prefix = IPv6Network(prefix)

    def plug(self, address: IpAddress, receiver: Receiver) -> None:
        super().plug(address, receiver)
        self.outer.plug(address, receiver)

    def unplug(self, address: IpAddress) -> None:
        super().unplug(address)
        self.outer.unplug(address)

    def send(self, packet: Packet) -> None:
        beyond = extract(self.prefix, packet.destination)
        if beyond is not None:
            super().send(dataclasses.replace(packet, destination=beyond))
        elif packet.destination.version == 6:
            self.outer.send(packet)
        else:
            self.refused += 1  # there is no IPv4 inside

    def _from_outside(self, packet: Packet) -> None:
        super()._from_outside(dataclasses.replace(packet, source=self._embedded(packet.source)))

    def _lets_in(self, found: _Mapping, packet: Packet) -> bool:
        source = extract(self.prefix, packet.source)
        assert source is not None, packet
        return super()._lets_in(found, dataclasses.replace(packet, source=source))

    def _embedded(self, address: IpAddress) -> IpAddress:
        assert isinstance(address, IPv4Address), address
        return embed(self.prefix, address)

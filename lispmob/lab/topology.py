"""Topologies as data: access networks around a core, hosts with uplinks into them. Pure; `build.py` builds them.

          host uplink ── access network ── its gateway ═══ line with delay ═══ core

Every access network has one line to the core, which has the delay. Neighbour discovery between host and gateway is
local, as in a Wi-Fi network; only packets that cross the core are delayed. A line is a process that handles each frame;
a cable is the kernel's, has no delay, and carries what the kernel can forward.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from ipaddress import IPv4Interface, IPv4Network, IPv6Interface, IPv6Network
from typing import Final

from lispmob.lab.line import Impairment
from lispmob.lab.link import IpAddress, IpInterface

_GATEWAY: Final = 1  # the gateway is the first host of its network
_INTERFACE_NAME_BYTES: Final = 15  # IFNAMSIZ without its NUL


@dataclass(frozen=True, slots=True)
class AccessNetwork:
    """A subnet of one or both families, its gateway, and the line to the core.

    `is_cable`: gateway and core are joined by a cable that the kernel serves; `line` is ignored, and cannot be changed.
    """

    name: str
    v4: IPv4Network | None = None
    v6: IPv6Network | None = None
    line: Impairment = field(default_factory=Impairment)
    is_cable: bool = False

    @property
    def gateways(self) -> tuple[IpAddress, ...]:
        return tuple(subnet[_GATEWAY] for subnet in self._subnets())

    @property
    def gateway_interfaces(self) -> tuple[IpInterface, ...]:
        return self.interfaces(_GATEWAY)

    def interfaces(self, number: int) -> tuple[IpInterface, ...]:
        """The addresses of the host with this number, with their masks."""
        made: list[IpInterface] = []
        if self.v4 is not None:
            made.append(IPv4Interface((self.v4[number], self.v4.prefixlen)))
        if self.v6 is not None:
            made.append(IPv6Interface((self.v6[number], self.v6.prefixlen)))
        return tuple(made)

    def _subnets(self) -> Iterator[IPv4Network | IPv6Network]:
        yield from (subnet for subnet in (self.v4, self.v6) if subnet is not None)


@dataclass(frozen=True, slots=True)
class Uplink:
    """An interface of a host, its initial network, and its address there."""

    interface: str
    network: str
    host_number: int = 10
    metric: int = 100
    is_attached: bool = True  # False: the interface exists, but is in no network yet


@dataclass(frozen=True, slots=True)
class Host:
    """A host with its uplinks."""

    name: str
    uplinks: tuple[Uplink, ...]

    def uplink(self, interface: str) -> Uplink:
        return next(uplink for uplink in self.uplinks if uplink.interface == interface)


@dataclass(frozen=True, slots=True)
class Topology:
    """Networks around a core, and the hosts in them. ValueError when a name is unknown or not unique."""

    networks: tuple[AccessNetwork, ...]
    hosts: tuple[Host, ...]
    seed: int = 1
    _by_name: dict[str, AccessNetwork] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_by_name", {network.name: network for network in self.networks})
        names = [network.name for network in self.networks] + [host.name for host in self.hosts]
        if len(set(names)) != len(names):
            raise ValueError(f"a name is used twice: {sorted(names)}")
        for host in self.hosts:
            for uplink in host.uplinks:
                if uplink.network not in self._by_name:
                    raise ValueError(f"{host.name} {uplink.interface}: there is no network {uplink.network}")
                if len(port_name(host.name, uplink.interface)) > _INTERFACE_NAME_BYTES:
                    raise ValueError(f"{host.name} {uplink.interface}: too long for names of interfaces")

    def network(self, name: str) -> AccessNetwork:
        return self._by_name[name]

    def host(self, name: str) -> Host:
        return next(host for host in self.hosts if host.name == name)

    def addresses(self, host: str, interface: str, network: str | None = None) -> tuple[IpInterface, ...]:
        """The addresses of `interface` of `host` in `network`, or in its initial network."""
        uplink = self.host(host).uplink(interface)
        return self.network(network or uplink.network).interfaces(uplink.host_number)

    def address(self, host: str, interface: str, version: int = 4) -> IpAddress:
        return next(a.ip for a in self.addresses(host, interface) if a.version == version)


def port_name(host: str, interface: str) -> str:
    """The name of the far end of a host's interface, which is in its network."""
    return f"{host}.{interface}"


def transit(number: int) -> tuple[tuple[IPv4Interface, IPv6Interface], tuple[IPv4Interface, IPv6Interface]]:
    """Addresses of the line `number` to the core: the gateway's side, the core's side."""
    v4 = IPv4Network("192.0.2.0/24")[4 * number]
    v6 = IPv6Network("2001:db8:ffff::/48")[number << 64]
    gateway, core = ((IPv4Interface((v4 + n, 30)), IPv6Interface((v6 + n, 64))) for n in (1, 2))
    return gateway, core


def roaming(delay_s: float = 0.02, *, has_cables: bool = False) -> Topology:
    """Two nodes with two uplinks each, a third network to move to, a hub, and a host without LISP.

    `has_cables`: cables instead of lines, for more packets than a relay can carry.
    The addresses are reserved for documentation and benchmarks (RFC 5737, RFC 2544, RFC 3849).
    """
    line = Impairment(delay_s=delay_s)

    def network(name: str, v4: str, v6: str = "") -> AccessNetwork:
        return AccessNetwork(name, IPv4Network(v4), IPv6Network(v6) if v6 else None, line, has_cables)

    return Topology(
        networks=(
            network("home", "198.18.1.0/24", "2001:db8:18:1::/64"),
            network("lte", "198.18.2.0/24"),
            network("cafe", "198.18.3.0/24"),
            network("office", "198.19.1.0/24", "2001:db8:19:1::/64"),
            network("lte-b", "198.19.2.0/24"),
            network("rack", "198.51.100.0/24", "2001:db8:51:100::/64"),
            network("web", "203.0.113.0/24", "2001:db8:113::/64"),
        ),
        hosts=(
            Host("a", (Uplink("wlan0", "home", metric=100), Uplink("lte0", "lte", metric=200))),
            Host("b", (Uplink("wlan0", "office", metric=100), Uplink("lte0", "lte-b", metric=200))),
            Host("hub", (Uplink("eth0", "rack"),)),
            Host("world", (Uplink("eth0", "web"),)),
        ),
    )

"""Builds a topology from namespaces, veth cables and a relay for all lines; and removes it."""

from __future__ import annotations

import shutil
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any, Final

from lispmob.closing import Closing
from lispmob.lab import link
from lispmob.lab.line import Impairment
from lispmob.lab.namespace import Namespace, NamespaceSet
from lispmob.lab.process import Tool
from lispmob.lab.relay import LinePlan
from lispmob.lab.topology import AccessNetwork, Host, Topology, port_name, transit

_CORE: Final = "core"  # forwards between all networks
_WIRE: Final = "wire"  # the relay and the ends of its lines, nothing else
_AIR: Final = "air"  # one bridge for each access network, as its radio cell or its switch

_UNCUT: Final = "tx-udp_tnl-segmentation off tx-udp_tnl-csum-segmentation off"  # in ethtool's words

_QUIET: Final = {
    "ipv6/conf/all/disable_ipv6": "1",  # wire and air carry frames, but send none
    "ipv6/conf/default/disable_ipv6": "1",
}
_ROUTER: Final = {
    "ipv4/ip_forward": "1",
    "ipv6/conf/all/forwarding": "1",
    "ipv6/conf/default/accept_dad": "0",
}
_HOST: Final = {
    "ipv6/conf/default/accept_dad": "0",
    "ipv6/conf/default/accept_ra": "0",
}


class Lab(Closing):
    """A topology that exists. Leaving the `with` block removes all of it."""

    def __init__(self, topology: Topology, label: str = "") -> None:
        """Build it. Raises KernelRefused or ProcessFailed; then everything has been removed.

        A second laboratory of the same process needs a `label` for its namespaces.
        """
        self.topology = topology
        self._namespaces = NamespaceSet(label)
        self._relay: Tool | None = None
        try:
            self._build()
        except BaseException:
            self.close()
            raise

    def __getitem__(self, name: str) -> Namespace:
        """The namespace of a host, of the gateway of a network ("gw-NAME"), or "core"."""
        return self._namespaces[name]

    def close(self) -> None:
        """Remove everything. Idempotent."""
        if self._relay is not None:
            self._relay.kill()
            self._relay = None
        self._namespaces.close()

    def impair(self, network: str, impairment: Impairment) -> None:
        """Change the line between a network and the core, in both directions, from the next frame on."""
        self._ask({"name": network, "impairment": asdict(impairment)})

    def relay_counters(self) -> dict[str, list[dict[str, int]]]:
        """For each network's line: the counters of the direction to the core, and of the one from it."""
        counters: dict[str, list[dict[str, int]]] = self._ask({})
        return counters

    def plug_line(self, host: str, interface: str, network: str) -> str:
        """The line of a batch in the namespace "air" that moves the host's interface to another network."""
        return f"link set {port_name(host, interface)} master {network}"

    def attach_lines(self, host: str, interface: str, network: str | None = None) -> list[str]:
        """The lines of a batch in the host that give `interface` its addresses and default routes in a network."""
        uplink = self.topology.host(host).uplink(interface)
        subnet = self.topology.network(network or uplink.network)
        lines = [f"link set {interface} up"]
        lines += [link.address(interface, own) for own in subnet.interfaces(uplink.host_number)]
        return lines + [link.default_route(interface, gateway, uplink.metric) for gateway in subnet.gateways]

    def _ask(self, request: dict[str, Any]) -> Any:
        assert self._relay is not None, "the laboratory is closed"
        return self._relay.ask(request)

    def _build(self) -> None:
        self._namespace(_CORE, _ROUTER)
        wire = self._namespace(_WIRE, _QUIET)
        air = self._namespace(_AIR, _QUIET)
        batches: defaultdict[str, list[str]] = defaultdict(list)
        for number, network in enumerate(self.topology.networks):
            self._network(number, network, batches)
        for host in self.topology.hosts:
            self._host(host, batches)
        # Cables first: a batch may use an interface that the batch of another namespace makes.
        for namespace in (wire, air):
            link.apply(namespace, batches.pop(namespace.word, ()))
        for word, lines in batches.items():
            link.apply(self._namespaces[word], lines)
        self._cut_tunnels()
        plans = [asdict(plan) for plan in self._lines()]
        self._relay = Tool(wire, "lispmob.lab.relay", {"lines": plans, "seed": self.topology.seed})

    def _cut_tunnels(self) -> None:
        """Make the kernel segment super-packets in tunnels before a line: a virtio header cannot describe them."""
        if shutil.which("ethtool") is None:
            return
        lines = [(number, network) for number, network in enumerate(self.topology.networks) if not network.is_cable]
        ends = {f"gw-{network.name}": ["wan"] for _, network in lines}
        ends[_CORE] = [f"net{number}" for number, _ in lines]
        for word, interfaces in ends.items():
            self._namespaces[word].run(
                "sh", "-c", "\n".join(f"ethtool -K {interface} {_UNCUT} || exit" for interface in interfaces)
            )

    def _namespace(self, word: str, sysctls: dict[str, str]) -> Namespace:
        made = self._namespaces.make(word)
        for key, value in sysctls.items():
            made.sysctl(key, value)
        return made

    def _lines(self) -> Iterator[LinePlan]:
        """What the relay joins."""
        for number, network in enumerate(self.topology.networks):
            if not network.is_cable:
                yield LinePlan(network.name, *_relay_ends(number), network.line)

    def _network(self, number: int, network: AccessNetwork, batches: defaultdict[str, list[str]]) -> None:
        gateway = self._namespace(f"gw-{network.name}", _ROUTER)
        core = self._namespaces[_CORE]
        to_core = f"net{number}"
        mac_gateway, mac_core = f"02:00:00:00:{number:02x}:01", f"02:00:00:00:{number:02x}:02"
        batches[_AIR] += [
            f"link add name {network.name} type bridge forward_delay 0 mcast_snooping 0",
            link.veth(f"gw-{number}", gateway, "lan"),
            f"link set gw-{number} master {network.name}",
            f"link set gw-{number} up",
            f"link set {network.name} up",
        ]
        outer, inner = _relay_ends(number)
        if network.is_cable:
            cable = link.veth(to_core, gateway, "wan", mac=mac_core, peer_mac=mac_gateway, namespace=core)
            batches[_WIRE].append(cable)
        else:
            batches[_WIRE] += [
                link.veth(outer, gateway, "wan", peer_mac=mac_gateway),
                link.veth(inner, core, to_core, peer_mac=mac_core),
                f"link set {outer} up",
                f"link set {inner} up",
            ]
        near, far = transit(number)
        batches[gateway.word] += _ends("lan", network.gateway_interfaces)
        batches[gateway.word] += _ends("wan", near)
        batches[core.word] += _ends(to_core, far)
        ends: list[tuple[link.IpInterface, link.IpInterface]] = list(zip(near, far, strict=True))
        for own, other in ends:
            # Permanent neighbour entries: neighbour discovery over the long line would delay the first packet.
            batches[gateway.word].append(f"neigh replace {other.ip} lladdr {mac_core} dev wan nud permanent")
            batches[gateway.word].append(f"route replace default via {other.ip} dev wan")
            batches[core.word].append(f"neigh replace {own.ip} lladdr {mac_gateway} dev {to_core} nud permanent")
        for subnet in network.gateway_interfaces:
            via = near[0] if subnet.version == 4 else near[1]
            batches[core.word].append(f"route replace {subnet.network} via {via.ip} dev {to_core}")

    def _host(self, host: Host, batches: defaultdict[str, list[str]]) -> None:
        namespace = self._namespace(host.name, _HOST)
        for uplink in host.uplinks:
            port = port_name(host.name, uplink.interface)
            batches[_AIR] += [
                link.veth(port, namespace, uplink.interface),
                f"link set {port} master {uplink.network}",
                f"link set {port} up",
            ]
            if uplink.is_attached:
                batches[host.name] += self.attach_lines(host.name, uplink.interface)


def _relay_ends(number: int) -> tuple[str, str]:
    """The interfaces of a line in the namespace "wire": towards the gateway, towards the core."""
    return f"{number}-out", f"{number}-in"


def _ends(interface: str, addresses: tuple[link.IpInterface, ...]) -> list[str]:
    return [f"link set {interface} up", *(link.address(interface, own) for own in addresses)]

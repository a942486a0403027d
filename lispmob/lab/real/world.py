"""A small internet, wired by hand, with one node in a difficult network.

                      hub  198.18.0.10, 2001:db8:99::10
                       |
    a --- (its network) --- inet --- b  192.0.2.130, 2001:db8:b::2

`inet` forwards both families. The scenario builds the part between `a` and `inet`: `World.cable` joins any two
namespaces, and `World.home_router` puts a NAT between them. There is no delay, because a scenario tests connectivity.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, ip_address, ip_interface
from pathlib import Path
from typing import Final

from lispmob.closing import Closing
from lispmob.lab import link
from lispmob.lab.demo_service import Hub, Identity, Node, hub_configuration, node_configuration
from lispmob.lab.link import IpAddress
from lispmob.lab.namespace import Namespace, NamespaceSet
from lispmob.lab.packet_log import PacketLog
from lispmob.lab.probe import Party, ProbeStream
from lispmob.lab.process import ProcessFailed

A: Final = Identity("a", ip_address("10.1.0.1"), ip_address("2001:db8:e::1"))
B: Final = Identity("b", ip_address("10.1.0.2"), ip_address("2001:db8:e::2"))
OVERLAY: Final = ("10.1.0.0/24", "2001:db8:e::/48")
HUB_V4: Final = IPv4Address("198.18.0.10")
HUB_V6: Final = ip_address("2001:db8:99::10")
HUB: Final = ("198.18.0.10/24", "2001:db8:99::10/64")
PEER: Final = ("192.0.2.130/25", "2001:db8:b::2/64")
RATE_HZ: Final = 50.0
STEADY_S: Final = 3.0  # more than it takes to notice that a path is dead
_STEP_S: Final = 0.25
_NEARLY_ALL: Final = 0.98
_RTR: Final = "rtr: {enabled: yes}\n"
_POLL_S: Final = 0.05
_ROUTER: Final = {"ipv4/ip_forward": "1", "ipv6/conf/all/forwarding": "1"}
_QUICK: Final = {"ipv6/conf/default/accept_dad": "0", "ipv6/conf/default/accept_ra": "0"}


@dataclass(frozen=True, slots=True)
class Gap:
    """How long after an event each direction carried packets steadily again, seconds; None: not within the watch."""

    out_s: float | None
    in_s: float | None

    @property
    def worst_s(self) -> float | None:
        """The worse direction; None when one of them stayed closed."""
        return None if self.out_s is None or self.in_s is None else max(self.out_s, self.in_s)


class World(Closing):
    """Namespaces, cables and services with a common lifetime: leaving the `with` block removes all of it."""

    def __init__(self, directory: Path, *, tier: str = "auto", label: str = "") -> None:
        """Make `inet`, `hub`, `a` and `b`, and connect hub and b. `tier` is the datapath tier of every node.

        Raises KernelRefused. A second world of the same process needs a `label`.
        """
        self.directory = directory
        self.tier = tier
        self._namespaces = NamespaceSet(label)
        self._open = contextlib.ExitStack()
        self._hub_text = ""
        self.hub: Hub | None = None
        self.nodes: dict[str, Node] = {}
        try:
            self.add("inet", is_router=True)
            for name in ("hub", "a", "b"):
                self.add(name)
            self.attach("hub", "eth0", HUB, metric=100)
            self.attach("b", "eth0", PEER, metric=100)
        except BaseException:
            self.close()
            raise

    def __getitem__(self, name: str) -> Namespace:
        return self._namespaces[name]

    def close(self) -> None:
        """End the services and remove everything. Idempotent."""
        self._open.close()
        self._namespaces.close()

    # --- wiring ---

    def add(self, name: str, *, is_router: bool = False) -> Namespace:
        """Add a namespace; a router forwards both families."""
        made = self._namespaces.make(name)
        for key, value in {**_QUICK, **(_ROUTER if is_router else {})}.items():
            made.sysctl(key, value)
        return made

    def ip(self, name: str, *lines: str) -> None:
        """Run lines of `ip -batch` in a namespace. Raises KernelRefused with the line that failed."""
        link.apply(self._namespaces[name], lines)

    def cable(
        self,
        near: tuple[str, str],
        far: tuple[str, str],
        *,
        near_addresses: Sequence[str] = (),
        far_addresses: Sequence[str] = (),
    ) -> None:
        """Join (namespace, interface) `near` and `far` by a veth pair, both up, with addresses ("10.0.0.1/24")."""
        self.ip(near[0], link.veth(near[1], self._namespaces[far[0]], far[1]), f"link set {near[1]} up")
        self.ip(far[0], f"link set {far[1]} up")
        for (name, interface), addresses in ((near, near_addresses), (far, far_addresses)):
            self.ip(name, *(_address(interface, text) for text in addresses))

    def attach(
        self,
        name: str,
        interface: str,
        addresses: Sequence[str],
        *,
        to: str = "inet",
        metric: int | None = None,
        gateways: Sequence[str] = (),
    ) -> str:
        """Join a host to the router `to`, whose end gets `gateways`, or the first address of each network.

        With a `metric` the host gets default routes by the router. Returns the name of the router's interface.
        """
        port = f"{name}.{interface}"
        at_router = list(gateways) or [_first_of(text) for text in addresses]
        self.cable((name, interface), (to, port), near_addresses=addresses, far_addresses=at_router)
        if metric is not None:
            for text in at_router:
                gateway = ip_address(text.split("/")[0])
                self.ip(name, link.default_route(interface, gateway, metric))
        return port

    def home_router(self, name: str, inside: str, outside: str, *, more_outside: Sequence[str] = ()) -> None:
        """Add a router that masquerades IPv4 to its `wan` and forwards IPv6 unchanged.

        `inside` is its address on the bridge `lan` ("192.168.8.1/24"), `outside` that on `wan`, in a network of inet.
        """
        self.add(name, is_router=True)
        self.ip(name, "link add lan type bridge forward_delay 0", "link set lan up", _address("lan", inside))
        self.attach(name, "wan", [outside, *more_outside], metric=100)
        self.nft(
            name, "table ip masq { chain post { type nat hook postrouting priority 100; oifname wan masquerade; }; }"
        )

    def behind(self, name: str, interface: str, router: str, addresses: Sequence[str], *, metric: int = 100) -> None:
        """Join a host to the `lan` of a home router, with a default route by the router's IPv4 address."""
        port = f"{name}.{interface}"
        self.cable((name, interface), (router, port), near_addresses=addresses)
        self.ip(router, f"link set {port} master lan")
        gateway = self._namespaces[router].run("ip", "-4", "-o", "addr", "show", "dev", "lan").split()[3].split("/")[0]
        self.ip(name, link.default_route(interface, ip_address(gateway), metric))

    def nft(self, name: str, rules: str) -> None:
        """Add nftables rules in a namespace. Raises KernelRefused."""
        self._namespaces[name].run("nft", rules)

    def black_hole(self, *prefixes: str, both_ways: bool = True) -> None:
        """Make inet silently drop packets from (and with `both_ways` to) these prefixes."""
        for prefix in prefixes:
            family = "ip6" if ":" in prefix else "ip"
            self.nft("inet", "add table inet hole")
            self.nft("inet", "add chain inet hole forward { type filter hook forward priority 0; }")
            self.nft("inet", f"add rule inet hole forward {family} saddr {prefix} drop")
            if both_ways:
                self.nft("inet", f"add rule inet hole forward {family} daddr {prefix} drop")

    def fill_hole(self) -> None:
        """Undo every `black_hole`."""
        self.nft("inet", "add table inet hole")
        self.nft("inet", "delete table inet hole")

    # --- services ---

    def start_hub(
        self,
        addresses: Sequence[IpAddress] = (HUB_V4, HUB_V6),
        *,
        extra: str = _RTR,
        at: str = "hub",
        identities: Sequence[Identity] = (A, B),
    ) -> Hub:
        """Start lisphub (Map-Server, Map-Resolver, RTR) with a site for each of `identities`. Raises ProcessFailed."""
        self._hub_text = hub_configuration(identities, addresses, self.directory / "hub") + extra
        hub = self.hub = Hub(self._namespaces[at], self._hub_text, self.directory / "hub")
        self._open.callback(hub.daemon.stop)
        hub.wait_until_listening(timeout_s=10.0)
        return hub

    def start_node(
        self,
        identity: Identity,
        map_servers: Sequence[IpAddress] = (HUB_V4,),
        *,
        extra: str = "",
        at: str = "",
        mode: str = "split",
        fallback: str = "native",
        behind: Sequence[str] = (),
    ) -> Node:
        """Start lispd for `identity` in the namespace of its name, or in `at`; several Map-Servers share a key.

        `mode` and `fallback` are those of `routing`; `behind` is a command that starts it in another environment.
        """
        directory = self.directory / identity.name
        text = node_configuration(identity, map_servers[0], OVERLAY, directory, *map_servers[1:])
        text = text.replace("mode: split", f"mode: {mode}").replace("fallback: native", f"fallback: {fallback}")
        text += f"datapath: {{tier: {self.tier}}}\n" + extra
        node = self.nodes[identity.name] = Node(
            identity, self._namespaces[at or identity.name], text, directory, behind=behind
        )
        self._open.callback(node.daemon.stop)
        return node

    def wait_registered(self, *names: str, timeout_s: float = 10.0) -> float:
        """Wait until these nodes (without names: all) are registered; returns the seconds that it took."""
        began = time.monotonic()
        for name in names or tuple(self.nodes):
            self.wait(self.nodes[name].is_registered, f"{name} is registered", timeout_s)
        return time.monotonic() - began

    def wait(self, is_true: Callable[[], bool], what: str, timeout_s: float) -> None:
        """Wait until `is_true`. Raises ProcessFailed with the logs of the nodes when it takes longer."""
        deadline = time.monotonic() + timeout_s
        while not is_true():
            for node in self.nodes.values():
                node.daemon.check()
            if time.monotonic() > deadline:
                logs = "\n".join(node.daemon.log_tail() for node in self.nodes.values())
                raise ProcessFailed(f"not within {timeout_s} s: {what}\n{logs}")
            time.sleep(_POLL_S)

    # --- measuring ---

    def party(self, identity: Identity, version: int = 4, *, at: str = "") -> Party:
        """The namespace and an EID of `identity`."""
        return Party(self._namespaces[at or identity.name], identity.eid4 if version == 4 else identity.eid6)

    def stream(self, version: int = 4) -> ProbeStream:
        """Numbered packets in both directions between the EIDs of a and b."""
        return ProbeStream(self.party(A, version), self.party(B, version), rate_hz=RATE_HZ)

    def lost_both_ways(self, for_s: float, *, settle_s: float = 2.0, version: int = 4) -> tuple[int, int, int]:
        """Send in both directions for `for_s` seconds; returns the packets that each sent, the loss of a's, of b's."""
        with self.stream(version) as probes:
            time.sleep(settle_s)
            began = time.monotonic()
            time.sleep(for_s)
            ended = time.monotonic() - 0.3  # the last ones may still be in flight
            out, back = probes.finish()
        return len(out.between(began, ended)), out.lost(began, ended), back.lost(began, ended)

    def gap(self, event: Callable[[], None], *, watch_s: float = 7.0, warm_s: float = 2.0, version: int = 4) -> Gap:
        """Call `event` during a probe stream; returns when each direction was open again, within `watch_s`.

        The watch ends early when both directions have been open for STEADY_S.
        """
        with self.stream(version) as probes:
            time.sleep(warm_s)
            began = time.monotonic()
            event()
            _watch(probes, watch_s)
            ended = time.monotonic() - 0.3
            logs = probes.finish()
        return Gap(*(_reopened(log, began, ended) for log in logs))

    def opened(self, start: Callable[[], Node], *, watch_s: float, version: int = 4) -> Gap:
        """Start node a while b is registered; returns when each direction was open, from the start on."""
        began = time.monotonic()
        start()
        own = str(A.eid4 if version == 4 else A.eid6)
        self.wait(lambda: own in self["a"].run("ip", "-o", "addr"), "a has its EID", 10.0)
        with self.stream(version) as probes:
            time.sleep(watch_s - (time.monotonic() - began))
            ended = time.monotonic() - 0.3
            logs = probes.finish()
        return Gap(*(_reopened(log, began, ended) for log in logs))


def _watch(probes: ProbeStream, watch_s: float) -> None:
    """Sleep for so long, or until nearly all packets have arrived in both directions for STEADY_S."""
    ends_at = time.monotonic() + watch_s
    steps = int(STEADY_S / _STEP_S)
    seen = [probes.received()]
    while time.monotonic() < ends_at:
        time.sleep(_STEP_S)
        seen.append(probes.received())
        then, now = seen[-steps - 1 :][0], seen[-1]
        if len(seen) > steps and min(now[0] - then[0], now[1] - then[1]) >= _NEARLY_ALL * STEADY_S * RATE_HZ:
            return


def _reopened(log: PacketLog, began: float, ended: float) -> float | None:
    inside = PacketLog(log.between(float("-inf"), ended))
    reopened = inside.reopened_at(began, began)
    return None if reopened is None else reopened - began


def _address(interface: str, text: str) -> str:
    return f"addr add {text} dev {interface}{' nodad' if ':' in text else ''}"


def _first_of(text: str) -> str:
    """The first host of the network of "192.0.2.130/25" or "2001:db8::2/64", with its length."""
    network = ip_interface(text).network
    return f"{network[1]}/{network.prefixlen}"

"""A small network with real daemons: one hub or two, nodes a and b, a host without LISP. Started as users do."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network, ip_address
from pathlib import Path
from typing import Final, TypeAlias

from lispmob.lab.build import Lab
from lispmob.lab.demo_service import Hub, Identity
from lispmob.lab.line import Impairment
from lispmob.lab.namespace import Namespace
from lispmob.lab.probe import Party
from lispmob.lab.process import Daemon, module
from lispmob.lab.topology import AccessNetwork, Host, Topology, Uplink
from tests.testbed import PATIENCE_S as PATIENCE_S
from tests.testbed import AskedNode
from tests.testbed import wait_for as wait_for

A: Final = Identity("a", ip_address("10.1.0.1"), ip_address("2001:db8:e1d::1"))
B: Final = Identity("b", ip_address("10.1.0.2"), ip_address("2001:db8:e1d::2"))
SECRET: Final = "only-for-tests"
OVERLAY: Final = ("10.1.0.0/16", "2001:db8:e1d::/48")
Sites: TypeAlias = Mapping[str, tuple[str, ...]]


def city(*, versions: Iterable[int] = (4, 6), delay_s: float = 0.001, is_wide: bool = False) -> Topology:
    """a has two uplinks, b has one. Links have short delays, since these tests are not about distance.

    `is_wide`: with a second hub, and with a host without LISP.
    """
    spoken = tuple(versions)
    line = Impairment(delay_s=delay_s)

    def network(name: str, v4: str, v6: str) -> AccessNetwork:
        return AccessNetwork(
            name, IPv4Network(v4) if 4 in spoken else None, IPv6Network(v6) if 6 in spoken else None, line
        )

    beside = (
        network("rack2", "198.51.100.128/25", "2001:db8:51:2::/64"),
        network("web", "203.0.113.0/24", "2001:db8:113::/64"),
    )
    others = (Host("hub2", (Uplink("eth0", "rack2"),)), Host("world", (Uplink("eth0", "web"),)))
    return Topology(
        networks=(
            network("home", "198.18.1.0/24", "2001:db8:18:1::/64"),
            network("lte", "198.18.2.0/24", "2001:db8:18:2::/64"),
            network("office", "198.19.1.0/24", "2001:db8:19:1::/64"),
            network("rack", "198.51.100.0/25", "2001:db8:51:1::/64"),
            *(beside if is_wide else ()),
        ),
        hosts=(
            Host("a", (Uplink("wlan0", "home", metric=100), Uplink("lte0", "lte", metric=200))),
            Host("b", (Uplink("wlan0", "office"),)),
            Host("hub", (Uplink("eth0", "rack"),)),
            *(others if is_wide else ()),
        ),
    )


@dataclass
class NodeText:
    """lispd.conf as keys with their text; each test changes the one that it is about."""

    identity: Identity
    directory: Path
    servers: list[str]
    keys: dict[str, str] = field(default_factory=dict)
    secret: str = SECRET
    eids: tuple[str, ...] | None = None
    routing: str = "{mode: split, overlay-prefixes: [" + ", ".join(f'"{p}"' for p in OVERLAY) + "], fallback: drop}"

    def __str__(self) -> str:
        eids = self.eids if self.eids is not None else tuple(f'"{prefix}"' for prefix in self.identity.prefixes)
        servers = "".join(f'\n  - {{address: "{server}", key: {self.secret}}}' for server in self.servers)
        keys = {
            "eids": f"[{', '.join(eids)}]",
            **({"map-servers": servers} if self.servers else {}),
            "routing": self.routing,
            "control": f"{{socket: {self.directory / 'lispd.sock'}, group: root}}",
            "state-dir": str(self.directory / "state"),
            "dbus": "no",
            **self.keys,
        }
        return "".join(f"{key}: {text}\n" for key, text in keys.items())


class Node(AskedNode):
    """lispd as a process, with its configuration."""

    def __init__(self, text: NodeText, namespace: Namespace) -> None:
        super().__init__(namespace, text.directory)
        self.text = text
        self.identity = text.identity
        self.path = self.directory / "lispd.conf"
        self.directory.mkdir(mode=0o700, exist_ok=True)
        self.write()
        self.start()

    def write(self) -> None:
        """Write the configuration."""
        self.path.touch(mode=0o600)
        self.path.write_text(str(self.text))

    def start(self) -> None:
        """Start lispd; it may have run before."""
        name, log = f"lispd {self.identity.name}", self.directory / "lispd.log"
        self.daemon = Daemon(name, self.namespace, self.start_command(), log)

    def start_command(self) -> list[str]:
        """The command line that starts lispd."""
        return module("lispmob", "-c", str(self.path))

    def party(self, version: int = 4) -> Party:
        """The end of a stream at the EID."""
        return Party(self.namespace, self.identity.eid4 if version == 4 else self.identity.eid6)


class World:
    """A lab, and the daemons that a test starts in it."""

    def __init__(self, lab: Lab, directory: Path, open_: ExitStack) -> None:
        self.lab = lab
        self.directory = directory
        self._open = open_

    def __getitem__(self, host: str) -> Namespace:
        return self.lab[host]

    def address(self, host: str, interface: str = "eth0", version: int = 4) -> str:
        return str(self.lab.topology.address(host, interface, version))

    def start_hub(
        self, host: str = "hub", *, more: str = "", sites: Mapping[str, tuple[str, ...]] | None = None
    ) -> Hub:
        """Start lisphub and wait until it listens. `sites`: EIDs by name."""
        directory = self.directory / host
        chosen = sites or {who.name: tuple(f'"{prefix}"' for prefix in who.prefixes) for who in (A, B)}
        listed = "".join(
            f"  - {{name: {name}, eids: [{', '.join(eids)}], key: {SECRET}}}\n" for name, eids in chosen.items()
        )
        text = f"sites:\n{listed}state-file: {directory / 'hub.sqlite'}\n"
        text += f"control-socket: {directory / 'lisphub.sock'}\n{more}"
        hub = Hub(self.lab[host], text, directory)
        self._open.callback(end, hub.daemon)
        hub.wait_until_listening(PATIENCE_S)
        return hub

    def text(self, who: Identity, *servers: str) -> NodeText:
        """The configuration of a node of these Map-Servers (default: the first hub)."""
        version = min(subnet.version for subnet in self.lab.topology.addresses("hub", "eth0"))
        return NodeText(who, self.directory / who.name, list(servers) or [self.address("hub", version=version)])

    def start_node(
        self, who: Identity | NodeText, *, is_awaited: bool = True, kind: Callable[[NodeText, Namespace], Node] = Node
    ) -> Node:
        """Start lispd, and wait until it is registered unless `is_awaited` is False."""
        text = self.text(who) if isinstance(who, Identity) else who
        node = kind(text, self.lab[text.identity.name])
        self._open.callback(lambda: end(node.daemon))
        if is_awaited:
            node.wait_until_registered()
        return node

    def start_pair(self, **keys: str) -> tuple[Node, Node]:
        """a and b, both registered; `keys` are more of lispd.conf."""
        texts = [self.text(who) for who in (A, B)]
        for text in texts:
            text.keys.update(keys)
        nodes = [self.start_node(text, is_awaited=False) for text in texts]
        for node in nodes:
            node.wait_until_registered()
        return nodes[0], nodes[1]


@contextmanager
def world_of(topology: Topology, directory: Path) -> Iterator[World]:
    """Build it; everything ends with the `with` block."""
    with Lab(topology) as lab, ExitStack() as open_:
        yield World(lab, directory, open_)


def end(daemon: Daemon) -> None:
    """End it at once: its namespace goes with it, so it has nothing to put back."""
    if daemon.is_running:
        os.kill(daemon.pid, signal.SIGKILL)
    daemon.stop()


def network_listing(namespace: Namespace) -> str:
    """All of a host's network that we might change, as the tools print it."""
    commands = (
        ("ip", "-d", "address", "show"),
        ("ip", "-4", "rule", "show"),
        ("ip", "-6", "rule", "show"),
        ("ip", "-4", "route", "show", "table", "all"),
        ("ip", "-6", "route", "show", "table", "all"),
        ("iptables-save",),
        ("ip6tables-save",),
    )
    lines = [line for command in commands for line in namespace.run(*command).splitlines()]
    return "\n".join(line for line in lines if not _is_empty_table(line))


def settled_listing(namespace: Namespace) -> str:
    """The listing once it is the same for half a second: rules follow when nothing more urgent is to be done."""
    deadline = time.monotonic() + PATIENCE_S
    listing = network_listing(namespace)
    while True:
        time.sleep(0.5)
        latest = network_listing(namespace)
        if latest == listing:
            return listing
        assert time.monotonic() < deadline, "what is in the kernel goes on changing"
        listing = latest


def _is_empty_table(line: str) -> bool:
    """True for what iptables-save prints of a table that was once read: it is empty, and cannot be removed."""
    return line.startswith(("#", "*")) or line == "COMMIT" or (line.startswith(":") and " ACCEPT " in line)

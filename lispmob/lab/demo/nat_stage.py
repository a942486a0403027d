"""The services of the NAT chapter, in their own laboratory: a Map-Server, two RTRs, and nodes behind NATs."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from ipaddress import ip_address
from pathlib import Path
from typing import Final

from lispmob.closing import Closing
from lispmob.lab import behind_nats
from lispmob.lab.behind_nats import KINDS, ROAMER, Kind, host_of
from lispmob.lab.build import Lab
from lispmob.lab.control_watch import ControlWatch
from lispmob.lab.demo_service import Hub, Identity, Json, Node, hub_configuration, node_configuration
from lispmob.lab.link import IpAddress
from lispmob.lab.nat import NatGateway
from lispmob.lab.ping import ping
from lispmob.lab.probe import Party
from lispmob.lab.process import ProcessFailed

OVERLAY: Final = ("10.1.0.0/16", "2001:db8:e1d::/48")
_PATIENCE_S: Final = 15.0
_TCP_OCTETS: Final = 100_000


SAY_PORT: Final = 47_401


def _identity(number: int, name: str) -> Identity:
    return Identity(name, ip_address(f"10.1.0.{number}"), ip_address(f"2001:db8:e1d::{number:x}"))


class NatStage(Closing):
    """The laboratory with its services; leaving the `with` block removes it."""

    def __init__(self, directory: Path, kinds: Iterable[Kind] = KINDS) -> None:
        """Start everything; `wait_until_registered` waits for the nodes. Raises KernelRefused or ProcessFailed."""
        self._open = contextlib.ExitStack()
        self.kinds = tuple(kinds)
        names = [*map(host_of, self.kinds), "far", ROAMER]
        self.identities = {name: _identity(number, name) for number, name in enumerate(names, start=1)}
        self.nodes: dict[str, Node] = {}
        self.servers: dict[str, Hub] = {}
        try:
            self.lab = self._open.enter_context(Lab(behind_nats.topology(), "nat-"))
            self.gateways: dict[str, NatGateway] = behind_nats.put_up_nats(self.lab)
            self.watch = self._open.enter_context(ControlWatch({name: self.lab[name] for name in names}))
            self._start_servers(directory)
            for identity in self.identities.values():
                self._start_node(identity, directory / identity.name)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """End everything. Idempotent."""
        running = [*self.nodes.values(), *self.servers.values()]
        if running:  # in parallel, because each takes time to withdraw its registration
            with ThreadPoolExecutor(len(running)) as pool:
                list(pool.map(lambda one: one.daemon.stop(), running))
        self._open.close()

    def party(self, name: str) -> Party:
        """The end of a stream at the EID of a node."""
        return Party(self.lab[name], self.identities[name].eid4)

    def seals(self, name: str, other: str) -> bool:
        """True when a node reports that its packets to another node are sealed."""
        keys = self.nodes[name].lispctl("key") or {}
        wanted = f"{self.identities[other].eid4}/32"
        return any(peer["prefix"] == wanted and peer["seal"]["state"] == "sealed" for peer in keys.get("peers", []))

    def say(self, name: str, other: str, line: bytes) -> int:
        """Send a line in a datagram from EID to EID; returns 1 when it was received."""
        own, there = self.identities[name].eid4, self.identities[other].eid4
        with (
            self.lab[other].socket(socket.AF_INET, socket.SOCK_DGRAM) as listening,
            self.lab[name].socket(socket.AF_INET, socket.SOCK_DGRAM) as speaking,
        ):
            listening.bind((str(there), SAY_PORT))
            listening.settimeout(1.0)
            speaking.bind((str(own), 0))
            speaking.sendto(line, (str(there), SAY_PORT))
            try:
                return int(listening.recv(1000) == line)
            except TimeoutError:
                return 0

    def wait_until_registered(self) -> None:
        """Return when every node is registered. Raises ProcessFailed."""
        deadline = time.monotonic() + _PATIENCE_S
        waiting = dict(self.nodes)
        while waiting:
            # Read the logs, because lispctl would delay the nodes that are starting.
            waiting = {name: node for name, node in waiting.items() if " registered eid=" not in node.daemon.log_text()}
            if waiting and time.monotonic() > deadline:
                name, node = waiting.popitem()
                raise ProcessFailed(f"{name} does not register\n{node.daemon.log_tail()}")
            time.sleep(0.05)

    def lost_both_ways(self, kind: Kind) -> int:
        """How many pings between the node of this kind and the one behind a symmetric NAT are lost."""
        one, far = host_of(kind), "far"
        lost = 0
        for source, destination in ((one, far), (far, one)):
            seen = ping(self.lab[source], self.identities[destination].eid4, self.identities[source].eid4, count=3)
            lost += seen.lost
        return lost

    def tcp_both_ways(self, kind: Kind) -> bool:
        """True when each of the two can open a TCP connection to the other, and its octets arrive."""
        one, far = host_of(kind), "far"
        return self._tcp(one, far) and self._tcp(far, one)

    def everywhere(self) -> dict[str, tuple[int, bool]]:
        """For each kind: pings lost, and whether TCP works in both directions; all kinds at the same time."""
        with ThreadPoolExecutor(len(self.kinds)) as pool:
            lost = list(pool.map(self.lost_both_ways, self.kinds))
            has_tcp = list(pool.map(self.tcp_both_ways, self.kinds))
        return {kind.name: (gone, tcp) for kind, gone, tcp in zip(self.kinds, lost, has_tcp, strict=True)}

    def _tcp(self, client: str, server: str) -> bool:
        with (
            self.lab[server].socket(socket.AF_INET, socket.SOCK_STREAM) as listening,
            self.lab[client].socket(socket.AF_INET, socket.SOCK_STREAM) as connecting,
        ):
            listening.bind((str(self.identities[server].eid4), 0))
            listening.listen(1)
            listening.settimeout(3.0)
            connecting.settimeout(3.0)
            connecting.bind((str(self.identities[client].eid4), 0))
            try:
                connecting.connect(listening.getsockname())
                accepted, _ = listening.accept()
                with accepted:
                    accepted.settimeout(3.0)
                    with ThreadPoolExecutor(1) as pool:
                        pool.submit(connecting.sendall, bytes(_TCP_OCTETS))
                        got = 0
                        while got < _TCP_OCTETS and (data := accepted.recv(65_536)):
                            got += len(data)
            except OSError:
                return False
        return got == _TCP_OCTETS

    def _start_servers(self, directory: Path) -> None:
        topology = self.lab.topology
        addresses = {name: topology.address(name, "eth0") for name in behind_nats.SERVERS}
        link = "key: between the servers of the demo"
        rtrs = ", ".join(f"{{address: {addresses[name]}, {link}}}" for name in ("rtr1", "rtr2"))
        texts = {
            "hub": hub_configuration(tuple(self.identities.values()), [addresses["hub"]], directory / "hub")
            + f"rtrs: [{rtrs}]\n"
        }
        for name in ("rtr1", "rtr2"):
            base = hub_configuration((), [addresses[name]], directory / name).replace("sites:\n", "sites: []\n")
            texts[name] = base + f"rtr: {{enabled: yes, map-servers: [{{address: {addresses['hub']}, {link}}}]}}\n"
        self._server_texts = {name: (text, directory / name) for name, text in texts.items()}
        for name in texts:
            self._start_server(name)
        for server in self.servers.values():
            server.wait_until_listening(timeout_s=10.0)

    def _start_server(self, name: str) -> None:
        text, directory = self._server_texts[name]
        server = self.servers[name] = Hub(self.lab[name], text, directory)
        self._open.callback(server.daemon.stop)

    def restart_server(self, name: str) -> None:
        """Kill it and start it again; an RTR has lost its nodes then. Returns while it is still starting."""
        self.servers[name].daemon.kill()
        self._start_server(name)

    def netcheck(self, name: str, address: IpAddress | None = None) -> Json:
        """What a node reports about its uplink, or about the one with this address. Raises ProcessFailed."""
        answer = self.nodes[name].lispctl("netcheck")
        entries = answer["entries"] if answer is not None else []
        found = [entry for entry in entries if address is None or entry["address"] == str(address)]
        if not found:
            raise ProcessFailed(f"{name} says nothing of {address}\n{self.nodes[name].daemon.log_tail()}")
        return dict(found[0])

    def rtr_of(self, name: str) -> str:
        """The server that is the RTR of a node. Raises ProcessFailed."""
        rtr = self.netcheck(name)["rtr"]
        servers = {str(self.lab.topology.address(server, "eth0")): server for server in behind_nats.SERVERS}
        if rtr not in servers:
            raise ProcessFailed(f"{name} has no RTR\n{self.nodes[name].daemon.log_tail()}")
        return servers[rtr]

    def _start_node(self, identity: Identity, directory: Path) -> None:
        map_server = self.lab.topology.address("hub", "eth0")
        text = node_configuration(identity, map_server, OVERLAY, directory)
        node = self.nodes[identity.name] = Node(identity, self.lab[identity.name], text, directory)
        self._open.callback(node.daemon.stop)

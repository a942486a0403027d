"""Hosts on plain virtual links around one router: packets arrive as they left, with nothing changed by offload."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from ipaddress import IPv4Address, IPv4Interface, ip_address
from pathlib import Path
from typing import Any, Final

from lispmob.lab import link
from lispmob.lab.namespace import Namespace, NamespaceSet
from lispmob.lab.ping import ping
from lispmob.lab.probe import Party
from lispmob.lab.process import Daemon, module
from lispmob.lab.tcp_stream import StreamResult, TcpStream
from tests.interop import traffic
from tests.interop.traffic import QUESTIONS

PLACES: Final = {  # (host, interface) -> address; the router has .1 of each network
    ("hub", "eth0"): IPv4Address("198.51.100.10"),
    ("rtr", "eth0"): IPv4Address("198.51.101.10"),
    ("ours", "eth0"): IPv4Address("198.18.1.10"),
    ("ours", "eth1"): IPv4Address("198.18.2.10"),
    ("other", "eth0"): IPv4Address("198.18.3.10"),
    ("theirs", "eth0"): IPv4Address("198.19.1.10"),
}
HUB, RTR, OURS, OURS_2, OTHER, THEIRS = PLACES.values()
KEY: Final = "interop-key"
RTR_KEY: Final = "between-servers"
RTRS: Final = f"rtrs: [{{address: {RTR}, key: {RTR_KEY}}}]"


class Cables:
    """The namespaces, and the programs in them until the end of the test."""

    def __init__(self, directory: Path, opened: ExitStack, *, is_campus: bool = False) -> None:
        """`is_campus`: every address is private, and no NAT translates."""
        self.places = {key: _private(one) if is_campus else one for key, one in PLACES.items()}
        self.hub_address = self.places["hub", "eth0"]
        self.directory = directory
        self.opened = opened
        self.running: dict[str, Daemon] = {}
        self.hosts = opened.enter_context(NamespaceSet("x"))
        self.router = self.hosts.make("router")
        self.router.sysctl("ipv4/ip_forward", "1")
        for host, interface in PLACES:
            if interface == "eth0":
                self.hosts.make(host)
            self.plug(host, interface)

    def __getitem__(self, host: str) -> Namespace:
        return self.hosts[host]

    def plug(self, host: str, interface: str) -> None:
        """Add a link from the host to the router, with addresses and a default route."""
        own = self.places[host, interface]
        port = f"{host}.{interface}"
        gateway = _gateway(own)
        link.apply(
            self.router,
            [
                link.veth(port, self[host], interface),
                f"link set {port} up",
                link.address(port, IPv4Interface(f"{gateway}/24")),
            ],
        )
        self.attach(host, interface)

    def attach(self, host: str, interface: str) -> None:
        own = self.places[host, interface]
        gateway = _gateway(own)
        metric = 100 if interface == "eth0" else 200
        lines = [f"link set {interface} up", link.address(interface, IPv4Interface(f"{own}/24"))]
        link.apply(self[host], [*lines, link.default_route(interface, gateway, metric)])

    def gateway(self, host: str) -> IPv4Address:
        """The router's address on the first link of this host."""
        return _gateway(self.places[host, "eth0"])

    def start(self, host: str, name: str, command: list[str]) -> Daemon:
        self.running[name] = made = Daemon(name, self[host], command, self.directory / f"{name}.log")
        self.opened.callback(made.stop)
        return made

    def write(self, name: str, text: str) -> str:
        path = self.directory / f"{name}.conf"
        path.touch(mode=0o600)
        path.write_text(text)
        return str(path)

    def start_hub(self, more: str = "") -> Daemon:
        text = f"""
listen: [{self.hub_address}]
sites:
  - name: all
    eids: [10.1.0.0/16, "2001:db8:e1d::/48", 240.1.0.0/16]
    key: {KEY}
    algorithms: [hmac-sha-1-96, hmac-sha-256-128]
    accept-more-specifics: yes
state-file: {self.directory}/hub.sqlite
control-socket: {self.directory}/lisphub.sock
{more}
"""
        return self.start("hub", "hub", module("lispmob.hub.daemon", "-c", self.write("hub", text)))

    def start_rtr(self) -> Daemon:
        """Start an RTR on a machine of its own; `start_hub` needs its address (`RTRS`)."""
        text = f"""
listen: [{RTR}]
sites: []
rtr: {{enabled: yes, map-servers: [{{address: {self.hub_address}, key: {RTR_KEY}}}]}}
proxy: {{eids: [10.1.0.0/16]}}
state-file: none
control-socket: {self.directory}/rtr.sock
"""
        return self.start("rtr", "rtr", module("lispmob.hub.daemon", "-c", self.write("rtr", text)))

    def start_ours(
        self,
        tier: str,
        eids: tuple[str, ...],
        host: str = "ours",
        more: str = "",
        algorithm: str = "hmac-sha-256-128",
        proxy_reply: str = "yes",
    ) -> Daemon:
        directory = self.directory / host
        directory.mkdir(exist_ok=True)
        quoted = ", ".join(f'"{eid}"' for eid in eids)
        text = f"""
eids: [{quoted}]
map-servers:
  - {{address: {self.hub_address}, key: {KEY}, algorithm: {algorithm}, proxy-reply: {proxy_reply}}}
routing: {{overlay-prefixes: [10.1.0.0/16, "2001:db8:e1d::/48", 240.1.0.0/16], fallback: drop}}
control: {{socket: {directory}/lispd.sock, group: root}}
state-dir: {directory}
datapath: {{tier: {tier}}}
dbus: no
{more}
"""
        return self.start(host, host, module("lispmob", "-c", self.write(host, text)))

    def lispctl(self, host: str, *words: str) -> Any:
        """The JSON answer of one command."""
        line = module("lispmob.lispctl.main", "--socket", str(self.directory / host / "lispd.sock"), "--json", *words)
        return json.loads(self[host].run(*line))

    def check(self) -> None:
        for daemon in self.running.values():
            daemon.check()

    def stop(self, name: str) -> None:
        """Stop one program."""
        self.running.pop(name).stop()

    # --- traffic ---

    def answering(self, host: str, address: str) -> AbstractContextManager[None]:
        """Return every UDP datagram to port 7 of this address."""
        return traffic.answering(self[host], address)

    def answered(self, host: str, source: str, to: str, count: int = QUESTIONS) -> int:
        """How many of so many requests are answered, each sent once."""
        return traffic.answered(self[host], source, to, count)

    def pings(self, host: str, source: str, to: str, count: int) -> int:
        """How many of so many echo requests are answered."""
        return count - ping(self[host], ip_address(to), ip_address(source), count=count).lost

    def sealed_peers(self, host: str) -> int:
        """The number of peers with which our node seals."""
        return sum(peer["seal"]["state"] == "sealed" for peer in self.lispctl(host, "key")["peers"])

    def wait_until_told(self, name: str, text: str, patience_s: float = 15.0) -> None:
        """Return once a program has logged this."""
        deadline = time.monotonic() + patience_s
        while text not in self.running[name].log_text():
            self.check()
            assert time.monotonic() < deadline, self.running[name].log_tail()
            time.sleep(0.05)

    def wait_until_registered(self, *eids: str) -> None:
        """Return once the hub has all of them. A request before that gets a negative answer, cached for a minute."""
        for eid in eids:
            self.wait_until_told("hub", f"registered eid={eid} ")

    def wait_until_reached(self, host: str, source: str, to: str, patience_s: float = 20.0) -> None:
        """Return once a request is answered: the first ones are lost while nodes register and ask for mappings."""
        deadline = time.monotonic() + patience_s
        while time.monotonic() < deadline:
            self.check()
            try:
                if self.answered(host, source, to, count=1):
                    return
            except OSError:  # the EID is no address of the host yet
                time.sleep(0.1)
        logs = "\n".join(daemon.log_tail() for daemon in self.running.values())
        raise AssertionError(f"{to} never answered {source} within {patience_s} s\n{logs}")

    def stream_through_a_loss(self, kind: str, source: str, to: str, pace_s: float = 0.005) -> StreamResult:
        """A TCP stream from our node, whose first uplink is lost in this way and returns."""
        own = self.places["ours", "eth0"]
        lines = {
            "address": f"addr del {own}/24 dev eth0",
            "route": f"route del default via {_gateway(own)} dev eth0",
            "link": "link set eth0 down",
        }
        ends = Party(self["ours"], ip_address(source)), Party(self["theirs"], ip_address(to))
        with TcpStream(*ends, pace_s=pace_s) as stream:
            time.sleep(0.4)
            link.apply(self["ours"], [lines[kind]])
            time.sleep(0.8)
            self.attach("ours", "eth0")
            time.sleep(0.8)
            return stream.finish()

    def mbit_s(self, client: str, server: str, to: str, source: str, seconds: float = 1.0) -> float:
        """The rate of one TCP stream from client to server, by what the server received."""
        return traffic.mbit_s(self[client], self[server], to, source, seconds)


@contextmanager
def cables(directory: Path, *, is_campus: bool = False) -> Iterator[Cables]:
    with ExitStack() as opened:
        yield Cables(directory, opened, is_campus=is_campus)


def _gateway(address: IPv4Address) -> IPv4Address:
    return IPv4Address(int(address) & ~0xFF | 1)


def _private(address: IPv4Address) -> IPv4Address:
    return IPv4Address(int(address) & 0xFFFFFF | 10 << 24)

"""A desktop with three uplinks w0, w1 and w2 into one core, a hub there, and a peer beyond: real daemons, real packets.

desk w0, w1, w2 ── far0, far1, far2 core (lisphub) b0 ── e0 peer
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final

from lispmob.lab.control_watch import ControlWatch
from lispmob.lab.namespace import Namespace, NamespaceSet
from lispmob.lab.probe import Party
from lispmob.lab.process import Daemon, module
from lispmob.lab.tcp_stream import TcpStream
from lispmob.wire.address import IpAddress
from tests.desktop.private_bus import PrivateBus
from tests.testbed import AskedNode

HUB: Final = "198.51.100.1"
EIDS: Final = {"desk": ip_address("10.1.0.1"), "peer": ip_address("10.1.0.2")}
UPLINKS: Final = 3

_NODE = """eids: [{eid}/32]
map-servers: [{{address: {hub}, key: only-for-tests}}]
routing: {{mode: split, overlay-prefixes: [10.1.0.0/16], fallback: native}}
control: {{socket: {directory}/lispd.sock, group: root}}
state-dir: {directory}/state
{more}
"""
_HUB = """listen: [{hub}]
sites:
  - {{name: all, eids: [10.1.0.0/16], key: only-for-tests, accept-more-specifics: yes}}
state-file: {directory}/hub.sqlite
control-socket: {directory}/lisphub.sock
"""


class Node(AskedNode):
    """One lispd."""

    pause_s = 0.03

    def __init__(
        self,
        namespace: Namespace,
        directory: Path,
        eid: IpAddress,
        bus: str | None,
        more: str,
        program: str = "lispmob",
    ) -> None:
        super().__init__(namespace, directory)
        directory.mkdir(mode=0o700)
        self.party = Party(namespace, eid)
        path = directory / "lispd.conf"
        path.touch(mode=0o600)
        text = more if bus is not None else f"{more}\ndbus: no"
        path.write_text(_NODE.format(eid=eid, hub=HUB, directory=directory, more=text), encoding="ascii")
        environment = ["env", f"DBUS_SYSTEM_BUS_ADDRESS={bus}"] if bus is not None else []
        command = [*environment, *module(program, "-c", str(path))]
        self.daemon = Daemon("lispd", namespace, command, directory / "lispd.log")

    def until_on(self, *interfaces: str) -> Any:
        """Wait until it is registered with exactly these uplinks, the best first."""
        return self.wait_until(
            lambda status: status["state"] == "registered" and used(status) == list(interfaces),
            f"registered on {interfaces}",
        )

    def descriptors(self) -> list[str]:
        """The targets of its descriptors, without the numbers of sockets."""
        folder = Path(f"/proc/{self.daemon.pid}/fd")
        found = []
        for path in folder.iterdir():
            with contextlib.suppress(FileNotFoundError):
                found.append(os.readlink(path).partition("[")[0])
        return sorted(found)


def used(status: dict[str, Any]) -> list[str]:
    """The uplinks in use, the best first."""
    return [uplink["name"] for uplink in status["uplinks"] if uplink["is_used"]]


class DesktopWorld:
    """The namespaces, and the daemons in them."""

    def __init__(self, directory: Path, stack: contextlib.ExitStack) -> None:
        self.directory = directory
        self.stack = stack
        self._namespaces = namespaces = stack.enter_context(NamespaceSet())
        self.desk, self.core, self.peer = (namespaces.make(word) for word in ("desk", "core", "peer"))
        self.core.sysctl("ipv4/ip_forward", "1")
        for number in range(UPLINKS):
            self._cable(self.desk, f"w{number}", f"far{number}", f"192.168.{90 + number}.1/24")
        self._cable(self.peer, "e0", "b0", "192.168.80.1/24")
        for line in ("addr add 192.168.80.2/24 dev e0", "link set e0 up", "route add default via 192.168.80.1"):
            self.peer.run("ip", *line.split())
        self.core.run("ip", "addr", "add", f"{HUB}/32", "dev", "lo")
        self.bus: PrivateBus | None = None

    def _cable(self, namespace: Namespace, near: str, far: str, address: str) -> None:
        self.core.run("ip", "link", "add", far, "type", "veth", "peer", "name", near, "netns", namespace.name)
        self.core.run("ip", "addr", "add", address, "dev", far)
        self.core.run("ip", "link", "set", far, "up")

    def add_namespace(self, word: str) -> Namespace:
        """A further namespace for what a test needs besides."""
        return self._namespaces.make(word)

    def attach(self, number: int, metric: int | None = None) -> None:
        """Give an uplink its address and route without NetworkManager."""
        network = f"192.168.{90 + number}"
        self.desk.run("ip", "link", "set", f"w{number}", "up")
        self.desk.run("ip", "addr", "replace", f"{network}.2/24", "dev", f"w{number}")
        route = ("via", f"{network}.1", "dev", f"w{number}", "metric", str(metric or 100 + number))
        self.desk.run("ip", "route", "replace", "default", *route)

    def start(self, bus: PrivateBus | None, more: str = "", program: str = "lispmob") -> tuple[Node, Node]:
        """Start hub, desk and peer; waits for the hub alone."""
        self.start_hub()
        address = bus.address if bus is not None else None
        desk = Node(self.desk, self.directory / "desk", EIDS["desk"], address, more, program)
        self.stack.callback(desk.daemon.stop)
        return desk, self.start_peer()

    def start_hub(self) -> None:
        """Start the hub, and wait until it answers in the core."""
        path = self.directory / "hub.conf"
        path.touch(mode=0o600)
        path.write_text(_HUB.format(hub=HUB, directory=self.directory), encoding="ascii")
        hub = Daemon("lisphub", self.core, module("lispmob.hub.daemon", "-c", str(path)), self.directory / "hub.log")
        self.stack.callback(hub.stop)

    def start_peer(self) -> Node:
        """Start the peer, and wait until it is registered."""
        peer = Node(self.peer, self.directory / "peer", EIDS["peer"], None, "")
        self.stack.callback(peer.daemon.stop)
        peer.wait_until(lambda status: status["state"] == "registered", "registered")
        return peer

    def stream(self, desk: Node, peer: Node) -> TcpStream:
        """A TCP stream between the EIDs, open until the world ends or the stream is finished."""
        return self.stack.enter_context(TcpStream(desk.party, peer.party))

    def watch(self) -> ControlWatch:
        """Watch the control messages that the desk sends and receives."""
        return self.stack.enter_context(ControlWatch({"desk": self.desk}))

    def listing(self) -> str:
        """Rules, routes and addresses of the desk, for comparison."""
        ip = ("rule", "-6 rule", "route show table all", "-6 route show table all")
        return "\n".join(self.desk.run("ip", *words.split()) for words in ip) + self.desk.run("iptables-save")


@contextlib.contextmanager
def desktop_world(directory: Path) -> Iterator[DesktopWorld]:
    """A desktop, of which nothing is left afterwards."""
    with contextlib.ExitStack() as stack:
        yield DesktopWorld(directory, stack)

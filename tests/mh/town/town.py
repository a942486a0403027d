"""A hub and two nodes with two uplinks each, as processes in namespaces: what a user has, seen from outside."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from lispmob.lab.build import Lab
from lispmob.lab.demo_service import Hub, Identity, Node, hub_configuration, node_configuration
from lispmob.lab.namespace import Namespace
from lispmob.lab.topology import Topology, roaming
from tests.testbed import AskedNode

A = Identity("a", ip_address("10.1.0.1"), ip_address("2001:db8:e1d::1"))
B = Identity("b", ip_address("10.1.0.2"), ip_address("2001:db8:e1d::2"))
OVERLAY = ("10.1.0.0/16", "2001:db8:e1d::/48")
EQUAL = """\
uplinks:
  - {name: "wlan*", priority: 1, weight: 75}
  - {name: "lte*", priority: 1, weight: 25}
"""
"""Both uplinks of one priority, 3:1."""

PROGRAM = {True: ("lispmob",), False: ("tests.datapath.without_bpf", "lispmob.__main__")}
"""lispd, as it is and where bpf(2) is refused to it."""

DATAGRAM_OCTETS = 64 + 28 + 8  # the smallest datagram of `send`, also in a run


@dataclass
class Town:
    """Uplinks are wlan0 and lte0 on both nodes; a prefers wlan0 unless its configuration says otherwise."""

    lab: Lab
    directory: Path
    nodes: dict[str, Node] = field(default_factory=dict)
    uplinks: tuple[str, ...] = ("wlan0", "lte0")
    has_bpf: bool = True

    @property
    def a(self) -> Namespace:
        return self.lab["a"]

    @property
    def b(self) -> Namespace:
        return self.lab["b"]

    def ctl(self, *command: str, node: str = "a", code: int = 0) -> Any:
        """The answer of a lispctl command, from JSON. With another `code`: its complaint."""
        asked = self._asked(node)
        return asked.ctl(*command) if code == 0 else asked.complaint(*command, code=code)

    def say(self, *command: str, node: str = "a") -> list[str]:
        """The lines that a lispctl command prints as text."""
        return self._asked(node).say(*command).splitlines()

    def _asked(self, node: str) -> AskedNode:
        asked = AskedNode(self.lab[node], self.directory / node)
        asked.daemon = self.nodes[node].daemon
        return asked

    def show_cgroups(self, node: str = "a") -> None:
        """Let lispd see the control groups: `ip netns exec` has put another /sys in front of them."""
        inside = ["nsenter", f"--target={self.nodes[node].daemon.pid}", "--mount"]
        subprocess.run([*inside, "mount", "-t", "cgroup2", "none", "/sys/fs/cgroup"], check=True, timeout=10)

    def configure(self, extra: str, node: str = "a") -> None:
        """Replace what follows the common part of lispd.conf, and reload."""
        self.conf(node).write_text(self.base(node) + extra)
        self.ctl("reload", node=node)

    def conf(self, node: str) -> Path:
        return self.directory / node / "lispd.conf"

    def base(self, node: str) -> str:
        identity = A if node == "a" else B
        hub = self.lab.topology.address("hub", "eth0")
        # In clear: these tests read the packets on the link. lispd/running/test_sealed_netns.py moves sealed ones.
        return node_configuration(identity, hub, OVERLAY, self.directory / node) + "security: {seal: off}\n"

    def start(self, identity: Identity, extra: str) -> Node:
        directory = self.directory / identity.name
        program = PROGRAM[self.has_bpf or identity is not A]
        node = Node(identity, self.lab[identity.name], self.base(identity.name) + extra, directory, program)
        self.nodes[identity.name] = node
        return node

    def ifindex(self, interface: str, node: str = "a") -> int:
        return int(self.lab[node].run("cat", f"/sys/class/net/{interface}/ifindex"))

    def sent(self, interface: str, node: str = "a") -> int:
        """What an interface has sent so far, in datagrams of `send`: it counts a run of them as one packet."""
        return int(self.lab[node].run("cat", f"/sys/class/net/{interface}/statistics/tx_bytes")) // DATAGRAM_OCTETS

    def received(self, interface: str, node: str = "a") -> int:
        """The same for what has come in."""
        return int(self.lab[node].run("cat", f"/sys/class/net/{interface}/statistics/rx_bytes")) // DATAGRAM_OCTETS

    def counted(self) -> dict[str, int]:
        """What each of a's uplinks has sent so far."""
        return {name: self.sent(name) for name in self.uplinks}

    def carrier(self, before: dict[str, int], packets: int, patience_s: float = 1.0) -> str | None:
        """The uplink that has sent so many more than `before`; None: neither of them in time.

        A fifth may be missing: an ICMP error about former packets costs a sender one of the next.
        """
        deadline = time.monotonic() + patience_s
        while True:
            found = [name for name, was in before.items() if self.sent(name) - was >= packets * 4 // 5]
            assert len(found) <= 1, found
            if found or time.monotonic() > deadline:
                return found[0] if found else None
            time.sleep(0.01)

    def by_uplink(self, count: int, *, port: int = 7000, mark: int = 0, flows: int = 1) -> dict[str, int]:
        """Send datagrams from EID to EID; returns about how many each of a's uplinks has sent."""
        before = {name: self.sent(name) for name in ("wlan0", "lte0")}
        self.send(count, port=port, mark=mark, flows=flows)
        time.sleep(0.05)
        return {name: self.sent(name) - was for name, was in before.items()}

    def send(self, count: int, *, port: int = 7000, mark: int = 0, flows: int = 1) -> None:
        for _ in range(flows):
            with self.a.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
                sender.bind((str(A.eid4), 0))
                if mark:
                    sender.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, mark)
                for _ in range(count):
                    with contextlib.suppress(OSError):  # the error of a rule that drops, or of ICMP
                        sender.sendto(b"x" * 64, (str(B.eid4), port))

    def ping(self) -> None:
        """Ping until each node has the mapping of the other."""
        self.a.run("ping", "-c", "3", "-i", "0.2", "-I", str(A.eid4), str(B.eid4))


@contextlib.contextmanager
def town(
    extra: str = "",
    extra_b: str = "",
    *,
    delay_s: float = 0.005,
    topology: Topology | None = None,
    has_bpf: bool = True,
) -> Iterator[Town]:
    """Everything runs, is registered, and has exchanged packets. `has_bpf`: of a."""
    with tempfile.TemporaryDirectory(prefix="lispmob-town-") as directory, contextlib.ExitStack() as stack:
        made = topology or roaming(delay_s)
        lab = stack.enter_context(Lab(made))
        uplinks = tuple(up.interface for up in made.host("a").uplinks)
        one = Town(lab, Path(directory), uplinks=uplinks, has_bpf=has_bpf)
        addresses = [address.ip for address in lab.topology.addresses("hub", "eth0")]
        hub = Hub(lab["hub"], hub_configuration((A, B), addresses, one.directory / "hub"), one.directory / "hub")
        stack.callback(hub.daemon.stop)
        hub.wait_until_listening(10.0)
        for identity, text in ((A, extra), (B, extra_b)):
            stack.callback(one.start(identity, text).daemon.stop)
        wait_for(lambda: all(node.is_registered() for node in one.nodes.values()), 20.0)
        one.ping()
        yield one


def wait_for(condition: Any, timeout_s: float) -> None:
    """Raise AssertionError when it does not become true in time."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "not in time"
        time.sleep(0.05)

"""A user's desktop: Debian with systemd, NetworkManager, polkit and firewalls, and our package installed.

Its network is the desk of a DesktopWorld: uplinks w0 and w1, a hub, a peer with EID 10.1.0.2 beyond.
"""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from tests.desktop.desktop_world import EIDS, HUB, DesktopWorld, desktop_world
from tests.desktop.private_bus import wait_for
from tests.packaging.machine import Machine, machine

_NODE: Final = """eids: [{eid}/32]
map-servers: [{{address: {hub}, key: only-for-tests}}]
routing: {{overlay-prefixes: [10.1.0.0/16], fallback: native}}
log: {{level: debug}}
{more}
"""
_MANAGED: Final = """[main]
no-auto-default=*
[device-lab]
match-device=interface-name:w*
managed=1
"""


class DesktopMachine:
    """The machine and its world."""

    def __init__(self, world: DesktopWorld, box: Machine, package: Path) -> None:
        self.world = world
        self.box = box
        box.put("/root/lispmob.deb", package.read_bytes())
        box.put("/etc/NetworkManager/conf.d/lab.conf", _MANAGED)
        box.sh("useradd -m -s /bin/bash anna")
        world.start_hub()
        self.peer = world.start_peer()

    def connect(self, *numbers: int) -> None:
        """Connect by a NetworkManager that runs under systemd."""
        self.box.sh("systemctl restart NetworkManager")
        wait_for(lambda: self.box.sh("nmcli -t -f RUNNING general", must=False).strip() == "running", "it runs")
        for number in numbers:
            network = f"192.168.{90 + number}"
            self.box.sh(
                f"nmcli con add type ethernet ifname w{number} con-name c{number} ipv6.method disabled "
                f"ipv4.method manual ipv4.addresses {network}.2/24 ipv4.gateway {network}.1 && nmcli con up c{number}"
            )

    def start_lispd(self, more: str = "") -> None:
        """Install, configure, start, and wait until it is registered."""
        self.box.sh("apt-get install -y --no-install-recommends /root/lispmob.deb")
        self.box.put("/etc/lispmob/lispd.conf", _NODE.format(eid=EIDS["desk"], hub=HUB, more=more))
        self.box.sh("systemctl start lispd")
        self.until_registered()

    def until_registered(self) -> None:
        wait_for(lambda: self.status().get("state") == "registered", "registered", 30.0)

    def status(self) -> dict[str, Any]:
        """The status by lispctl; empty while no daemon answers."""
        shown = self.box.sh("lispctl --json status", must=False)
        found: dict[str, Any] = json.loads(shown) if shown else {}
        return found

    def reaches_peer(self) -> bool:
        return "bytes from" in self.box.sh(f"ping -c 3 -i 0.2 -W 2 {EIDS['peer']}", must=False)

    def is_reached_by_peer(self) -> bool:
        shown = self.world.peer.run("sh", "-c", f"ping -c 3 -i 0.2 -W 2 {EIDS['desk']} || true")
        return "bytes from" in shown

    def serve(self, port: int) -> None:
        """A web server on the EID."""
        serving = f"python3 -m http.server --bind {EIDS['desk']} {port}"
        self.box.sh(f"systemd-run --unit=web{port} --working-directory=/run {serving}")
        wait_for(lambda: f":{port}" in self.box.sh("ss -Hltn"), "it serves")

    def is_served_to_peer(self, port: int) -> bool:
        connect = f"import socket; socket.create_connection(('{EIDS['desk']}', {port}), timeout=2)"
        return self.world.peer.run("sh", "-c", f'{sys.executable} -c "{connect}" 2>&1 || true') == ""

    def until_shut(self) -> None:
        """Wait until a firewall drops unsolicited packets; before that, letting LISP in would prove nothing.

        Existing connections continue, and firewalld says that it has started before its rules exist.
        """

        def is_shut() -> bool:
            self.world.desk.run("conntrack", "-F")
            return not self.is_reached_by_peer()

        wait_for(is_shut, "a firewall that drops")

    def ours(self) -> list[str]:
        """What the kernel holds of ours, and of no other program."""
        rules = "ip rule; ip -6 rule"
        routes = "ip route show table all proto 201; ip -6 route show table all proto 201"
        return sorted(
            [line for line in self.box.sh(rules).splitlines() if "proto 201" in line]
            + self.box.sh(routes).splitlines()
            + [line for line in self.box.sh("iptables-save").splitlines() if "LISPMOB-" in line[2:]]
        )

    def until_as(self, before: list[str], what: str) -> None:
        """Wait until the kernel holds of ours what it held before. Fails with the difference."""
        with contextlib.suppress(AssertionError):
            wait_for(lambda: self.ours() == before, what, 10.0)
        assert self.ours() == before, what

    def settled(self) -> list[str]:
        """What the kernel holds of ours once all of it is there."""
        wait_for(lambda: all(chain in str(self.ours()) for chain in ("LISPMOB-NAT", "LISPMOB-CAME-IN")), "all chains")
        return self.ours()


@contextlib.contextmanager
def desktop_machine(directory: Path, package: Path) -> Iterator[DesktopMachine]:
    """A machine with hub and peer running, and nothing connected or installed yet."""
    with desktop_world(directory) as world, machine(world.desk, directory, "desktop") as box:
        yield DesktopMachine(world, box, package)

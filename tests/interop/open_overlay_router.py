"""Open Overlay Router as a peer: where its program is, its configuration, and who is whose peer.

Nothing can replace a real foreign implementation; its messages are also in tests/captures.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from ipaddress import IPv4Address
from pathlib import Path
from typing import Final

import pytest

from lispmob.lab.build import Lab
from lispmob.lab.process import Daemon
from lispmob.wire.address import IpAddress

OOR: Final = os.environ.get("OOR") or shutil.which("oor") or ""
NEEDS_IT: Final = [
    pytest.mark.netns,
    pytest.mark.skipif(not OOR, reason="Open Overlay Router is not installed: put `oor` on PATH, or its path in OOR"),
]
KEY: Final = "interop-key"
SERVER: Final = IPv4Address("198.51.100.10")  # the Map-Server's address in all these laboratories

THEIR_MAP_SERVER = f"""
operating-mode = MS
control-iface = eth0
lisp-site {{
    eid-prefix = 10.1.0.0/16
    key-type = 1
    key = {KEY}
    iid = 0
    accept-more-specifics = true
    proxy-reply = false
}}
"""


RTR_KEY: Final = "between-servers"

THEIR_RTR = f"""
operating-mode = RTR
encapsulation = LISP
map-resolver = {{ SERVER }}
rtr-ifaces {{
    rtr-iface {{
        iface = eth0
        ip_version = 4
        priority = 1
        weight = 100
    }}
}}
rtr-ms-node {{
    address = SERVER
    key = {RTR_KEY}
    draft-version = NEW
}}
"""


def rtr_set(rtr: IpAddress) -> str:
    """The lines that name their RTR to their Map-Server."""
    return f"""
ms-rtr-node {{
    name = only
    address = {rtr}
    key = {RTR_KEY}
}}
ms-rtrs-set {{
    name = all
    ttl = 5
    rtrs = {{ only }}
}}
ms-advertised-rtrs-set = all
"""


def their_node(server: IPv4Address, *eids: str) -> str:
    """A mobile node of theirs with these EIDs on eth0."""
    mappings = "".join(
        f"""
database-mapping {{
    eid-prefix = {eid}
    iid = 0
    ttl = 10
    rloc-iface {{
        interface = eth0
        ip_version = 4
        priority = 1
        weight = 100
    }}
}}
"""
        for eid in eids
    )
    return f"""
operating-mode = MN
encapsulation = LISP
nat_traversal_support = off
map-resolver = {{ {server} }}
map-server {{
    address = {server}
    key-type = 1
    key = {KEY}
    proxy-reply = off
}}
allowed-dst-eids = {{ 10.1.0.0/16 }}
{mappings}
"""


def our_node(directory: Path, algorithm: str) -> str:
    return f"""
eids: [10.1.0.1/32]
map-servers:
  - {{address: {SERVER}, key: {KEY}, algorithm: {algorithm}, proxy-reply: no}}
routing: {{overlay-prefixes: [10.1.0.0/16], fallback: drop}}
control: {{socket: {directory}/lispd.sock}}
state-dir: {directory}
"""


class Meeting:
    """The programs of one test, in their namespaces."""

    def __init__(self, lab: Lab, directory: Path) -> None:
        self.lab = lab
        self.directory = directory
        self.running: list[Daemon] = []

    def start(self, host: str, name: str, configuration: str, command: Callable[[str], list[str]]) -> None:
        path = self.directory / f"{name}.conf"
        path.touch(mode=0o600)
        path.write_text(configuration)
        self.running.append(Daemon(name, self.lab[host], command(str(path)), self.directory / f"{name}.log"))

    def stop(self, name: str) -> None:
        one = next(daemon for daemon in self.running if daemon.name == name)
        self.running.remove(one)
        one.stop()

    def log_of(self, name: str) -> str:
        return next(daemon for daemon in self.running if daemon.name == name).log_text()

    def start_theirs(self, host: str, name: str, configuration: str) -> None:
        self.start(host, name, configuration, lambda path: [OOR, "-f", path])

    def start_their_map_server(self, more: str = "") -> None:
        self.start_theirs("server", "their-map-server", THEIR_MAP_SERVER + more)

    def start_their_node(self) -> None:
        """Start it, and give it time to register: a request before that gets a negative answer, cached for a minute."""
        time.sleep(1)
        self.start_theirs("theirs", "their-node", their_node(SERVER, "10.1.0.2/32"))
        time.sleep(4)

    def reaches(self, host: str, source: str, destination: str) -> bool:
        """True as soon as one ping is answered; the node needs the first seconds to register."""
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            for daemon in self.running:
                daemon.check()
            ping = f"ping -n -c 1 -W 1 -I {source} {destination} >/dev/null && echo yes || echo no"
            if self.lab[host].run("sh", "-c", ping).strip() == "yes":
                return True
            time.sleep(0.3)
        return False

"""lispmob and Open Overlay Router, each with the other's Map-Server and as the other's correspondent.

Runs where its program is installed: `oor` on PATH, or its path in the environment variable OOR. Nothing else can stand
in for a real foreign implementation; what it sends is also in tests/captures.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator
from ipaddress import IPv4Network
from pathlib import Path

import pytest

from lispmob.lab.build import Lab
from lispmob.lab.process import Daemon, module
from lispmob.lab.topology import AccessNetwork, Host, Topology, Uplink

OOR = os.environ.get("OOR") or shutil.which("oor") or ""
KEY = "interop-key"

pytestmark = [
    pytest.mark.netns,
    pytest.mark.skipif(not OOR, reason="Open Overlay Router is not installed: put `oor` on PATH, or its path in OOR"),
]

TOPOLOGY = Topology(
    networks=(
        AccessNetwork("rack", IPv4Network("198.51.100.0/24")),
        AccessNetwork("home", IPv4Network("198.18.1.0/24")),
        AccessNetwork("office", IPv4Network("198.19.1.0/24")),
    ),
    hosts=(
        Host("server", (Uplink("eth0", "rack"),)),
        Host("ours", (Uplink("wlan0", "home"),)),
        Host("theirs", (Uplink("eth0", "office"),)),
    ),
)
SERVER = TOPOLOGY.address("server", "eth0")

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

THEIR_NODE = f"""
operating-mode = MN
encapsulation = LISP
nat_traversal_support = off
map-resolver = {{ {SERVER} }}
map-server {{
    address = {SERVER}
    key-type = 1
    key = {KEY}
    proxy-reply = off
}}
allowed-dst-eids = {{ 10.1.0.0/16 }}
database-mapping {{
    eid-prefix = 10.1.0.2/32
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

OUR_HUB = f"""
listen: [{SERVER}]
sites:
  - name: both
    eids: [10.1.0.0/16]
    key: {KEY}
    algorithms: [hmac-sha-1-96, hmac-sha-256-128]
    accept-more-specifics: yes
state-file: none
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

    def start_theirs(self, host: str, name: str, configuration: str) -> None:
        self.start(host, name, configuration, lambda path: [OOR, "-f", path])

    def start_their_map_server(self, more: str = "") -> None:
        self.start_theirs("server", "their-map-server", THEIR_MAP_SERVER + more)

    def start_their_node(self) -> None:
        """With time to register: who asks for it before that is told "nobody", and remembers it for a minute."""
        time.sleep(1)
        self.start_theirs("theirs", "their-node", THEIR_NODE)
        time.sleep(4)

    def reaches(self, host: str, source: str, destination: str) -> bool:
        """True as soon as one ping is answered; the first seconds go into registering."""
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            for each in self.running:
                each.check()
            ping = f"ping -n -c 1 -W 1 -I {source} {destination} >/dev/null && echo yes || echo no"
            if self.lab[host].run("sh", "-c", ping).strip() == "yes":
                return True
            time.sleep(0.3)
        return False


@pytest.fixture
def meeting(build_lab: Callable[[Topology], Lab], tmp_path: Path) -> Iterator[Meeting]:
    made = Meeting(build_lab(TOPOLOGY), tmp_path)
    yield made
    for each in reversed(made.running):
        each.stop()


def test_our_node_with_their_map_server_and_their_node(meeting: Meeting) -> None:
    meeting.start_their_map_server()
    meeting.start_their_node()
    meeting.start(
        "ours", "our-node", our_node(meeting.directory, "hmac-sha-1-96"), lambda path: module("lispmob", "-c", path)
    )

    assert meeting.reaches("ours", "10.1.0.1", "10.1.0.2")
    assert meeting.reaches("theirs", "10.1.0.2", "10.1.0.1")


def test_their_node_with_our_hub_and_our_node(meeting: Meeting) -> None:
    meeting.start("server", "our-hub", OUR_HUB, lambda path: module("lispmob.hub.service", "-c", path))
    meeting.start_their_node()
    meeting.start(
        "ours", "our-node", our_node(meeting.directory, "hmac-sha-256-128"), lambda path: module("lispmob", "-c", path)
    )

    assert meeting.reaches("ours", "10.1.0.1", "10.1.0.2")
    assert meeting.reaches("theirs", "10.1.0.2", "10.1.0.1")

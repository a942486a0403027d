"""The delegated database tree (RFC 8111) with Open Overlay Router: its root, our Map-Resolver, and the other way round.

Runs where its program is installed: `oor` on PATH, or its path in the environment variable OOR.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

import pytest

from lispmob.lab.build import Lab
from lispmob.lab.process import module
from lispmob.lab.topology import AccessNetwork, Host, Topology, Uplink
from tests.interop.open_overlay_router import KEY, NEEDS_IT, Meeting

pytestmark = NEEDS_IT

RACK = AccessNetwork("rack", IPv4Network("198.51.100.0/24"))
TOPOLOGY = Topology(
    networks=(RACK, AccessNetwork("home", IPv4Network("198.18.1.0/24"))),
    hosts=(
        *(Host(name, (Uplink("eth0", "rack"),)) for name in ("resolver", "root", "server")),
        Host("node", (Uplink("wlan0", "home"),)),
    ),
)
RESOLVER, ROOT, SERVER = (str(TOPOLOGY.address(name, "eth0")) for name in ("resolver", "root", "server"))
EID, NOBODY, HOLE = "10.65.0.1", "10.65.0.2", "10.9.0.1"

OUR_ROOT = f"""
sites: []
ddt: {{authoritative: [10.0.0.0/8], delegations: [{{eids: [10.65.0.0/16], map-servers: [{SERVER}]}}]}}
"""
OUR_SERVER = f"""
sites: [{{name: node, eids: [10.65.0.0/16], key: {KEY}, accept-more-specifics: yes}}]
ddt: {{authoritative: [10.65.0.0/16]}}
"""
OUR_RESOLVER = f"sites: []\nddt: {{roots: [{ROOT}]}}\n"
OUR_NODE = f"""
eids: [{EID}/32]
map-servers: [{{address: {SERVER}, key: {KEY}}}]
routing: {{overlay-prefixes: [10.0.0.0/8]}}
"""
THEIR_ROOT = f"""
operating-mode = DDT
control-iface = eth0
ddt-auth-site {{
    eid-prefix = 10.0.0.0/8
    iid = 0
}}
ddt-deleg-site {{
    eid-prefix = 10.65.0.0/16
    iid = 0
    delegation-type = MAP_SERVER_DDT_NODE
    deleg-nodes = {{ {SERVER} }}
}}
"""
THEIR_RESOLVER = f"""
operating-mode = DDT-MR
control-iface = eth0
ddt-root-addresses = {{ {ROOT} }}
"""


class Tree(Meeting):
    """A Map-Resolver, a root and a Map-Server on one network, and a node at home."""

    def start_hub(self, host: str, configuration: str) -> None:
        own = f"state-file: none\nlisten: [{TOPOLOGY.address(host, 'eth0')}]\n"
        own += f"control-socket: {self.directory}/{host}.sock\n"
        self.start(host, f"our-{host}", configuration + own, lambda path: module("lispmob.hub.daemon", "-c", path))

    def start_node(self) -> None:
        own = f"control: {{socket: {self.directory}/lispd.sock}}\nstate-dir: {self.directory}\n"
        self.start("node", "our-node", OUR_NODE + own, lambda path: module("lispmob", "-c", path))
        deadline = time.monotonic() + 20
        while f"registered eid={EID}/32 " not in self.log_of("our-server"):  # until then its answers are negative
            assert time.monotonic() < deadline, self.log_of("our-node")
            time.sleep(0.05)

    def lig(self, eid: str) -> list[dict[str, Any]]:
        """The records of the Map-Resolver's first answer in several attempts."""
        words = module("lispmob.tools.lig", "-m", RESOLVER, "--json", "-c", "2", "-t", "2", eid)
        deadline = time.monotonic() + 15
        while time.monotonic() < deadline:
            told = self.lab["node"].run("sh", "-c", f"{' '.join(words)} || true", timeout_s=20.0)
            answers = [lookup["answer"] for lookup in json.loads(told)["lookups"]]
            if any(answers):
                return [record for answer in answers if answer for record in answer["records"]]
            time.sleep(0.5)
        return []


@pytest.fixture
def tree(build_lab: Callable[[Topology], Lab], tmp_path: Path) -> Iterator[Tree]:
    made = Tree(build_lab(TOPOLOGY), tmp_path)
    made.start_hub("server", OUR_SERVER)
    made.start_node()
    yield made
    for program in reversed(made.running):
        program.stop()


def test_our_map_resolver_under_their_root(tree: Tree) -> None:
    tree.start_theirs("root", "their-root", THEIR_ROOT)
    tree.start_hub("resolver", OUR_RESOLVER)

    (found,) = tree.lig(EID)
    assert found["locators"]
    (nobody,) = tree.lig(NOBODY)
    assert not nobody["locators"]


def test_their_map_resolver_under_our_root(tree: Tree) -> None:
    tree.start_hub("root", OUR_ROOT)
    tree.start_theirs("resolver", "their-resolver", THEIR_RESOLVER)

    (found,) = tree.lig(EID)
    assert found["locators"]
    (hole,) = tree.lig(HOLE)
    assert not hole["locators"]

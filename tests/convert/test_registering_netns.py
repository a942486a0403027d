"""Two old files, of a mobile node and of its Map-Server, converted: our node registers with our hub."""

from __future__ import annotations

import subprocess
import sys
from ipaddress import ip_address
from pathlib import Path

import pytest

from lispmob.api.client import Client
from lispmob.lab.demo_service import Hub, Identity, Node
from lispmob.lab.real.world import World

pytestmark = pytest.mark.netns
NODE = Identity("a", ip_address("10.1.0.1"), ip_address("2001:db8:e::1"))
OF_NODE = """\
operating-mode = MN
encapsulation = LISP
nat_traversal_support = off
map-resolver = { 198.18.0.10 }
map-server { address = 198.18.0.10 key-type = 1 key = "an old key" proxy-reply = on }
database-mapping {
    eid-prefix = 10.1.0.1/32
    rloc-iface { interface = eth1 ip_version = 4 priority = 3 weight = 10 }
    rloc-iface { interface = eth0 ip_version = 4 priority = 2 weight = 40 }
}
database-mapping {
    eid-prefix = 2001:db8:e::1/128
    rloc-iface { interface = eth0 ip_version = 4 priority = 4 weight = 40 }
}
"""
OF_HUB = """\
operating-mode = MS
control-iface = eth0
lisp-site { eid-prefix = 10.1.0.1/32 key-type = 1 key = "an old key" }
lisp-site { eid-prefix = 2001:db8:e::1/128 key-type = 1 key = "an old key" }
"""


def converted(directory: Path, name: str, old: str) -> str:
    """The text that `lispctl config convert` has written; its key file is in the right directory."""
    directory.mkdir(mode=0o700)
    source = directory / "old.conf"
    source.write_text(old)
    command = [
        sys.executable,
        "-m",
        "lispmob.lispctl.main",
        "config",
        "convert",
        str(source),
        "-o",
        str(directory / name),
    ]
    subprocess.run(command, check=True, timeout=20)
    return (directory / name).read_text()


def test_a_mobile_node_of_old_registers_with_a_map_server_of_old(tmp_path: Path) -> None:
    hub_text = converted(tmp_path / "hub", "hub.conf", OF_HUB)
    node_text = converted(tmp_path / "a", "lispd.conf", OF_NODE)
    hub_text += f"state-file: {tmp_path}/hub/hub.sqlite\ncontrol-socket: {tmp_path}/hub/hub.sock\n"
    node_text += f"control: {{socket: {tmp_path}/a/lispd.sock, group: root}}\nstate-dir: {tmp_path}/a/state\ndbus: no\n"

    with World(tmp_path, tier="tun", label="o") as world:
        for place, address in enumerate(("198.51.100.2/24", "203.0.113.2/24", "192.0.2.2/25")):
            world.attach("a", f"eth{place}", [address], metric=100 + place)
        hub = Hub(world["hub"], hub_text, tmp_path / "hub")
        hub.wait_until_listening(10.0)
        node = world.nodes["a"] = Node(NODE, world["a"], node_text, tmp_path / "a")
        try:
            world.wait_registered("a")
            with Client(str(node.socket)) as client:
                database = client.call("database")
        finally:
            node.daemon.stop()
            hub.daemon.stop()

    ranks = {
        entry["prefix"]: {
            (locator["interface"], locator["priority"], locator["weight"]) for locator in entry["locators"]
        }
        for entry in database
    }
    assert ranks == {
        "10.1.0.1/32": {("eth1", 3, 10), ("eth0", 2, 40)},
        "2001:db8:e::1/128": {("eth1", 255, 0), ("eth0", 4, 40)},
    }

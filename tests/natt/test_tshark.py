"""Wireshark reads our own exchange without errors."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from lispmob.wire.ip_udp import build_ip_udp
from tests.internet.nat import NatBox
from tests.internet.network import World, ip
from tests.natt.world import EID, PEER, RTR, MapServerHost, NodeHost, RtrHost, locator
from tests.wire.pcap import write_pcap

pytestmark = [
    pytest.mark.tshark,
    pytest.mark.skipif(shutil.which("tshark") is None, reason="tshark is not installed"),
]


@pytest.mark.parametrize(("mode", "direct"), [("e19", False), ("e19", True), ("lispers", False)])
def test_no_frame_of_a_traversal_is_malformed(tmp_path: Path, mode: str, direct: bool) -> None:
    world = World()
    server, rtr = MapServerHost(world), RtrHost(world)
    nat = NatBox(world, "203.0.113.200")
    node = NodeHost(world, mode=mode, rtrs=(RTR,), direct=direct)
    node.attach((locator(), nat))
    peer = NodeHost(world, PEER, bytes(15) + b"p")
    peer.attach((locator("192.0.2.10"), world.internet))
    rtr.public[PEER.address] = ip("192.0.2.10")
    world.run(1.0)
    for _ in range(30):
        node.say(PEER, b"hello")
        peer.say(EID, b"hello")
        world.run(0.1)
    rtr.restart()  # data from unknown sources, and messages that open bindings
    node.say(PEER, b"who are you?")
    world.run(20.0)
    nat.renumber("203.0.113.201")
    world.run(60.0)
    assert (node.counted["tx_shortcut_probe"] > 0) == direct
    assert server.asked
    frames = [
        build_ip_udp(one.source, one.source_port, one.destination, one.destination_port, one.payload)
        for _, one in world.internet.carried
    ]
    write_pcap(tmp_path / "ours.pcap", frames)

    done = subprocess.run(
        ["tshark", "-r", str(tmp_path / "ours.pcap"), "-Y", "_ws.malformed", "-T", "fields", "-e", "frame.number"],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )

    assert len(frames) > 8
    assert done.stdout == ""

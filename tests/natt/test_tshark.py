"""Wireshark reads our own exchange without stumbling."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from lispmob.wire.ip_udp import build_ip_udp
from tests.natt.nat_box import NatBox, World
from tests.natt.world import PEER, RTR, MapServerHost, NodeHost, RtrHost, locator
from tests.wire.pcap import write_pcap

pytestmark = [
    pytest.mark.tshark,
    pytest.mark.skipif(shutil.which("tshark") is None, reason="tshark is not installed"),
]


@pytest.mark.parametrize("mode", ["e19", "lispers"])
def test_no_frame_of_a_traversal_is_malformed(tmp_path: Path, mode: str) -> None:
    world = World()
    MapServerHost(world), RtrHost(world)
    node = NodeHost(world, mode=mode, rtrs=(RTR,))
    node.attach((locator(), NatBox(world, "203.0.113.200")))
    world.run(1.0)
    node.say(PEER, b"hello")
    world.run(60.0)
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

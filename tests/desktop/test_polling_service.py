"""The running service where netlink cannot be bound."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from lispmob.lab.namespace import why_unavailable
from tests.desktop.desktop_world import desktop_world

pytestmark = [
    pytest.mark.netns,
    pytest.mark.skipif(why_unavailable() is not None, reason=why_unavailable() or ""),
]


def test_where_netlink_cannot_be_bound_it_polls_registers_and_moves(tmp_path: Path) -> None:
    with desktop_world(tmp_path) as world:
        world.attach(0)
        world.attach(1)
        desk, peer = world.start(None, program="tests.desktop.lispd_without_netlink_bind")
        desk.until_on("w0", "w1")
        stream = world.stream(desk, peer)

        world.desk.run("ip", "addr", "flush", "dev", "w0")
        desk.until_on("w1")
        world.attach(0)
        desk.until_on("w0", "w1")
        time.sleep(0.3)

        assert stream.finish().is_alive
        assert "netlink cannot be bound: polling every" in desk.log()

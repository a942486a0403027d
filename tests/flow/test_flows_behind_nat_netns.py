"""Flows to and from a node behind a NAT."""

from __future__ import annotations

from pathlib import Path

import pytest

from lispmob.lab.real.world import A, B, World
from tests.flow.flow_town import FLOWS, FlowTown

pytestmark = pytest.mark.netns


def test_flows_pass_a_nat_and_an_rtr(tmp_path: Path) -> None:
    with World(tmp_path, tier="tun", label="n") as world:
        world.home_router("home", "192.168.8.1/24", "198.51.100.2/24")
        world.behind("a", "eth0", "home", ["192.168.8.100/24"])
        world.start_hub()
        world.start_node(A, extra=FLOWS % ("a", ""))
        world.start_node(B, extra=FLOWS % ("b", ""))
        world.wait_registered()
        town = FlowTown(world)
        for name in ("a", "b"):
            world.wait((world.directory / name / "flow.sock").exists, "flows are served", 5)
        out = town.start("b", "listen", "echo", "--", "cat")
        back = town.start("a", "listen", "echo", "--", "cat")
        try:
            outward = town.run("a", "call", "echo@10.1.0.2", given="out")
            inward = town.run("b", "call", "echo@10.1.0.1", given="in")
            named = [town.run("a", "resolve", "echo.b").stdout, town.run("b", "resolve", "echo.a").stdout]
        finally:
            town.end(out)
            town.end(back)

    assert (outward.stdout, inward.stdout) == ("out", "in"), outward.stderr + inward.stderr
    assert [text.splitlines()[-1].partition(",")[0] for text in named] == [
        "= echo.b at 10.1.0.2", "= echo.a at 10.1.0.1",
    ]  # fmt: skip

"""Peers that return in other ways than in the demonstration, and packets that must never leave in clear."""

from __future__ import annotations

from pathlib import Path

import pytest

from lispmob.lab.process import module
from lispmob.lab.real import peers
from lispmob.lab.real.world import A, B, World

pytestmark = pytest.mark.netns


@pytest.mark.parametrize(
    ("tier", "version", "elsewhere"),
    [("tun", 4, ""), ("ebpf", 6, "192.0.2.140/25")],
    ids=["same place", "elsewhere, by IPv6 EIDs"],
)
def test_a_peer_that_was_killed_is_reached_within_two_seconds_of_its_return(
    tmp_path: Path, tier: str, version: int, elsewhere: str
) -> None:
    with World(tmp_path, tier=tier) as world:
        peers.two_in_the_open(world)

        gap = peers.gap_of_return(world, is_killed=True, elsewhere=elsewhere, version=version)

    assert gap.worst_s is not None
    assert gap.worst_s <= peers.CAME_BACK_GOAL_S


def test_with_lispd_stopped_the_overlay_is_refused_when_that_is_wanted_and_cleaned_up_on_request(
    tmp_path: Path,
) -> None:
    with World(tmp_path, tier="tun") as world:
        world.attach("a", "eth0", peers.A_ADDRESSES, metric=100)
        world.start_hub()
        node = world.start_node(A)
        world.wait_registered()
        text = (tmp_path / "a" / "lispd.conf").read_text()
        node.reconfigure(text.replace("  mode: split\n", "  mode: split\n  when-stopped: unreachable\n"))
        node.daemon.stop()
        with peers.leaks(world) as leaked:
            stopped = peers.refusals(world, (B.eid4, B.eid6))
            count = leaked()
            world["a"].run(*module("lispmob", "--clean-up"))
            peers.refusals(world, (B.eid4,), timeout_s=0.5)
            natively = leaked()

    assert all(refusal.is_refused for refusal in stopped), stopped
    assert count == 0
    assert natively > 0

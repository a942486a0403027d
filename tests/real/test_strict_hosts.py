"""Hosts whose own settings are strict or unusual: reverse path filters, next hops of the other family."""

from __future__ import annotations

from pathlib import Path

import pytest

from lispmob.lab.real.scenario import GAP_GOAL_S
from lispmob.lab.real.world import A, B, World

pytestmark = pytest.mark.netns

CLEAR = "security: {seal: off}\n"  # only clear packets take the ebpf tier


def test_a_move_succeeds_by_an_ipv6_router_for_ipv4_and_under_a_strict_reverse_path_filter(tmp_path: Path) -> None:
    """The first uplink's router has no IPv4 address (RFC 8950). The second is not the way back, even after the move."""
    with World(tmp_path, tier="ebpf") as world:
        world.cable(("a", "eth1"), ("inet", "a.eth1"), near_addresses=["198.51.100.2/32"], far_addresses=["fe80::1/64"])
        world.ip("inet", "route add 198.51.100.2/32 dev a.eth1")
        world.ip("a", "nexthop add id 7 via fe80::1 dev eth1", "route add 0.0.0.0/0 nhid 7 metric 100")
        world.attach("a", "eth2", ["203.0.113.2/24"], metric=200)
        for name in ("all", "eth1", "eth2"):
            world["a"].sysctl(f"ipv4/conf/{name}/rp_filter", "1")
        world.start_hub()
        node = world.start_node(A, extra=CLEAR)
        world.start_node(B, extra=CLEAR)
        world.wait_registered()

        # The kernel keeps the default route of an interface without carrier, and takes it for the way back.
        gap = world.gap(lambda: world.ip("inet", "link set a.eth1 down"), watch_s=2.5, warm_s=1.5)
        counters = (node.lispctl("counters") or {})["datapath"]

    assert gap.worst_s is not None
    assert gap.worst_s <= GAP_GOAL_S
    assert counters["kernel_out_packets"] > 0

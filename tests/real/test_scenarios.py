"""Networks as users have them: every scenario of the demonstration reaches its goal, in both tiers."""

from __future__ import annotations

from pathlib import Path

import pytest

from lispmob.lab.real.catalogue import SCENARIOS, by_name
from lispmob.lab.real.world import World


@pytest.mark.netns
@pytest.mark.parametrize("tier", ["tun", "ebpf"])
@pytest.mark.parametrize("name", [scenario.name for scenario in SCENARIOS])
def test_a_node_works_in_a_network_of_real_life(name: str, tier: str, tmp_path: Path) -> None:
    with World(tmp_path, tier=tier) as world:
        check = by_name(name).run(world)

    assert check.ok, f"{check.name}: {check.value} {check.unit}, goal {check.goal}"

"""Our nodes and our hub with a node that no kernel helps: real traffic, both ways, in both tiers, through what happens.

Runs everywhere. The peers that others wrote get the same traffic in the files beside it, where they are installed.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lispmob.datapath import tier as tiers
from lispmob.lab.process import Daemon, module
from tests.interop.cables import HUB, QUESTIONS, THEIRS, Cables, cables
from tests.interop.foreign_node import Plan

pytestmark = pytest.mark.netns

TIERS = ["tun", pytest.param("ebpf", marks=pytest.mark.skipif(not tiers.OBJECT.exists(), reason="built without clang"))]
OUR_EIDS = ("10.1.0.1/32", "2001:db8:e1d::1/128")
THEIR_EIDS = ("10.1.0.2/32", "2001:db8:e1d::2/128")
PAIRS = [("10.1.0.1", "10.1.0.2"), ("2001:db8:e1d::1", "2001:db8:e1d::2")]
BEARABLE_MBIT_S = 10.0  # what the peer's interpreter manages many times over; a broken way is below 1


@pytest.fixture
def wired(tmp_path: Path) -> Iterator[Cables]:
    with cables(tmp_path) as made:
        yield made


def start_theirs(wired: Cables, eids: tuple[str, ...] = THEIR_EIDS) -> Daemon:
    plan = Plan(
        str(THEIRS),
        eids,
        ("10.1.0.0/16", "2001:db8:e1d::/48", "240.1.0.0/16"),
        str(HUB),
        "interop-key",
        str(wired.directory / "theirs.json"),
    )
    return wired.start("theirs", "theirs", module("tests.interop.foreign_node", plan.argument()))


def what_they_saw(wired: Cables) -> dict[str, int]:
    time.sleep(0.3)
    seen: dict[str, int] = json.loads((wired.directory / "theirs.json").read_text())
    return seen


def assert_whole(wired: Cables) -> None:
    """Nothing of what arrived had to be mended, or cut up."""
    seen = what_they_saw(wired)
    wrong = {name: count for name, count in seen.items() if name.startswith(("inner_", "outer_", "undivided"))}
    assert seen["delivered"] > 0
    assert wrong == {}


@pytest.mark.parametrize("tier", TIERS)
def test_traffic_of_all_kinds_passes_both_ways_and_leaves_us_whole(wired: Cables, tier: str) -> None:
    wired.start_hub()
    start_theirs(wired)
    wired.start_ours(tier, OUR_EIDS)

    for ours, theirs in PAIRS:
        with wired.answering("theirs", theirs), wired.answering("ours", ours):
            wired.wait_until_reached("ours", ours, theirs)
            wired.wait_until_reached("theirs", theirs, ours)
            assert wired.answered("ours", ours, theirs) == QUESTIONS
            assert wired.answered("theirs", theirs, ours) == QUESTIONS
        assert wired.mbit_s("ours", "theirs", theirs, ours) > BEARABLE_MBIT_S
        assert wired.mbit_s("theirs", "ours", ours, theirs) > BEARABLE_MBIT_S
    assert_whole(wired)
    assert wired.lispctl("ours", "counters")["datapath"].get("peer_proven", 0) == 0

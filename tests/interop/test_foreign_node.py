"""Our nodes and our hub with a node without help from its kernel: real traffic, both ways, both tiers, with failures.

Runs everywhere. Foreign implementations get the same traffic in the other files here, where they are installed.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lispmob.datapath import tier as tiers
from lispmob.lab import link
from lispmob.lab.process import Daemon, module
from tests.interop.cables import HUB, OURS, RTRS, THEIRS, Cables, cables
from tests.interop.foreign_node import Plan
from tests.interop.traffic import QUESTIONS

pytestmark = pytest.mark.netns

TIERS = ["tun", pytest.param("ebpf", marks=pytest.mark.skipif(not tiers.OBJECT.exists(), reason="built without clang"))]
OUR_EIDS = ("10.1.0.1/32", "2001:db8:e1d::1/128")
THEIR_EIDS = ("10.1.0.2/32", "2001:db8:e1d::2/128")
PAIRS = [("10.1.0.1", "10.1.0.2"), ("2001:db8:e1d::1", "2001:db8:e1d::2")]
WRONG = ("inner_", "outer_", "undivided", "keys")
BEARABLE_MBIT_S = 10.0  # far below what the peer's interpreter reaches; a broken path stays below 1


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
    """Nothing that arrived needed completion, or was a run, and no message held a key."""
    seen = what_they_saw(wired)
    wrong = {name: count for name, count in seen.items() if count and name.startswith(WRONG)}
    assert seen["delivered"] > 0
    assert wrong == {}


@pytest.mark.parametrize("tier", TIERS)
def test_traffic_of_all_kinds_passes_both_ways_and_leaves_us_whole(wired: Cables, tier: str) -> None:
    wired.start_hub()
    start_theirs(wired)
    wired.start_ours(tier, OUR_EIDS)
    wired.wait_until_registered(*OUR_EIDS, *THEIR_EIDS)

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


@pytest.mark.parametrize("tier", TIERS)
@pytest.mark.parametrize("kind", ["address", "route", "link"])
def test_a_tcp_stream_to_them_lives_when_we_lose_an_uplink_and_get_it_back(
    wired: Cables, tier: str, kind: str, record_property: Callable[[str, object], None]
) -> None:
    ours, theirs = PAIRS[0]
    wired.start_hub()
    start_theirs(wired)
    wired.start_ours(tier, OUR_EIDS[:1])
    wired.wait_until_registered(OUR_EIDS[0], THEIR_EIDS[0])
    with wired.answering("theirs", theirs):
        wired.wait_until_reached("ours", ours, theirs)

    result = wired.stream_through_a_loss(kind, ours, theirs)
    record_property("longest gap s", result.longest_tcp_gap_s)

    assert result.is_alive
    assert result.longest_tcp_gap_s < 1.5  # a packet that waits in the kernel waits for three seconds
    assert_whole(wired)


def test_what_our_rtr_passes_on_to_them_is_whole(wired: Cables) -> None:
    ours, theirs = PAIRS[0]
    wired.router.run("iptables", "-t", "nat", "-A", "POSTROUTING", "-s", f"{OURS}", "-j", "MASQUERADE")
    link.apply(wired["ours"], ["link set eth1 down"])
    wired.start_hub("rtr: {enabled: yes}\nproxy: {enabled: yes}")
    start_theirs(wired)
    wired.start_ours("auto", OUR_EIDS[:1])
    wired.wait_until_registered(OUR_EIDS[0], THEIR_EIDS[0])

    with wired.answering("theirs", theirs), wired.answering("ours", ours):
        wired.wait_until_reached("ours", ours, theirs)
        wired.wait_until_reached("theirs", theirs, ours)
        assert wired.answered("ours", ours, theirs) == QUESTIONS
        assert wired.answered("theirs", theirs, ours) == QUESTIONS
    assert wired.mbit_s("ours", "theirs", theirs, ours) > BEARABLE_MBIT_S
    assert_whole(wired)

    def is_reached_both_ways(patience_s: float) -> None:
        with wired.answering("theirs", theirs), wired.answering("ours", ours):
            wired.wait_until_reached("ours", ours, theirs, patience_s)
            wired.wait_until_reached("theirs", theirs, ours, patience_s)

    wired.router.run("conntrack", "-F")  # the NAT forgets its bindings
    is_reached_both_ways(10.0)
    link.apply(wired.router, ["addr add 198.19.1.2/32 dev lo"])
    wired.router.run("iptables", "-t", "nat", "-I", "POSTROUTING", "-s", f"{OURS}", "-j", "SNAT", "--to", "198.19.1.2")
    wired.router.run("conntrack", "-F")  # and is replaced by another one, with another address
    is_reached_both_ways(15.0)
    assert wired.running.pop("hub").stop() == 0  # Map-Server and RTR start again
    wired.start_hub("rtr: {enabled: yes}\nproxy: {enabled: yes}")
    is_reached_both_ways(30.0)
    assert_whole(wired)


def test_an_rtr_of_its_own_loses_no_first_packet_of_theirs_and_comes_back_as_its_map_server_does(
    wired: Cables, record_property: Callable[[str, object], None]
) -> None:
    ours, theirs = PAIRS[0]
    wired.router.run("iptables", "-t", "nat", "-A", "POSTROUTING", "-s", f"{OURS}", "-j", "MASQUERADE")
    link.apply(wired["ours"], ["link set eth1 down"])
    wired.start_hub(RTRS)
    wired.start_rtr()
    wired.start_ours("auto", OUR_EIDS[:1])
    wired.wait_until_told("rtr", f"relay eid={OUR_EIDS[0]} places=")
    start_theirs(wired)
    wired.wait_until_registered(THEIR_EIDS[0])

    def is_reached_both_ways(patience_s: float) -> None:
        with wired.answering("theirs", theirs), wired.answering("ours", ours):
            wired.wait_until_reached("ours", ours, theirs, patience_s)
            wired.wait_until_reached("theirs", theirs, ours, patience_s)

    with wired.answering("ours", ours):
        first = wired.answered("theirs", theirs, ours)
    record_property("of the first 20 answered", first)
    assert first >= QUESTIONS - 1  # they drop packets that wait for a mapping
    is_reached_both_ways(10.0)
    assert wired.running.pop("hub").stop() == 0
    wired.start_hub(RTRS)
    is_reached_both_ways(30.0)
    assert wired.running.pop("rtr").stop() == 0
    wired.start_rtr()
    is_reached_both_ways(30.0)
    assert_whole(wired)


def test_two_of_ours_prove_themselves_and_keep_runs_and_partial_checksums_for_each_other(wired: Cables) -> None:
    wired.start_hub()
    start_theirs(wired)
    wired.start_ours("auto", ("10.1.0.1/32",))
    wired.start_ours("auto", ("10.1.0.3/32",), host="other")
    wired.wait_until_registered("10.1.0.1/32", "10.1.0.2/32", "10.1.0.3/32")

    with wired.answering("other", "10.1.0.3"), wired.answering("theirs", "10.1.0.2"):
        wired.wait_until_reached("ours", "10.1.0.1", "10.1.0.3")
        wired.wait_until_reached("ours", "10.1.0.1", "10.1.0.2")
    before = wired.lispctl("ours", "counters")["datapath"]["out_packets"]
    wired.mbit_s("ours", "other", "10.1.0.3", "10.1.0.1")
    wired.mbit_s("ours", "theirs", "10.1.0.2", "10.1.0.1")

    seen = wired.lispctl("ours", "counters")["datapath"]
    assert seen["peer_proven"] == 1
    assert seen["out_packets"] > before
    assert_whole(wired)


def test_two_of_ours_seal_to_each_other_and_talk_in_clear_to_them(wired: Cables) -> None:
    wired.start_hub()
    start_theirs(wired)
    wired.start_ours("auto", ("10.1.0.1/32",))
    wired.start_ours("auto", ("10.1.0.3/32",), host="other")
    wired.wait_until_registered("10.1.0.1/32", "10.1.0.2/32", "10.1.0.3/32")

    for host, own in (("ours", "10.1.0.1"), ("other", "10.1.0.3")):
        with wired.answering("theirs", "10.1.0.2"), wired.answering(host, own):
            wired.wait_until_reached(host, own, "10.1.0.2")
            wired.wait_until_reached("theirs", "10.1.0.2", own)
            assert wired.answered(host, own, "10.1.0.2") == QUESTIONS
            assert wired.answered("theirs", "10.1.0.2", own) == QUESTIONS
    with wired.answering("other", "10.1.0.3"):
        wired.wait_until_reached("ours", "10.1.0.1", "10.1.0.3")
        deadline = time.monotonic() + 15.0
        while wired.sealed_peers("ours") == 0 and time.monotonic() < deadline:
            wired.answered("ours", "10.1.0.1", "10.1.0.3", count=1)

    assert wired.sealed_peers("ours") == 1
    assert_whole(wired)


def test_an_eid_of_the_reserved_class_works_both_ways(wired: Cables) -> None:
    wired.start_hub()
    start_theirs(wired, ("240.1.0.2/32",))
    wired.start_ours("auto", ("240.1.0.1/32",))
    wired.wait_until_registered("240.1.0.1/32", "240.1.0.2/32")

    with wired.answering("theirs", "240.1.0.2"), wired.answering("ours", "240.1.0.1"):
        wired.wait_until_reached("ours", "240.1.0.1", "240.1.0.2")
        wired.wait_until_reached("theirs", "240.1.0.2", "240.1.0.1")
        assert wired.answered("ours", "240.1.0.1", "240.1.0.2") == QUESTIONS
        assert wired.answered("theirs", "240.1.0.2", "240.1.0.1") == QUESTIONS

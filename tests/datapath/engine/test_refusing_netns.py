"""Entries that refuse: which errors their senders get, and that data from such an EID is reported, in each tier."""

from __future__ import annotations

import time
from typing import Any

import pytest

from tests.datapath.ebpf.test_tiers_netns import open_udp, settle
from tests.datapath.netlab import EID_A4, EID_A6, EID_B4, EID_B6, Lab, install_both, lab

pytestmark = pytest.mark.netns

EIDS = {4: (EID_A4, EID_B4), 6: (EID_A6, EID_B6)}


def told(both: Lab) -> list[Any]:
    return [word for word in both.a("drain") if word.startswith("Refuted")]


def refuse(both: Lab, eid: str, disposition: str) -> None:
    """Set the disposition of a's entry for an EID of b."""
    rlocs = [both.links[0].rloc("b", 4)] if disposition == "DOUBT" else []
    both.a("install", prefix=f"{eid}/{32 if '.' in eid else 128}", locators=rlocs, disposition=disposition)


@pytest.mark.parametrize("family", [4, 6])
def test_in_doubt_packets_go_on_and_their_sender_gets_an_icmp_error_each_time(family: int) -> None:
    with lab() as both:
        install_both(both, 4)
        own, peer = open_udp(both, family)
        settle(both)
        both.a("udp_send", name="x", to=peer, port=5000, count=3)
        before = both.a("counters").get("icmp_sent", 0)
        refuse(both, peer, "DOUBT")

        both.a("udp_send", name="x", to=peer, port=5000, first=3, count=3, pause_s=0.05)

        assert (own, peer) == EIDS[family]
        numbers = [number for number, _ in both.b("udp_received", name="x", count=6)]
        assert sorted(number for number in numbers if number >= 3) == [3, 4, 5]
        assert both.a("counters")["icmp_sent"] - before == 3


@pytest.mark.parametrize("disposition", ["DROP", "NATIVE", "PROHIBIT", "DOUBT"])
def test_data_from_an_eid_that_is_refused_is_told_of_once_a_second_and_arrives(disposition: str) -> None:
    with lab() as both:
        install_both(both, 4)
        own, peer = open_udp(both)
        settle(both)
        both.b("udp_send", name="x", to=own, port=5000, count=2)
        unrefused = told(both)
        refuse(both, peer, disposition)
        both.b("udp_send", name="x", to=own, port=5000, first=2, count=10, pause_s=0.01)
        time.sleep(0.1)
        once = told(both)
        time.sleep(1.1)
        both.b("udp_send", name="x", to=own, port=5000, first=12, count=3, pause_s=0.01)
        time.sleep(0.1)

        report = f"Refuted(source=IPv4Address('{EID_B4}'), instance_id=0)"
        assert unrefused == []
        assert once == told(both) == [report]
        assert len(both.a("udp_received", name="x", count=15)) == 15


def test_once_it_has_a_way_again_nothing_is_told() -> None:
    with lab() as both:
        install_both(both, 4)
        own, peer = open_udp(both)
        refuse(both, peer, "DROP")
        both.b("udp_send", name="x", to=own, port=5000, count=2)
        time.sleep(0.1)
        refused = told(both)
        install_both(both, 4)
        time.sleep(1.1)

        both.b("udp_send", name="x", to=own, port=5000, first=2, count=3)
        time.sleep(0.1)

        assert len(refused) == 1
        assert told(both) == []

"""A mark chooses the uplink, from the next packet on; an unknown mark follows the policy, and is counted."""

from __future__ import annotations

import time

import pytest

from tests.datapath.netlab import EID_A4, EID_B4, Lab, lab

pytestmark = pytest.mark.netns


PEER = "198.51.100.9"  # reachable by either link


def prepare(both: Lab, *, drops_unusable: bool = False) -> list[int]:
    """Install lanes; returns the marks of a's two uplinks."""
    both.b.ip(f"addr add {PEER}/32 dev lo")
    for metric, link in enumerate(both.links, start=1):
        both.a.ip(f"route add {PEER} via {link.rloc('b', 4)} dev {link.name} metric {metric}")
    both.a("install", prefix=f"{EID_B4}/32", locators=[PEER])
    both.a("udp_open", name="x", address=EID_A4, port=5000)
    both.b("udp_open", name="x", address=EID_B4, port=5000)
    marks: list[int] = both.a("lanes", names=[link.name for link in both.links], drops_unusable=drops_unusable)
    return marks


def outer_sources(both: Lab) -> list[str]:
    """The locators of a from which one packet arrives at b."""
    both.a("udp_send", name="x", to=EID_B4, port=5000)
    time.sleep(0.05)
    heard: list[str] = both.b("heard")
    return heard


def test_a_mark_takes_effect_with_the_next_packet_and_ceases_with_the_next() -> None:
    with lab(links=2, mark_mask=0xFFFF) as both:
        first, second = prepare(both)
        sources = {mark: [link.rloc("a", 4)] for mark, link in zip((first, second), both.links, strict=True)}
        default = outer_sources(both)

        for mark in (first, second, 0, second, 0, first):
            both.a("udp_mark", name="x", mark=mark)
            assert outer_sources(both) == sources.get(mark, default)

        assert "out_mark_fallback" not in both.a("counters")


def test_a_mark_without_an_uplink_goes_the_default_way_and_is_counted() -> None:
    with lab(links=2, mark_mask=0xFFFF) as both:
        prepare(both)
        without = outer_sources(both)

        both.a("udp_mark", name="x", mark=4000)

        assert outer_sources(both) == without
        assert both.a("counters")["out_mark_fallback"] == 1


def test_a_mark_without_an_uplink_is_dropped_where_the_policy_says_so() -> None:
    with lab(links=2, mark_mask=0xFFFF) as both:
        _, second = prepare(both, drops_unusable=True)

        both.a("udp_mark", name="x", mark=4000)
        lost = outer_sources(both)
        both.a("uplinks", uplinks=[both.links[0].uplink("a")])
        both.a("udp_mark", name="x", mark=second)
        lost += outer_sources(both)

        assert lost == []
        assert both.a("counters")["out_mark_drop"] == 2


def test_a_packet_that_waits_for_its_mapping_keeps_its_mark() -> None:
    with lab(links=2, mark_mask=0xFFFF) as both:
        marks = prepare(both)
        both.a("remove", prefix=f"{EID_B4}/32")
        both.a("udp_mark", name="x", mark=marks[1])
        both.a("udp_send", name="x", to=EID_B4, port=5000)
        time.sleep(0.05)

        both.a("install", prefix=f"{EID_B4}/32", locators=[PEER])
        time.sleep(0.05)

        assert both.b("heard") == [both.links[1].rloc("a", 4)]


def test_asking_tells_where_a_packet_would_go_and_neither_sends_nor_counts_anything() -> None:
    with lab(links=2, mark_mask=0xFFFF) as both:
        _, second = prepare(both)
        flow = {"source": EID_A4, "destination": EID_B4, "ports": [5000, 5000]}
        before, _ = both.a("counters"), both.a("used")

        asked = [both.a("ask", **flow), both.a("ask", **flow, lane=second), both.a("ask", **flow, lane=-1)]
        others = [
            both.a("ask", **flow | {"destination": "10.99.0.1"}),
            both.a("ask", **flow | {"source": "192.0.2.1"}),
            both.a("ask", **flow | {"destination": "224.0.0.1"}),
        ]
        untouched = (both.a("counters"), both.a("used"), both.a("drain"), both.b("heard"))
        (real,) = outer_sources(both)
        both.a("lanes", names=[link.name for link in both.links], drops_unusable=True)
        unusable = both.a("ask", **flow, lane=-1)

        assert asked == [["SENT", real, PEER], ["SENT", both.links[1].rloc("a", 4), PEER], ["SENT", real, PEER]]
        assert [verdict for verdict, *_ in others] == ["MISS", "SOURCE", "NOT_LISP"]
        assert untouched == (before, [], [], [])
        assert unusable[0] == "MARK"

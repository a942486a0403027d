"""The datapath tells of a locator that stops answering, once, and only when that means something."""

from __future__ import annotations

import time

import pytest

from tests.datapath.netlab import EID_A4, EID_B4, Lab, install_both, lab

pytestmark = pytest.mark.netns


def talk(both: Lab, count: int = 1) -> None:
    """A packet from each side to the other."""
    both.b("udp_send", name="x", to=EID_A4, port=5000, count=count)
    both.a("udp_send", name="x", to=EID_B4, port=5000, count=count)
    time.sleep(0.05)


def test_data_without_an_answer_is_told_of_once() -> None:
    with lab() as both:
        install_both(both, 4)
        peer = both.links[0].rloc("b", 4)
        both.a("udp_open", name="x", address=EID_A4, port=5000)
        both.b("udp_open", name="x", address=EID_B4, port=5000)
        both.a("patience", locator=peer, seconds=0.2)
        talk(both)
        both.b("udp_send", name="x", to=EID_A4, port=5000)
        time.sleep(0.05)

        for _ in range(8):
            both.a("udp_send", name="x", to=EID_B4, port=5000)
            time.sleep(0.05)
        told = both.a("drain")
        both.b("udp_send", name="x", to=EID_A4, port=5000)
        time.sleep(0.05)
        for _ in range(3):
            both.a("udp_send", name="x", to=EID_B4, port=5000)
            time.sleep(0.05)

        assert [word for word in told if word.startswith("Silent")] == [f"Silent(locator=IPv4Address('{peer}'))"]
        assert not [word for word in both.a("drain") if word.startswith("Silent")]


def test_a_conversation_that_was_always_one_sided_is_no_silence() -> None:
    with lab() as both:
        install_both(both, 4)
        both.a("udp_open", name="x", address=EID_A4, port=5000)
        both.a("patience", locator=both.links[0].rloc("b", 4), seconds=0.05)

        for _ in range(5):
            both.a("udp_send", name="x", to=EID_B4, port=5000)
            time.sleep(0.05)

        assert both.a("drain") == []

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


def silences(told: list[str]) -> list[str]:
    return [word for word in told if word.startswith(("Silent", "Heard"))]


def test_data_that_stops_being_answered_is_told_of_once_and_so_is_its_return() -> None:
    with lab() as both:
        install_both(both, 4)
        ours, peer = (both.links[0].rloc(side, 4) for side in "ab")
        both.a("udp_open", name="x", address=EID_A4, port=5000)
        both.b("udp_open", name="x", address=EID_B4, port=5000)
        both.a("patience", locator=peer, seconds=0.2, one_sided=5.0)
        talk(both)
        both.b("udp_send", name="x", to=EID_A4, port=5000)
        time.sleep(0.05)

        for _ in range(8):
            both.a("udp_send", name="x", to=EID_B4, port=5000)
            time.sleep(0.05)
        told = both.a("drain")
        both.b("udp_send", name="x", to=EID_A4, port=5000)
        time.sleep(0.05)
        back = both.a("drain")
        for _ in range(3):
            both.a("udp_send", name="x", to=EID_B4, port=5000)
            time.sleep(0.05)

        assert silences(told) == [f"Silent(locator=IPv4Address('{peer}'), is_flowing=True)"]
        assert silences(back) == [f"HeardAgain(locator=IPv4Address('{peer}'), local=IPv4Address('{ours}'))"]
        assert silences(both.a("drain")) == []


def test_a_sender_that_waits_is_told_of_by_the_clock() -> None:
    with lab() as both:
        install_both(both, 4)
        both.a("udp_open", name="x", address=EID_A4, port=5000)
        both.b("udp_open", name="x", address=EID_B4, port=5000)
        both.a("patience", locator=both.links[0].rloc("b", 4), seconds=0.2)
        talk(both)
        both.b("udp_send", name="x", to=EID_A4, port=5000)
        time.sleep(0.05)

        both.a("udp_send", name="x", to=EID_B4, port=5000, sizes=[1200])
        time.sleep(0.1)
        too_soon = silences(both.a("drain"))
        time.sleep(0.2)

        assert too_soon == []
        assert len(silences(both.a("drain"))) == 1


def test_a_conversation_that_was_always_one_sided_has_another_patience() -> None:
    with lab() as both:
        install_both(both, 4)
        both.a("udp_open", name="x", address=EID_A4, port=5000)
        both.b("udp_open", name="x", address=EID_B4, port=5000)  # or the host would answer with ICMP
        both.a("patience", locator=both.links[0].rloc("b", 4), seconds=0.05, one_sided=0.4)

        for _ in range(6):
            both.a("udp_send", name="x", to=EID_B4, port=5000)
            time.sleep(0.05)
        early = both.a("drain")
        for _ in range(4):
            both.a("udp_send", name="x", to=EID_B4, port=5000)
            time.sleep(0.05)

        assert early == []
        assert [word.rpartition(" ")[2] for word in both.a("drain")] == ["is_flowing=False)"]

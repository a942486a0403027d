"""The datapath reports a locator that stops answering, once, and only when its silence means something."""

from __future__ import annotations

import time

import pytest

from tests.datapath.netlab import EID_A4, EID_B4, Lab, install_both, lab, open_sockets

pytestmark = pytest.mark.netns


def talk(both: Lab, count: int = 1) -> None:
    """Send packets from each side to the other."""
    both.b("udp_send", name="x", to=EID_A4, port=5000, count=count)
    both.a("udp_send", name="x", to=EID_B4, port=5000, count=count)
    time.sleep(0.05)


def send_unanswered(both: Lab, count: int) -> None:
    """Send packets from a, with a pause after each."""
    for _ in range(count):
        both.a("udp_send", name="x", to=EID_B4, port=5000)
        time.sleep(0.05)


def install_crosswise(both: Lab, *, to_b: int, to_a: int, patience_s: float) -> tuple[str, str, str, str]:
    """Let each side prefer a locator of another family; returns the locators of a and b, IPv4 before IPv6."""
    (a4, a6), (b4, b6) = ([both.links[0].rloc(side, family) for family in (4, 6)] for side in "ab")
    both.a("install", prefix=f"{EID_B4}/32", locators=[b4, b6] if to_b == 4 else [b6, b4])
    both.b("install", prefix=f"{EID_A4}/32", locators=[a4, a6] if to_a == 4 else [a6, a4])
    open_sockets(both)
    for locator in (b4, b6):
        both.a("patience", locator=locator, seconds=patience_s, one_sided=30.0, head=b4)
    return a4, a6, b4, b6


def silences(told: list[str]) -> list[str]:
    return [word for word in told if word.startswith(("Silent", "Heard"))]


def test_data_that_stops_being_answered_is_told_of_once_and_so_is_its_return() -> None:
    with lab() as both:
        install_both(both, 4)
        ours, peer = (both.links[0].rloc(side, 4) for side in "ab")
        open_sockets(both)
        both.a("patience", locator=peer, seconds=0.2, one_sided=5.0)
        talk(both)
        both.b("udp_send", name="x", to=EID_A4, port=5000)
        time.sleep(0.05)

        send_unanswered(both, 8)
        told = both.a("drain")
        both.b("udp_send", name="x", to=EID_A4, port=5000)
        time.sleep(0.05)
        back = both.a("drain")
        send_unanswered(both, 3)

        assert silences(told) == [f"Silent(locator=IPv4Address('{peer}'), is_flowing=True, is_alone=False)"]
        assert silences(back) == [f"HeardAgain(locator=IPv4Address('{peer}'), local=IPv4Address('{ours}'))"]
        assert silences(both.a("drain")) == []


def test_a_sender_that_waits_is_told_of_by_the_clock() -> None:
    with lab() as both:
        install_both(both, 4)
        open_sockets(both)
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
        open_sockets(both)  # or the host would answer with ICMP
        both.a("patience", locator=both.links[0].rloc("b", 4), seconds=0.05, one_sided=0.4)

        send_unanswered(both, 6)
        early = both.a("drain")
        send_unanswered(both, 4)

        assert early == []
        assert [word.partition("is_flowing=")[2] for word in both.a("drain")] == ["False, is_alone=False)"]


def test_a_peer_that_answers_from_its_other_locator_is_told_of_as_quickly_when_it_falls_silent() -> None:
    with lab() as both:
        _, a6, b4, b6 = install_crosswise(both, to_b=4, to_a=6, patience_s=0.3)
        for _ in range(10):
            talk(both)
        while_flowing = silences(both.a("drain"))

        send_unanswered(both, 10)
        told = silences(both.a("drain"))
        both.b("udp_send", name="x", to=EID_A4, port=5000)
        time.sleep(0.05)

        assert while_flowing == []
        assert told == [f"Silent(locator=IPv4Address('{b4}'), is_flowing=True, is_alone=False)"]
        assert silences(both.a("drain")) == [f"HeardAgain(locator=IPv6Address('{b6}'), local=IPv6Address('{a6}'))"]


def test_a_sender_that_waits_is_told_of_by_the_clock_though_its_peer_answers_from_its_other_locator() -> None:
    with lab() as both:
        *_, b6 = install_crosswise(both, to_b=6, to_a=4, patience_s=0.2)
        for _ in range(5):
            talk(both)

        both.a("udp_send", name="x", to=EID_B4, port=5000, sizes=[1200])
        time.sleep(0.1)
        too_soon = silences(both.a("drain"))
        time.sleep(0.2)

        assert too_soon == []
        assert silences(both.a("drain")) == [f"Silent(locator=IPv6Address('{b6}'), is_flowing=True, is_alone=False)"]


def test_one_locator_of_a_peer_that_falls_silent_while_the_others_answer_is_told_of() -> None:
    with lab() as both:
        b4, b6 = (both.links[0].rloc("b", family) for family in (4, 6))
        install_both(both, 4)
        both.a("install", prefix=f"{EID_B4}/32", locators=[b4, b6])
        open_sockets(both)
        for locator in (b4, b6):
            both.a("patience", locator=locator, seconds=0.3, one_sided=30.0, head=b4)
        for _ in range(5):
            talk(both)
        both.b("install", prefix=f"{EID_A4}/32", locators=[both.links[0].rloc("a", 6)])
        for _ in range(10):
            talk(both)

        assert silences(both.a("drain")) == [f"Silent(locator=IPv4Address('{b4}'), is_flowing=True, is_alone=True)"]


@pytest.mark.parametrize("is_answered", [True, False])
@pytest.mark.parametrize("has_group", [True, False])
def test_packets_take_the_short_way_while_silence_is_watched_for(
    is_answered: bool, has_group: bool, in_tier: str
) -> None:
    if in_tier == "tun":
        pytest.skip("it has no shorter way")
    with lab() as both:
        install_both(both, 4)
        open_sockets(both)
        peer = both.links[0].rloc("b", 4)
        both.a("patience", locator=peer, seconds=0.2, one_sided=60.0, head=peer if has_group else None)
        talk(both)

        for _ in range(100):
            both.a("udp_send", name="x", to=EID_B4, port=5000, sizes=[500])
            if is_answered:
                both.b("udp_send", name="x", to=EID_A4, port=5000)
            time.sleep(0.003)

        counters = both.a("counters")
        assert counters["out_packets"] == 101
        assert counters["kernel_out_packets"] > 95

"""Echo-nonce on the link: the asked node answers in its data, and the answer is reported once."""

from __future__ import annotations

import time

import pytest

from lispmob.wire.data_header import DataHeader
from tests.datapath.ebpf.test_tiers_netns import open_udp, settle
from tests.datapath.engine.test_acceptance_netns import GOOD
from tests.datapath.liveness.test_status_netns import headers
from tests.datapath.netlab import EID_A4, EID_B4, Lab, install_both, lab

pytestmark = pytest.mark.netns

NOTHING = DataHeader()
NONCE = 0xA1B2C3


def talking(both: Lab, *, echoes: bool = True) -> None:
    install_both(both, 4)
    open_udp(both)
    settle(both)
    for host in (both.a, both.b):
        host("echo_nonce", echoes=echoes)


def ask(both: Lab, header: DataHeader, source: str | None = None) -> None:
    """Send data with this header to a, from b's locator and past b's engine."""
    own, peer = (both.links[0].rloc(side, 4) for side in "ba")
    both.b("inject", source=source or own, to=peer, payloads=[header.encode().hex() + GOOD])
    time.sleep(0.05)


def echoed(both: Lab, side: str = "a") -> list[str]:
    host = both.a if side == "a" else both.b
    return [word for word in host("drain") if word.startswith("Echoed")]


def report(both: Lab, side: str = "a") -> str:
    own, peer = (both.links[0].rloc(one, 4) for one in (side, "b" if side == "a" else "a"))
    return f"Echoed(locator=IPv4Address('{peer}'), local=IPv4Address('{own}'))"


def send(both: Lab, *, count: int = 1) -> None:
    """Send from a to b, and then from b to a."""
    for host, to in ((both.a, EID_B4), (both.b, EID_A4)):
        host("udp_send", name="x", to=to, port=5000, count=count)
        time.sleep(0.05)


def test_who_is_asked_for_an_echo_gives_it_in_its_next_data_and_not_for_ever() -> None:
    with lab() as both:
        talking(both)
        ask(both, DataHeader(nonce=NONCE, wants_echo=True))
        sent = headers(both, 20)

        assert sent == [DataHeader(nonce=NONCE)] * 16 + [NOTHING] * 4


def test_an_old_question_is_not_answered() -> None:
    with lab() as both:
        talking(both)
        ask(both, DataHeader(nonce=NONCE, wants_echo=True))
        time.sleep(1.0)

        assert headers(both, 2) == [NOTHING] * 2


def test_data_asks_until_the_echo_comes_which_is_told_of_once() -> None:
    with lab() as both:
        talking(both)
        assert both.a("ask_echo", locator=both.links[0].rloc("b", 4), nonce=NONCE)
        asking = headers(both, 3)
        send(both, count=3)
        told = echoed(both)
        after = headers(both, 2)

        assert asking == [DataHeader(nonce=NONCE, wants_echo=True)] * 3
        assert told == [report(both)]
        assert after == [NOTHING] * 2
        assert len(both.b("udp_received", name="x", count=9)) == 9
        assert len(both.a("udp_received", name="x", count=3)) == 3


def test_both_may_ask_at_once_and_each_is_answered() -> None:
    with lab() as both:
        talking(both)
        both.a("ask_echo", locator=both.links[0].rloc("b", 4), nonce=NONCE)
        both.b("ask_echo", locator=both.links[0].rloc("a", 4), nonce=7)
        for _ in range(2):  # an engine sends an answer that it owes before its own request
            send(both, count=25)

        assert (echoed(both), echoed(both, "b")) == ([report(both)], [report(both, "b")])


def test_a_nonce_that_was_never_asked_for_and_one_that_is_asked_for_no_more_are_no_answers() -> None:
    with lab() as both:
        talking(both)
        peer = both.links[0].rloc("b", 4)
        both.a("ask_echo", locator=peer, nonce=NONCE)
        ask(both, DataHeader(nonce=NONCE + 1))
        unknown = echoed(both)
        both.a("ask_echo", locator=peer, nonce=None)
        ask(both, DataHeader(nonce=NONCE))

        assert (unknown, echoed(both)) == ([], [])
        assert headers(both, 2) == [NOTHING] * 2


def test_a_stranger_is_neither_answered_nor_believed() -> None:
    with lab() as both:
        talking(both)
        both.b.ip("addr add 192.0.2.5/29 dev up0")
        both.a("ask_echo", locator=both.links[0].rloc("b", 4), nonce=NONCE)
        ask(both, DataHeader(nonce=NONCE), source="192.0.2.5")
        ask(both, DataHeader(nonce=9, wants_echo=True), source="192.0.2.5")

        assert echoed(both) == []
        assert headers(both, 2) == [DataHeader(nonce=NONCE, wants_echo=True)] * 2


def test_where_it_is_off_a_node_does_not_answer() -> None:
    with lab() as both:
        talking(both, echoes=False)
        ask(both, DataHeader(nonce=NONCE, wants_echo=True))

        assert headers(both, 2) == [NOTHING] * 2


def test_an_echo_cannot_be_asked_of_a_locator_that_nothing_is_sent_to() -> None:
    with lab() as both:
        talking(both)

        assert not both.a("ask_echo", locator="192.0.2.99", nonce=NONCE)

"""Messages that open the bindings of an uplink to its RTRs, in virtual time and without a network."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import count, pairwise

import pytest

from lispmob.natt.dialect import PUNCH_INTERVAL_S
from lispmob.natt.effect import SendFromDataPort
from lispmob.natt.punching import Punches
from lispmob.wire.address import IpAddress
from lispmob.wire.info import InfoReply, InfoRequest
from lispmob.wire.lcaf_types import NatTraversal
from tests.control.support import ip, only
from tests.natt.world import locator

RTR, OTHER = ip("198.51.100.9"), ip("198.51.100.10")
PLACE = ip("203.0.113.200")
HEADER_OCTETS = 8  # of a LISP data packet


class Uplink:
    """The messages of an uplink, and the answers of its RTRs."""

    def __init__(self, rtrs: Iterable[IpAddress] = (RTR,), interval_s: float = 60.0) -> None:
        self.punches = Punches(locator(), b"laptop", new_nonce=count(1).__next__)
        self.sent = nonces(self.punches.start(rtrs, interval_s, 0.0))

    def answer(self, nonce: int, now: float, source: IpAddress = RTR, port: int = 30001) -> bool:
        nat = NatTraversal(4341, port, PLACE, RTR, locator().address)
        return self.punches.on_info_reply(InfoReply(nonce, None, 0, nat), source, now)

    def next(self) -> tuple[float, list[int]]:
        """When the next ones leave, and with which nonces."""
        at = self.punches.wake_at()
        assert at is not None
        return at, nonces(self.punches.on_timer(at))


def nonces(effects: Sequence[object]) -> list[int]:
    payloads = [effect.payload[HEADER_OCTETS:] for effect in only(effects, SendFromDataPort)]
    return [InfoRequest.decode(payload).nonce for payload in payloads]


def test_a_new_rtr_is_punched_to_at_once_and_a_known_one_in_its_time() -> None:
    uplink = Uplink()

    assert len(uplink.sent) == 1
    assert len(nonces(uplink.punches.start([RTR, OTHER], 60.0, 1.0))) == 1


@pytest.mark.parametrize(("interval_s", "pause_s"), [(5.0, 5.0), (60.0, PUNCH_INTERVAL_S)])
def test_an_answered_punch_goes_again_after_the_interval_and_no_later_than_lispers_net_wants(
    interval_s: float, pause_s: float
) -> None:
    uplink = Uplink(interval_s=interval_s)
    assert uplink.answer(uplink.sent[0], 0.5)

    assert uplink.punches.wake_at() == pause_s


@pytest.mark.parametrize(("rtt_s", "retry_s"), [(0.01, 0.3), (0.1, 0.3), (0.2, 0.6), (0.3, 0.9), (0.9, 1.0)])
def test_what_an_rtr_that_answers_leaves_unanswered_goes_again_after_three_round_trips_within_a_second(
    rtt_s: float, retry_s: float
) -> None:
    uplink = Uplink()
    uplink.answer(uplink.sent[0], rtt_s)
    at, sent = uplink.next()

    assert len(sent) == 1
    assert uplink.next()[0] == pytest.approx(at + retry_s)


def test_an_rtr_that_falls_silent_is_asked_three_times_more_in_a_row_and_then_seldom() -> None:
    uplink = Uplink()
    uplink.answer(uplink.sent[0], 0.1)
    times = [uplink.next()[0] for _ in range(7)]

    pauses = [after - before for before, after in pairwise([0.0, *times])]
    assert pauses == pytest.approx(
        [PUNCH_INTERVAL_S, 0.3, 0.3, 0.3, PUNCH_INTERVAL_S, PUNCH_INTERVAL_S, PUNCH_INTERVAL_S]
    )


def test_an_rtr_that_falls_silent_gives_way_to_one_that_answers() -> None:
    uplink = Uplink((RTR, OTHER))
    for nonce, rtr in zip(uplink.sent, (RTR, OTHER), strict=True):
        uplink.answer(nonce, 0.1, rtr)
    alive = []
    for _ in range(5):
        at, sent = uplink.next()
        uplink.answer(sent[-1], at + 0.1, OTHER)
        alive.append(uplink.punches.alive)

    assert alive == [(RTR, OTHER)] * 3 + [(OTHER,)] * 2


def test_an_rtr_that_never_answered_is_not_called_silent() -> None:
    uplink = Uplink()
    for _ in range(10):
        uplink.next()

    assert uplink.punches.alive == (RTR,)


def test_when_all_are_silent_all_are_tried() -> None:
    uplink = Uplink()
    uplink.answer(uplink.sent[0], 0.1)
    for _ in range(10):
        uplink.next()

    assert uplink.punches.alive == (RTR,)
    assert uplink.punches.rtt_s(RTR) == pytest.approx(0.1)
    assert uplink.punches.rtt_s(OTHER) is None


def test_the_answer_to_any_of_the_last_three_punches_counts_and_that_to_an_older_one_does_not() -> None:
    uplink = Uplink()
    uplink.answer(uplink.sent[0], 0.1)
    sent = [nonce for _ in range(4) for nonce in uplink.next()[1]]

    assert not uplink.answer(sent[0], 20.0)
    assert uplink.answer(sent[1], 20.0)
    assert not uplink.answer(sent[2], 20.0), "one answer is enough"


@pytest.mark.parametrize("source", [OTHER, PLACE])
def test_only_who_was_asked_answers(source: IpAddress) -> None:
    uplink = Uplink()

    assert not uplink.answer(uplink.sent[0], 0.1, source)
    assert uplink.punches.place is None


def test_an_rtr_tells_where_it_sees_us_and_port_0_is_no_place() -> None:
    uplink = Uplink((RTR, OTHER))
    uplink.answer(uplink.sent[0], 0.1, port=0)
    assert uplink.punches.place is None

    uplink.answer(uplink.sent[1], 0.1, OTHER)

    assert uplink.punches.place == (PLACE, 30001)


def test_in_doubt_all_are_punched_to_at_once() -> None:
    uplink = Uplink((RTR, OTHER))

    assert len(nonces(uplink.punches.again(3.0))) == 2


def test_an_uplink_that_needs_no_binding_keeps_none() -> None:
    uplink = Uplink()
    uplink.answer(uplink.sent[0], 0.1)
    uplink.punches.stop()

    assert (uplink.punches.wake_at(), uplink.punches.place, uplink.punches.alive) == (None, None, ())

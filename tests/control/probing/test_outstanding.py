"""Probes that may still be answered: late ones, lost ones, and those that are forgotten."""

from __future__ import annotations

import pytest

from lispmob.control.probing.outstanding import NONCE_LIFETIME_S, Asked, Outstanding
from lispmob.control.probing.path import Pair, Path
from tests.control.support import EID, WIFI, ip

PEER = ip("203.0.113.5")


def sent(lost_at: float = 1.0) -> tuple[Outstanding, Asked]:
    outstanding, asked = Outstanding(), Asked(Path(Pair(WIFI.address, PEER), EID, 0.0), 0.0, lost_at)
    outstanding.add(7, asked)
    return outstanding, asked


@pytest.mark.parametrize(("now", "counts"), [(0.1, True), (NONCE_LIFETIME_S, True), (NONCE_LIFETIME_S + 0.01, False)])
def test_an_answer_counts_for_ten_seconds_and_once(now: float, counts: bool) -> None:
    outstanding, asked = sent()

    assert outstanding.take(7, now) is (asked if counts else None)
    assert outstanding.take(7, now) is None
    assert outstanding.take(8, now) is None


def test_a_probe_is_lost_when_its_time_is_over_and_its_answer_may_still_come() -> None:
    outstanding, asked = sent()

    assert outstanding.expire(0.99) == []
    assert outstanding.expire(1.0) == [asked]
    assert outstanding.expire(1.1) == []
    assert outstanding.take(7, 2.0) is asked


def test_what_was_answered_is_not_lost() -> None:
    outstanding, _ = sent()
    outstanding.take(7, 0.5)

    assert outstanding.expire(5.0) == []

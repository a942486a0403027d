"""When a request that the kernel refused is tried again."""

from __future__ import annotations

import itertools

from lispmob.lispd.retry import LONGEST_S, SHORTEST_S, Retry
from lispmob.problems.problem import Problem, Severity

OFF = Problem("kernel-refused", Severity.DEGRADED, "the EID is not in the kernel", subject="IPv6")
LOCKED = Problem("no-chain", Severity.DEGRADED, "no chain", subject="IPv4")


def test_without_a_problem_no_timer_wakes() -> None:
    retry = Retry()

    assert (retry.on_problems((), 5.0), retry.pause_s(5.0), retry.is_due(1e9)) == (False, None, False)


def test_a_new_problem_is_tried_again_soon_and_an_old_one_seldom_but_for_ever() -> None:
    retry, now, pauses = Retry(), 100.0, []
    for _ in range(200):
        retry.on_problems((OFF,), now)
        pause_s = retry.pause_s(now)
        assert pause_s is not None
        pauses.append(pause_s)
        now += pause_s

    assert pauses[0] == SHORTEST_S
    assert all(later >= sooner - 1e-6 for sooner, later in itertools.pairwise(pauses))
    assert round(pauses[-1], 6) == LONGEST_S


def test_within_the_first_minute_nothing_waits_longer_than_six_seconds() -> None:
    retry = Retry()
    retry.on_problems((OFF,), 0.0)
    retry.on_problems((OFF,), 60.0)

    assert retry.pause_s(60.0) == 6.0


def test_another_problem_beside_an_old_one_is_tried_again_soon() -> None:
    retry = Retry()
    retry.on_problems((OFF,), 0.0)

    assert retry.on_problems((OFF, LOCKED), 10_000.0)
    assert retry.pause_s(10_000.0) == SHORTEST_S


def test_what_was_put_right_is_news_and_ends_the_waiting() -> None:
    retry = Retry()
    retry.on_problems((OFF,), 0.0)

    assert retry.on_problems((), 1.0)
    assert retry.pause_s(1.0) is None

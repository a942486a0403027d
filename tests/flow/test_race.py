"""A name with several EIDs: which are called, in which order, and the error when none takes the call."""

from __future__ import annotations

from ipaddress import ip_address

from lispmob.flow.effect import AllocationFailed, Failure
from lispmob.flow.race import Race

V4, OTHER, V6 = ip_address("10.99.0.1"), ip_address("10.99.0.2"), ip_address("2001:db8::1")


def failed(failure: Failure) -> AllocationFailed:
    return AllocationFailed(1, failure, 0, failure.value)


def test_ipv6_is_called_first_and_the_next_one_when_it_is_slow() -> None:
    race = Race([V4, V6, OTHER, V4])

    assert race.start(10.0) == [V6]
    assert race.wake_at() == 10.25
    assert race.on_timer(10.2) == []
    assert race.on_timer(10.25) == [V4]
    assert race.on_timer(10.5) == [OTHER]
    assert race.wake_at() is None


def test_a_failure_brings_the_next_one_at_once() -> None:
    race = Race([V4, V6])
    race.start(10.0)

    assert race.on_failed(V6, failed(Failure.NO_FLOW_DAEMON), 10.01) == [V4]
    assert race.verdict is None


def test_the_failure_that_says_most_is_told_once_all_have_failed() -> None:
    race = Race([V4, V6])
    race.start(10.0)
    race.on_timer(10.25)
    race.on_failed(V4, failed(Failure.REFUSED), 10.3)
    assert race.verdict is None

    race.on_failed(V6, failed(Failure.TIMED_OUT), 20.0)

    assert race.verdict == failed(Failure.REFUSED)


def test_a_slow_one_is_not_given_up_because_another_one_failed() -> None:
    race = Race([V4, V6])
    race.start(10.0)
    race.on_timer(10.25)

    assert race.on_failed(V4, failed(Failure.REFUSED), 10.3) == []
    assert race.verdict is None

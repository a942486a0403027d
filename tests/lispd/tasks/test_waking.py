"""One suspend is reported once, whichever part of the daemon notices first."""

from __future__ import annotations

from lispmob.lispd.tasks.waking import Waking


def test_what_logind_tells_first_the_clocks_do_not_tell_again() -> None:
    waking = Waking(suspended_s=100.0)

    assert waking.on_prepare(True, now=10.0) is None
    assert waking.is_falling_asleep
    assert waking.on_prepare(False, now=10.2) == "the machine woke up"
    assert waking.on_clocks(4000.0, now=10.3) is None


def test_what_the_clocks_tell_first_logind_does_not_tell_again() -> None:
    waking = Waking(suspended_s=100.0)

    assert waking.on_clocks(3700.0, now=10.0) == "the machine slept for 3600 s"
    assert waking.on_prepare(False, now=10.5) is None


def test_a_drift_of_the_clocks_is_no_sleep() -> None:
    assert Waking(suspended_s=100.0).on_clocks(101.5, now=10.0) is None


def test_the_next_sleep_is_news_again() -> None:
    waking = Waking(suspended_s=100.0)
    waking.on_clocks(3700.0, now=10.0)

    assert waking.on_clocks(3710.0, now=60.0) == "the machine slept for 10 s"
    assert waking.on_prepare(False, now=120.0) is not None

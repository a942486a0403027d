"""A binding that was just checked is not checked again for every silence, and for no silence that is over."""

from __future__ import annotations

import pytest

from lispmob.natt.trust import HEARD_TRUST_S, TRUST_MAX_S, TRUST_RESET_S, TRUST_S, BindingTrust


def test_a_silence_is_looked_into_at_once_and_the_next_when_the_trust_ends() -> None:
    trust = BindingTrust()

    assert trust.on_silence(100.0)
    assert trust.wake_at() is None
    assert not trust.on_silence(100.5)
    assert trust.wake_at() == 100.0 + TRUST_S
    assert not trust.is_due(100.9)
    assert [trust.is_due(101.0), trust.is_due(101.0)] == [True, False]


def test_trust_doubles_up_to_a_limit_while_silences_follow_each_other_and_starts_over_after_a_rest() -> None:
    trust = BindingTrust()
    now, lengths = 100.0, []
    for _ in range(3):
        assert trust.on_silence(now)
        trust.on_silence(now)
        lengths.append(trust.wake_at() - now)  # type: ignore[operator]
        now += lengths[-1]
        assert trust.is_due(now)

    assert lengths == [TRUST_S, TRUST_MAX_S, TRUST_MAX_S]
    now += TRUST_RESET_S + 0.1
    assert trust.on_silence(now)
    assert not trust.on_silence(now)
    assert trust.wake_at() == pytest.approx(now + TRUST_S)


def test_a_silence_that_is_over_renews_no_trust_so_that_a_death_after_it_is_noticed_at_once() -> None:
    trust = BindingTrust()
    trust.on_silence(100.0)
    trust.on_silence(100.4)

    trust.on_heard()

    assert trust.wake_at() is None
    assert not trust.is_due(101.0)
    assert trust.on_silence(100.0 + HEARD_TRUST_S)


def test_a_silence_right_after_what_was_heard_is_looked_into_soon() -> None:
    trust = BindingTrust()
    trust.on_silence(100.0)
    trust.on_silence(100.1)
    trust.on_heard()

    assert not trust.on_silence(100.2)

    assert not trust.is_due(100.2)
    assert trust.is_due(100.0 + HEARD_TRUST_S)


def test_what_is_heard_never_lengthens_the_trust() -> None:
    trust = BindingTrust()
    trust.on_silence(100.0)
    for _ in range(5):
        trust.on_heard()

    assert trust.on_silence(100.0 + HEARD_TRUST_S)
    trust.forget()
    assert trust.wake_at() is None

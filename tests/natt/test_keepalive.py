"""What is known of a NAT's binding lifetime, and how often longer ones are tried."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from lispmob.natt.keepalive import LONGEST_S, SHORTEST_S, UNMEASURED_S, Lifetime, Outcome, interval_for


def measured(truth_s: float) -> tuple[Lifetime, int]:
    """The measured lifetime of a NAT that keeps bindings so long, and the number of trials."""
    known, trials = Lifetime(), 0
    while (idle_s := known.next_trial_s()) is not None:
        known, trials = known.after(idle_s, Outcome.ALIVE if idle_s < truth_s else Outcome.DEAD), trials + 1
        assert trials < 20
    return known, trials


def test_an_unmeasured_nat_is_taken_for_one_of_the_impatient_kind() -> None:
    assert Lifetime().interval_s == UNMEASURED_S


def test_an_impatient_nat_is_found_out_before_the_patient_ones_are_told_apart() -> None:
    known = Lifetime()

    assert known.next_trial_s() == 15.0
    assert known.after(15.0, Outcome.DEAD).interval_s < UNMEASURED_S
    assert known.after(15.0, Outcome.ALIVE).interval_s == UNMEASURED_S


def test_a_lost_trial_teaches_nothing() -> None:
    assert Lifetime(30.0).after(60.0, Outcome.LOST) == Lifetime(30.0)


def test_a_configured_interval_is_used_as_it_is_unless_the_peers_forget_sooner() -> None:
    assert interval_for(Lifetime(160.0), 42.0, 120.0) == 42.0
    assert interval_for(Lifetime(160.0), None, 15.0) == 15.0


@given(truth_s=st.floats(8.0, 1000.0))
def test_the_interval_never_outlasts_three_quarters_of_the_binding(truth_s: float) -> None:
    known, trials = measured(truth_s)

    assert known.interval_s <= max(0.75 * truth_s, SHORTEST_S)
    assert known.interval_s <= LONGEST_S
    assert trials <= 8


@given(truth_s=st.floats(30.1, 1000.0))
def test_a_patient_nat_is_not_asked_more_than_twice_as_often_as_needed(truth_s: float) -> None:
    known, _ = measured(truth_s)

    assert known.interval_s >= min(0.375 * truth_s, LONGEST_S / 2)

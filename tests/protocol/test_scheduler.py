from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from lispmob.protocol.scheduler import NEVER, Candidate, Hysteresis, Prefer, Ranked, Schedule, Scheduler

HYSTERESIS = Hysteresis(ratio=0.2, rtt_ms=5.0, loss=0.02, hold_s=10.0)


def latencies(scheduler: Scheduler[str], now: float, **rtt_ms: float | None) -> Schedule[str]:
    return scheduler.on_candidates([Candidate(name, rtt_ms=rtt) for name, rtt in rtt_ms.items()], now)


def test_without_a_preference_priority_and_weight_are_what_was_configured() -> None:
    scheduler: Scheduler[str] = Scheduler()

    schedule = scheduler.on_candidates(
        [Candidate("cable", 1, 75, rtt_ms=90), Candidate("wifi", 1, 25, rtt_ms=1), Candidate("lte", 7)], now=0.0
    )

    assert schedule.ranked == (Ranked("cable", 0, 75), Ranked("wifi", 0, 25), Ranked("lte", 2, 100))
    assert schedule.first == ("cable", "wifi")


def test_what_is_down_takes_no_part() -> None:
    scheduler: Scheduler[str] = Scheduler()

    schedule = scheduler.on_candidates([Candidate("cable", 1, is_up=False), Candidate("lte", 7)], now=0.0)

    assert schedule.ranked == (Ranked("cable", NEVER, 100), Ranked("lte", 0, 100))
    assert "cable: down" in schedule.steps


def test_when_all_are_silent_sending_goes_on_as_if_none_were() -> None:
    scheduler: Scheduler[str] = Scheduler()

    schedule = scheduler.on_candidates([Candidate("cable", 1, is_up=False), Candidate("lte", 7, is_up=False)], now=0.0)

    assert schedule.first == ("cable",)


def test_what_only_receives_is_never_sent_from() -> None:
    scheduler: Scheduler[str] = Scheduler()

    schedule = scheduler.on_candidates([Candidate("lte", NEVER)], now=0.0)

    assert schedule.ranked == (Ranked("lte", NEVER, 100),)
    assert schedule.first == ()


def test_the_quickest_of_equals_is_preferred_and_the_others_wait_behind_it() -> None:
    scheduler: Scheduler[str] = Scheduler(Prefer.LATENCY, HYSTERESIS)

    schedule = latencies(scheduler, 0.0, cable=40, wifi=10, lte=None)

    assert schedule.first == ("wifi",)
    assert sorted(schedule.ranked, key=lambda one: one.key) == [
        Ranked("cable", 1, 100),
        Ranked("lte", 1, 100),
        Ranked("wifi", 0, 100),
    ]


def test_quality_never_overrules_priority() -> None:
    scheduler: Scheduler[str] = Scheduler(Prefer.LATENCY, HYSTERESIS)

    schedule = scheduler.on_candidates([Candidate("cable", 1, rtt_ms=80), Candidate("wifi", 2, rtt_ms=1)], now=0.0)

    assert schedule.first == ("cable",)


def test_a_rival_has_to_be_clearly_better_for_a_while() -> None:
    scheduler: Scheduler[str] = Scheduler(Prefer.LATENCY, HYSTERESIS)
    latencies(scheduler, 0.0, cable=20, wifi=50)

    slightly = latencies(scheduler, 1.0, cable=20, wifi=18)
    clearly = latencies(scheduler, 2.0, cable=40, wifi=18)
    still = latencies(scheduler, 11.0, cable=40, wifi=18)
    at_last = latencies(scheduler, 12.0, cable=40, wifi=18)

    assert slightly.first == clearly.first == still.first == ("cable",)
    assert clearly.review_at == 12.0
    assert at_last.first == ("wifi",)


def test_a_rival_that_was_better_only_for_a_moment_has_to_wait_again() -> None:
    scheduler: Scheduler[str] = Scheduler(Prefer.LATENCY, HYSTERESIS)
    latencies(scheduler, 0.0, cable=20, wifi=50)
    latencies(scheduler, 1.0, cable=60, wifi=10)
    latencies(scheduler, 5.0, cable=20, wifi=50)

    again = latencies(scheduler, 12.0, cable=60, wifi=10)

    assert again.first == ("cable",)
    assert again.review_at == 22.0


def test_death_needs_no_patience_and_coming_back_does() -> None:
    scheduler: Scheduler[str] = Scheduler(Prefer.LATENCY, HYSTERESIS)
    latencies(scheduler, 0.0, cable=10, wifi=50)
    wifi = Candidate("wifi", rtt_ms=50)

    dead = scheduler.on_candidates([Candidate("cable", rtt_ms=10, is_up=False), wifi], now=1.0)
    back = latencies(scheduler, 2.0, cable=10, wifi=50)
    later = latencies(scheduler, 12.0, cable=10, wifi=50)

    assert dead.first == back.first == ("wifi",)
    assert later.first == ("cable",)


def test_loss_and_cost_can_be_preferred_too() -> None:
    by_loss: Scheduler[str] = Scheduler(Prefer.LOSS, HYSTERESIS)
    by_cost: Scheduler[str] = Scheduler(Prefer.COST, HYSTERESIS)
    ones = [Candidate("cable", cost=5, loss=0.0), Candidate("lte", cost=1, loss=0.2)]

    assert by_loss.on_candidates(ones, 0.0).first == ("cable",)
    assert by_cost.on_candidates(ones, 0.0).first == ("lte",)


def test_a_change_of_cost_counts_at_once() -> None:
    scheduler: Scheduler[str] = Scheduler(Prefer.COST, HYSTERESIS)
    scheduler.on_candidates([Candidate("cable", cost=0), Candidate("lte", cost=9)], 0.0)

    schedule = scheduler.on_candidates([Candidate("cable", cost=9), Candidate("lte", cost=0)], 1.0)

    assert schedule.first == ("lte",)


@given(
    st.lists(st.tuples(st.floats(1, 300), st.floats(1, 300), st.booleans(), st.booleans()), max_size=40),
    st.sampled_from([Prefer.LATENCY, Prefer.LOSS, Prefer.COST]),
)
def test_whatever_is_measured_flows_move_at_most_once_per_holding_time_while_no_uplink_dies(
    samples: list[tuple[float, float, bool, bool]], prefer: Prefer
) -> None:
    scheduler: Scheduler[str] = Scheduler(prefer, HYSTERESIS)
    moved_at = float("-inf")
    before: tuple[str, ...] = ()
    was_up: tuple[bool, ...] = ()
    for second, (one, other, one_is_up, other_is_up) in enumerate(samples):
        candidates = [
            Candidate("cable", is_up=one_is_up, rtt_ms=one, loss=one / 300),
            Candidate("wifi", is_up=other_is_up, rtt_ms=other, loss=other / 300),
        ]
        schedule = scheduler.on_candidates(candidates, float(second))
        is_up = (one_is_up, other_is_up)
        assert schedule.first
        if schedule.first != before and before and is_up == was_up:
            assert second - moved_at >= HYSTERESIS.hold_s or is_up != (True, True)
        if schedule.first != before or is_up != was_up:
            moved_at = float(second)
        before, was_up = schedule.first, is_up


def test_a_rival_has_to_be_better_by_so_much_unless_told_otherwise() -> None:
    assert Hysteresis() == Hysteresis(ratio=0.2, rtt_ms=5.0, loss=0.02, hold_s=10.0)

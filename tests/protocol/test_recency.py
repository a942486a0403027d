"""The order of last use, kept in runs, is that of an OrderedDict."""

from __future__ import annotations

from collections import OrderedDict

from hypothesis import given
from hypothesis import strategies as st

from lispmob.protocol.recency import Recency
from lispmob.protocol.split_dict import LARGE

steps = st.lists(st.tuples(st.sampled_from(["use", "pop", "look"]), st.integers(0, 12)))


@given(steps, st.integers(1, 5))
def test_the_order_is_that_of_one_ordered_dict(taken: list[tuple[str, int]], longest: int) -> None:
    recency: Recency[int, int] = Recency(longest)
    plain: OrderedDict[int, int] = OrderedDict()
    for at, (what, key) in enumerate(taken):
        if what == "use":
            recency.use(key, at)
            plain[key] = at
            plain.move_to_end(key)
        elif what == "pop":
            assert recency.pop(key) == plain.pop(key, None)
        else:
            assert list(recency.oldest()) == list(plain.items())

    assert list(recency.oldest()) == list(plain.items())
    assert len(recency) == len(plain)
    assert all((key in recency) == (key in plain) for key in range(13))


def test_runs_that_are_empty_are_not_kept_for_ever() -> None:
    recency: Recency[int, int] = Recency(2)
    for number in range(1000):
        recency.use(number, number)
        recency.pop(number - 1)

    assert len(recency._runs) <= 3


def test_what_is_used_all_the_time_costs_no_run() -> None:
    recency: Recency[int, int] = Recency(8)
    for number in range(8):
        recency.use(number, number)
    for _ in range(100):
        recency.use(3, 3)
        recency.use(5, 5)

    assert len(recency._runs) == 1
    assert list(recency.oldest())[-2:] == [(3, 3), (5, 5)]


def test_very_many_things_stand_in_small_tables() -> None:
    recency: Recency[int, int] = Recency(1000)
    for number in range(LARGE + 2000):
        recency.use(number, number)

    assert max(map(len, recency._runs)) == 1000
    assert not isinstance(recency._where, dict)

"""Numbers in runs have the order of one sorted list."""

from __future__ import annotations

from bisect import bisect_left, bisect_right

from hypothesis import given
from hypothesis import strategies as st

from lispmob.protocol.sorted_numbers import RUN, SortedNumbers

NUMBERS = st.integers(0, 60)


@given(st.lists(NUMBERS), NUMBERS, NUMBERS, st.none() | st.integers(1, 5))
def test_what_runs_hold_is_what_one_sorted_list_holds(
    changes: list[int], first: int, beyond: int, limit: int | None
) -> None:
    numbers, plain = SortedNumbers(longest=4), list[int]()
    for number in changes:
        if number in plain:
            numbers.remove(number)
            plain.remove(number)
        else:
            numbers.add(number)
            plain = sorted([*plain, number])

    assert numbers.between(first, beyond, limit) == [one for one in plain if first <= one < beyond][:limit]
    assert numbers.before(first) == next(iter(plain[: bisect_left(plain, first)][::-1]), None)
    assert numbers.after(first) == next(iter(plain[bisect_right(plain, first) :]), None)


def test_a_hundred_thousand_numbers_in_any_order_stand_in_short_runs() -> None:
    numbers = SortedNumbers()
    for number in range(100_000):
        numbers.add(number * 7919 % 100_003)

    assert max(map(len, numbers._runs)) <= RUN
    assert len(numbers._runs) < 400
    assert numbers.between(0, 1 << 32, 3) == sorted(number * 7919 % 100_003 for number in range(100_000))[:3]

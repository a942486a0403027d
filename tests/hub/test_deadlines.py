"""The next deadline is at hand, and what was replaced leaves nothing behind."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from lispmob.hub.deadlines import SLACK, Deadlines

TIMES = st.integers(0, 50).map(float)
STEPS = st.lists(st.tuples(st.sampled_from("sdt"), st.integers(0, 9), TIMES), max_size=80)


@given(STEPS)
def test_it_is_due_what_a_plain_map_says(steps: list[tuple[str, int, float]]) -> None:
    deadlines: Deadlines[int] = Deadlines()
    plain: dict[int, float] = {}

    for what, key, at in steps:
        if what == "s":
            deadlines.set(key, at)
            plain[key] = at
        elif what == "d":
            deadlines.drop(key)
            plain.pop(key, None)
        else:
            due = {one for one, when in plain.items() if when <= at}
            assert set(deadlines.take_due(at)) == due
            plain = {one: when for one, when in plain.items() if one not in due}
        assert deadlines.next_at() == min(plain.values(), default=None)
        assert len(deadlines) == len(plain)


def test_what_is_due_comes_in_order() -> None:
    deadlines: Deadlines[str] = Deadlines()
    for key, at in (("c", 3.0), ("a", 1.0), ("b", 2.0), ("later", 9.0)):
        deadlines.set(key, at)

    assert deadlines.take_due(3.0) == ["a", "b", "c"]


def test_one_key_that_is_set_again_and_again_takes_no_more_room_than_one() -> None:
    deadlines: Deadlines[str] = Deadlines()

    for number in range(100_000):
        deadlines.set("mine", float(number))
        assert deadlines.entries <= 2 + SLACK + 1


def test_keys_that_come_and_go_leave_nothing_behind() -> None:
    deadlines: Deadlines[int] = Deadlines()

    for number in range(100_000):
        deadlines.set(number, 1e9 + number)
        deadlines.drop(number)

    assert deadlines.entries <= SLACK + 1
    assert deadlines.next_at() is None

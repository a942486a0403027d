"""The next deadline is known in constant time, and a deadline that was replaced uses no memory."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from lispmob.protocol.agenda import SPARE, Agenda

steps = st.lists(
    st.one_of(
        st.tuples(st.just("set"), st.integers(0, 9), st.one_of(st.none(), st.integers(0, 50))),
        st.tuples(st.just("due"), st.integers(0, 50), st.none()),
    ),
    max_size=200,
)


@given(steps)
def test_an_agenda_agrees_with_a_dictionary_of_times(steps: list[tuple[str, int, int | None]]) -> None:
    agenda: Agenda[int] = Agenda()
    times: dict[int, float] = {}
    for kind, number, at in steps:
        if kind == "set":
            agenda.set(number, at)
            times.pop(number, None)
            if at is not None:
                times[number] = at
        else:
            due = agenda.due(number)
            assert {thing: times.pop(thing) for thing in due}.keys() == set(due)
            assert [thing for thing, at in times.items() if at <= number] == []
        assert agenda.first() == min(times.values(), default=None)
        assert len(agenda) == len(times)
        assert all(agenda.get(thing) == times.get(thing) for thing in range(10))


def test_what_is_due_comes_in_the_order_of_its_times() -> None:
    agenda: Agenda[str] = Agenda()
    for thing, at in (("b", 2.0), ("c", 3.0), ("a", 1.0), ("late", 9.0)):
        agenda.set(thing, at)

    assert agenda.due(3.0) == ["a", "b", "c"]
    assert agenda.first() == 9.0


def test_a_thing_that_is_put_off_without_end_leaves_nothing_behind() -> None:
    agenda: Agenda[str] = Agenda()
    for number in range(10_000):
        agenda.set("probe", float(number))

    assert agenda.entries <= 2 + SPARE + 1
    assert agenda.first() == 9999.0


def test_things_that_come_and_go_leave_nothing_behind() -> None:
    agenda: Agenda[int] = Agenda()
    for number in range(10_000):
        agenda.set(number, 1e9 + number)
        agenda.set(number, None)
        assert agenda.entries <= 2 + SPARE + 1

    assert agenda.first() is None

"""Events as people read them."""

from __future__ import annotations

import pytest

from lispmob.lispd.report.narration import LogFilter, line_of, step_of
from lispmob.protocol.effect import Event, EventValue


def test_a_line_of_the_log_has_lists_as_words() -> None:
    event = Event("moved", {"version": 2, "rlocs": ["192.0.2.1", "192.0.2.2"], "previous": []})

    assert line_of(event) == "moved version=2 rlocs=192.0.2.1,192.0.2.2 previous=none"


@pytest.mark.parametrize(
    ("event", "step"),
    [
        (Event("register-sent", {"map_server": "192.0.2.1", "rlocs": ["192.0.2.9"]}), ("register", "192.0.2.1")),
        (Event("registered", {"map_server": "192.0.2.1"}), ("notify", "192.0.2.1")),
        (Event("smr-sent", {"rlocs": ["192.0.2.3"]}), ("smr", "192.0.2.3")),
        (Event("smr-sent", {"rlocs": list("abcde")}), ("smr", "a, b, c and 2 more")),
        (Event("miss", {"eid": "10.1.0.1/32"}), None),
    ],
)
def test_a_step_of_a_handover_says_whom_it_went_to(event: Event, step: tuple[str, str] | None) -> None:
    assert step_of(event) == step


def registered(**fields: EventValue) -> Event:
    return Event("registered", {"eid": "10.1.0.1/32", "map_server": "192.0.2.1", **fields})


def test_a_day_of_refreshes_is_one_line_and_each_move_one_more() -> None:
    log_filter = LogFilter()

    told = [log_filter.is_logged(registered(is_change=minute == 0)) for minute in range(1440)]
    assert sum(told) == 1

    assert log_filter.is_logged(Event("moved", {}))
    assert [log_filter.is_logged(registered(is_change=True)), log_filter.is_logged(registered(is_change=False))] == [
        True,
        False,
    ]


def test_keepalives_through_an_rtr_are_one_line_and_another_rtr_one_more() -> None:
    log_filter = LogFilter()

    told = [log_filter.is_logged(registered(rtr=rtr)) for rtr in ["192.0.2.8"] * 100 + ["192.0.2.9"] * 100]

    assert [place for place, is_logged in enumerate(told) if is_logged] == [0, 100]


def test_each_eid_and_map_server_is_told_of_by_itself() -> None:
    log_filter = LogFilter()
    other = Event("registered", {"eid": "2001:db8::1/128", "map_server": "192.0.2.1", "is_change": False})

    assert [log_filter.is_logged(registered()), log_filter.is_logged(other), log_filter.is_logged(other)] == [
        True,
        True,
        False,
    ]


@pytest.mark.parametrize("kind", ["auth-failed", "rtr-failed", "natt-stranded", "register-timeout", "register-sent"])
def test_what_goes_wrong_is_told_as_a_problem_and_not_twice(kind: str) -> None:
    assert not LogFilter().is_logged(Event(kind, {}))

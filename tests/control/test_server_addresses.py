"""Servers by host name over time: when their addresses are asked for, and which answer counts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lispmob.control.server_addresses import OPEN_MAX, SLOW, AskName, ServerAddresses
from lispmob.wire.address import IpAddress
from tests.control.support import ip

HUB = "hub.example.net"
A, B, A6 = ip("198.51.100.1"), ip("198.51.100.7"), ip("2001:db8:51::1")
NONE = "no DNS server answers"


def machine(*names: str) -> tuple[ServerAddresses, list[AskName]]:
    made = ServerAddresses(jitter=lambda: 0.0)
    return made, made.on_names(names or (HUB,), 0.0)


def found(made: ServerAddresses, asked: list[AskName], *addresses: IpAddress, now: float = 0.1) -> bool:
    (question,) = asked
    return made.on_answer(question.number, addresses, NONE, now)


def test_a_new_name_is_asked_for_at_once_and_its_answer_is_news() -> None:
    made, asked = machine()

    assert [effect.name for effect in asked] == [HUB]
    assert found(made, asked, A, A6)
    assert made.answers == {HUB: (A, A6)}
    assert made.failures(0.2) == ()


def test_without_a_name_there_is_no_timer() -> None:
    made, asked = machine()

    assert made.on_names((), 1.0) == []
    assert made.wake_at() is None
    assert not found(made, asked, A)  # a server that the answer no longer names is removed


def test_while_dns_fails_it_is_asked_ever_more_seldom_and_for_ever() -> None:
    made, asked = machine()
    pauses, now = [], 0.0
    for _ in range(9):
        found(made, asked, now=now)
        at = made.wake_at()
        assert at is not None
        pauses.append(at - now)
        now, asked = at, made.on_timer(at)

    assert pauses == [1, 2, 4, 8, 16, 32, 60, 60, 60]
    assert [(failure.name, failure.why, failure.has_addresses) for failure in made.failures(now)] == [
        (HUB, NONE, False)
    ]


def test_a_failure_takes_no_address_away() -> None:
    made, asked = machine()
    found(made, asked, A)

    assert not found(made, made.on_timer(300.1), now=301.0)
    assert made.answers == {HUB: (A,)}
    assert [failure.has_addresses for failure in made.failures(301.0)] == [True]


def test_it_is_asked_again_after_five_minutes_and_another_order_is_no_news() -> None:
    made, asked = machine()
    found(made, asked, A, B)

    assert made.on_timer(300.0) == []
    assert not found(made, made.on_timer(300.1), B, A, now=300.2)
    assert made.answers == {HUB: (A, B)}


def test_an_address_that_left_the_answer_goes_and_the_others_keep_their_places() -> None:
    made, asked = machine()
    found(made, asked, A, B)

    assert found(made, made.on_timer(300.1), A6, B, now=300.2)
    assert made.answers == {HUB: (B, A6)}


def server(*addresses: IpAddress) -> ServerAddresses:
    """A Map-Server whose name has these addresses."""
    made = ServerAddresses(jitter=lambda: 0.0)
    found(made, made.on_names((HUB,), 0.0, {HUB}), *addresses)
    return made


PORTAL = ip("10.0.0.1")


def test_a_login_page_that_answers_every_name_takes_no_map_server_away() -> None:
    made = server(A)

    assert found(made, made.on_uplinks(50.0), PORTAL, now=50.1)
    behind = made.answers
    assert found(made, made.on_uplinks(80.0), A, now=80.1)

    assert behind == {HUB: (PORTAL, A)}
    assert made.answers == {HUB: (A, PORTAL)}
    assert made.on_registered(A)
    assert made.answers == {HUB: (A,)}


def test_a_map_server_that_has_moved_is_left_once_it_has_confirmed_at_its_new_place() -> None:
    made = server(A, A6)
    found(made, made.on_uplinks(50.0), B, now=50.1)
    assert made.answers == {HUB: (B, A, A6)}

    assert not made.on_registered(A)
    assert made.on_registered(B)
    assert not made.on_registered(B)

    assert made.answers == {HUB: (B,)}


def test_a_server_without_a_registration_is_where_the_last_answer_says() -> None:
    made, asked = machine()
    found(made, asked, A)
    found(made, made.on_uplinks(50.0), B, now=50.1)

    assert made.answers == {HUB: (B,)}


def test_former_addresses_are_no_more_than_a_few_however_often_the_answer_changes() -> None:
    made = server(A)
    for number in range(1, 40):
        found(made, made.on_uplinks(10.0 * number), ip(f"203.0.113.{number}"), now=10.0 * number + 0.1)

    assert len(made.answers[HUB]) == 9


def test_other_uplinks_have_it_asked_at_once_but_once_a_second_in_a_move() -> None:
    made, asked = machine()
    found(made, asked, A)

    assert len(made.on_uplinks(50.0)) == 1
    assert made.on_uplinks(50.2) == []
    assert made.wake_at() == 51.0


def test_a_question_that_hangs_holds_up_no_other_and_its_late_answer_does_not_count() -> None:
    made, first = machine()

    second = made.on_uplinks(5.0)
    assert found(made, second, B, now=5.1)
    assert not found(made, first, A, now=9.0)

    assert made.answers == {HUB: (B,)}


def test_no_more_than_a_few_questions_hang_at_a_time() -> None:
    made, _ = machine()

    asked = [uplink for at in range(10, 100, 10) for uplink in made.on_uplinks(float(at))]

    assert len(asked) == OPEN_MAX - 1


def test_a_server_that_does_not_answer_may_have_moved_but_is_asked_for_twice_a_minute_at_most() -> None:
    made, asked = machine()
    found(made, asked, A)

    assert made.on_unanswered(A, 10.0) == []
    assert made.wake_at() == 30.0
    assert len(made.on_timer(30.0)) == 1
    assert made.on_unanswered(A, 31.0) == []
    assert made.wake_at() == 60.0


def test_a_server_of_no_name_has_no_name_asked_for() -> None:
    made, asked = machine()
    found(made, asked, A)

    assert made.on_unanswered(B, 70.0) == []
    assert made.wake_at() == 300.1


def test_one_that_waits_for_dns_is_shown_as_such_before_dns_has_given_up() -> None:
    made, _ = machine()

    assert made.failures(2.9) == ()
    assert [failure.why for failure in made.failures(3.0)] == [SLOW]


def test_what_stays_in_the_configuration_is_not_asked_for_again_and_keeps_its_addresses() -> None:
    made, asked = machine()
    found(made, asked, A)

    assert [on_name.name for on_name in made.on_names((HUB, "mr.example.net"), 20.0)] == ["mr.example.net"]
    assert made.answers == {HUB: (A,)}


STEP = st.tuples(
    st.floats(0.01, 400), st.sampled_from(("answer", "fail", "uplinks", "unanswered", "timer")), st.booleans()
)


@given(st.lists(STEP, max_size=40))
def test_whatever_happens_a_name_is_asked_for_again_within_minutes(steps: list[tuple[float, str, bool]]) -> None:
    made, asked = machine()
    now, open_ = 0.0, list(asked)
    for pause, what, is_late in steps:
        now += pause
        if what in ("answer", "fail") and open_:
            question = open_.pop(0 if is_late else -1)
            made.on_answer(question.number, (A,) if what == "answer" else (), NONE, now)
        elif what == "uplinks":
            open_ += made.on_uplinks(now)
        elif what == "unanswered":
            open_ += made.on_unanswered(A, now)
        else:
            open_ += made.on_timer(now)
        at = made.wake_at()
        assert at is not None
        assert at <= now + 331
        assert len(open_) <= OPEN_MAX


@pytest.mark.parametrize("count", [9, 100])
def test_a_name_with_a_hundred_addresses_is_eight_servers(count: int) -> None:
    made, asked = machine()
    found(made, asked, *(ip(f"203.0.113.{place}") for place in range(1, count)))

    assert len(made.answers[HUB]) == 8

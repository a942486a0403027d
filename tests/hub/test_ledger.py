"""The hub's memory of what happened: bounded, and the newest first."""

from __future__ import annotations

import pytest

from lispmob.hub.ledger import EIDS_KEPT, EVENTS_KEPT, PROBLEM_S, PROBLEMS_KEPT, UNPROVED_KEPT, Ledger
from lispmob.protocol.effect import Event

EID = "10.1.0.1/32"


def event(kind: str, **fields: str | list[str]) -> Event:
    return Event(kind, dict(fields))


def test_it_knows_since_when_a_node_is_there_and_how_often_it_moved() -> None:
    ledger = Ledger()
    ledger.on_event(event("registered", eid=EID), 100.0)
    ledger.on_event(event("changed", eid=EID, rlocs=["192.0.2.9"]), 150.0)
    ledger.on_event(event("moved", eid=EID, rlocs=["192.0.2.1"]), 200.0)
    ledger.on_event(event("moved", eid=EID, rlocs=["192.0.2.2"]), 300.0)

    presence = ledger.presence(EID)

    assert presence is not None
    assert (presence.since, presence.moves, presence.moved_at) == (100.0, 2, 300.0)
    assert [move["rlocs"] for move in ledger.moves(1)] == [["192.0.2.2"]]
    ledger.on_event(event("withdrawn", eid=EID), 400.0)
    assert ledger.presence(EID) is None


def test_events_are_numbered_so_that_who_follows_misses_none() -> None:
    ledger = Ledger()
    for number in range(EVENTS_KEPT + 10):
        ledger.on_event(event("registered", eid=f"10.0.{number // 256}.{number % 256}/32"), float(number))

    assert len(ledger.events(10_000)) == EVENTS_KEPT
    assert [one["number"] for one in ledger.events(1000, after=EVENTS_KEPT + 8)] == [EVENTS_KEPT + 9, EVENTS_KEPT + 10]


def test_a_problem_goes_when_it_has_not_come_again() -> None:
    ledger = Ledger()
    for at in (0.0, 60.0):
        ledger.on_event(event("auth-failed", source="203.0.113.5", why="site a: another digest"), at)

    (problem,) = ledger.complaints(60.0)

    assert (problem.key, problem.subject, problem.count, problem.since) == ("wrong-key", "203.0.113.5", 2, 0.0)
    assert ledger.complaints(60.0 + PROBLEM_S) == []


def test_one_refused_message_is_the_weather_and_two_are_a_problem() -> None:
    ledger = Ledger()
    refused = event("refused", source="203.0.113.5", why="the nonce did not grow")
    ledger.on_event(refused, 0.0)
    assert ledger.complaints(0.0) == []

    ledger.on_event(refused, 60.0)

    assert [problem.key for problem in ledger.complaints(60.0)] == ["refused"]


def test_strangers_do_not_fill_the_memory() -> None:
    ledger = Ledger()
    for number in range(PROBLEMS_KEPT + 50):
        ledger.on_event(event("auth-failed", source=str(number), why="x"), float(number))

    assert len(ledger.complaints(0.0)) == PROBLEMS_KEPT


def strangers(ledger: Ledger, kind: str, count: int) -> None:
    """Senders without a key, each from an address of its own, for some minutes."""
    for number in range(count):
        ledger.on_event(event(kind, source=f"203.0.113.{number % 250}", why=f"no site has {number}"), 100.0 + number)


@pytest.mark.parametrize("kind", ["auth-failed", "refused"])
def test_strangers_push_no_event_of_a_node_out_of_what_is_kept(kind: str) -> None:
    ledger = Ledger()
    ledger.on_event(event("moved", eid=EID, rlocs=["192.0.2.1"]), 50.0)
    strangers(ledger, kind, 3 * EVENTS_KEPT)

    assert [told["type"] for told in ledger.events(2000) if told["type"] != kind] == ["moved"]
    assert [told["rlocs"] for told in ledger.moves(5)] == [["192.0.2.1"]]
    assert len(ledger.events(10_000)) == UNPROVED_KEPT + 1


@pytest.mark.parametrize("kind", ["auth-failed", "refused"])
def test_strangers_hide_no_problem_of_a_site(kind: str) -> None:
    ledger = Ledger()
    ledger.on_event(event("duplicate", eid=EID, text="two nodes register it"), 50.0)
    for at in (50.0, 51.0):
        ledger.on_event(event("refused", source="192.0.2.9", site="laptop", why="the nonce did not grow"), at)
    strangers(ledger, kind, 600)

    found = [problem.key for problem in ledger.complaints(800.0)]

    assert found.count("duplicate-eid") == 1
    assert "the nonce did not grow" in [problem.text for problem in ledger.complaints(800.0)]
    assert len(found) <= UNPROVED_KEPT + 2


def test_problems_come_the_newest_first_from_any_sender() -> None:
    ledger = Ledger()
    ledger.on_event(event("auth-failed", source="203.0.113.5", why="another digest"), 1.0)
    ledger.on_event(event("duplicate", eid=EID, text="two nodes register it"), 2.0)
    ledger.on_event(event("auth-failed", source="203.0.113.6", why="another digest"), 3.0)

    assert [problem.subject for problem in ledger.complaints(4.0)] == ["203.0.113.6", EID, "203.0.113.5"]
    assert [told["number"] for told in ledger.events(10)] == [1, 2, 3]


def test_a_problem_that_comes_again_after_a_quarter_of_an_hour_is_a_new_one() -> None:
    ledger = Ledger()
    wrong = event("auth-failed", source="203.0.113.5", why="another digest")
    for at in (5000.0, 5000.0 + PROBLEM_S - 1, 5000.0 + 3 * PROBLEM_S):
        ledger.on_event(wrong, at)
        last = ledger.complaints(at)[0]
        assert last.count == (2 if at == 5000.0 + PROBLEM_S - 1 else 1)

    assert (last.since, last.last) == (5000.0 + 3 * PROBLEM_S, 5000.0 + 3 * PROBLEM_S)


def test_of_very_many_problems_the_latest_are_remembered() -> None:
    ledger = Ledger()
    eids = [f"10.1.{number // 250}.{number % 250}/32" for number in range(PROBLEMS_KEPT + 50)]
    for number, eid in enumerate(eids):
        ledger.on_event(event("duplicate", eid=eid, text="two nodes"), number / 1000)

    assert [problem.subject for problem in ledger.complaints(2.0)] == eids[: -PROBLEMS_KEPT - 1 : -1]


def test_the_presence_of_the_eids_that_changed_last_is_kept() -> None:
    ledger = Ledger()
    for number in range(EIDS_KEPT + 2):
        ledger.on_event(event("registered", eid=str(number)), float(number))
        ledger.on_event(event("moved", eid="0", rlocs=[]), float(number))

    kept = [number for number in range(EIDS_KEPT + 2) if ledger.presence(str(number)) is not None]
    assert kept == [0, *range(3, EIDS_KEPT + 2)]

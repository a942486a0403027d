"""In which order a user reads what happened."""

from __future__ import annotations

import asyncio
import logging

import pytest

from lispmob.api.schema import Event as ApiEvent
from lispmob.lispd.report.handovers import HandoverJournal
from lispmob.lispd.report.problem_watch import ProblemWatch
from lispmob.lispd.report.publisher import Publisher
from lispmob.protocol.effect import Event


class Unwatched(ProblemWatch):
    """Derives no problems from events."""

    def __init__(self) -> None:
        pass

    def on_event(self, event: Event) -> None:
        pass


def lines_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records]


def publisher(shown: list[str]) -> Publisher:
    def show(event: ApiEvent) -> None:
        shown.append(event.kind)

    return Publisher(HandoverJournal(), Unwatched(), [show])


async def turns() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


@pytest.mark.parametrize("reasons", [["wlan0: set down"], ["wlan0: set down", "lte0: back"], []])
def test_reasons_of_a_move_are_logged_before_its_events_though_they_are_found_after(
    reasons: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    async def move() -> None:
        told = publisher([])
        told.say("a sentence of the move")
        told.say_first(reasons)
        told.say("another")
        await turns()

    with caplog.at_level(logging.INFO, "lispd"):
        asyncio.run(move())

    assert lines_of(caplog) == [*reasons, "a sentence of the move", "another"]


def test_nothing_is_delivered_in_the_turn_of_a_move() -> None:
    shown: list[str] = []

    async def move() -> tuple[list[str], list[str]]:
        told = publisher(shown)
        for kind in ("moved", "register-sent", "smr-sent"):
            told.publish(Event(kind, {}), 0.0)
        during = [*shown]
        await turns()
        return during, shown

    assert asyncio.run(move()) == ([], ["moved", "register-sent", "smr-sent"])


def test_an_event_that_cannot_be_shown_does_not_keep_the_others_back(caplog: pytest.LogCaptureFixture) -> None:
    shown: list[str] = []

    def show(event: ApiEvent) -> None:
        if event.kind == "moved":
            raise RuntimeError("a face that fails")
        shown.append(event.kind)

    async def move() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _loop, _context: None)
        told = Publisher(HandoverJournal(), Unwatched(), [show])
        for kind in ("moved", "register-sent"):
            told.publish(Event(kind, {}), 0.0)
        await turns()

    asyncio.run(move())

    assert shown == ["register-sent"]

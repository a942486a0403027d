"""Publishes events: to the timeline of a move, the control socket, D-Bus, and the log."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from functools import partial

from lispmob.api.schema import Event as ApiEvent
from lispmob.lispd.report import narration
from lispmob.lispd.report.handovers import HandoverJournal
from lispmob.lispd.report.problem_watch import ProblemWatch
from lispmob.lispd.wall import iso_utc
from lispmob.protocol.effect import Event

log = logging.getLogger("lispd")


class Publisher:
    """`faces` get every event for display outside.

    They are delivered in order in the next turn of the loop, so a move is registered before it is reported.
    """

    def __init__(
        self,
        journal: HandoverJournal,
        problems: ProblemWatch,
        faces: Sequence[Callable[[ApiEvent], None]],
    ) -> None:
        self._journal = journal
        self._problems = problems
        self._faces = faces
        self._log_filter = narration.LogFilter()
        self._waiting: list[Callable[[], None]] = []  # for the next turn

    def publish(self, event: Event, now: float) -> None:
        """Publish an event of the core; `now` is the loop's time."""
        self._await_turn()
        self._waiting.append(partial(self._tell, event, now, time.time()))

    def say(self, sentence: str) -> None:
        """Log a sentence, in order with the events."""
        self._await_turn()
        self._waiting.append(partial(log.info, "%s", sentence))

    def say_first(self, sentences: Sequence[str]) -> None:
        """Log sentences before the events of this turn, which they are the reasons for."""
        if sentences:
            self._await_turn()
        self._waiting[:0] = [partial(log.info, "%s", sentence) for sentence in sentences]

    def _await_turn(self) -> None:
        if not self._waiting:
            asyncio.get_running_loop().call_soon(self._deliver)

    def _deliver(self) -> None:
        tell = self._waiting.pop(0)
        if self._waiting:
            asyncio.get_running_loop().call_soon(self._deliver)
        tell()

    def _tell(self, event: Event, now: float, wall: float) -> None:
        if (step := narration.step_of(event)) is not None:
            self._journal.on_step(*step, now)
        shown = ApiEvent(kind=event.kind, at=iso_utc(wall), fields=dict(event.fields))
        for show in self._faces:
            show(shown)
        self._problems.on_event(event)
        level = logging.INFO if self._log_filter.is_logged(event) else logging.DEBUG
        if log.isEnabledFor(level):
            log.log(level, "%s", narration.line_of(event))

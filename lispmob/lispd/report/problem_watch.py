"""Keeps the list of problems, reports changes to the journal, and starts the diagnosis of silent Map-Servers.

The list is computed shortly after any event, once for several events; and whenever a client asks. Nothing wakes for it
while nothing happens.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable, Iterable
from typing import Final

from msgspec.structs import replace

from lispmob.control.diagnosis import Diagnosis, Finding
from lispmob.control.gate import NonceBook
from lispmob.control.probing.data_doubt import DataDoubts, Question
from lispmob.control.registration import Registration
from lispmob.control_port.icmp_errors import Reason, Unreachable
from lispmob.datapath import model
from lispmob.lispd.alarm import Alarm
from lispmob.lispd.parts import Parts
from lispmob.lispd.report import evidence
from lispmob.lispd.report.complaints import Complaints
from lispmob.lispd.report.detours import Detours
from lispmob.problems.journal import ProblemJournal
from lispmob.problems.problem import Problem, headline
from lispmob.problems.rules import problems_of
from lispmob.protocol.effect import CONTROL_PORT, DATA_PORT, Event, SendControl
from lispmob.protocol.locator_set import LocatorSet
from lispmob.wire.address import IpAddress

SETTLE_S: Final = 0.1  # ours: a move has more urgent work, and causes many events at once
LATELY_S: Final = 300.0  # ours: how long a drop counts as current

_FINDINGS: Final[dict[Reason, Finding]] = {
    "port": Finding.PORT_CLOSED,
    "host": Finding.UNREACHABLE,
    "prohibited": Finding.PROHIBITED,
    "refused-here": Finding.REFUSED_HERE,
}

log = logging.getLogger("lispd")


class ProblemWatch:
    """`on_news` is called when the list changes."""

    def __init__(self, parts: Parts, on_news: Callable[[], None]) -> None:
        self._parts = parts
        self._on_news = on_news
        self._complaints = Complaints()
        self._odd_choices = evidence.OddChoices()
        self._detours = Detours()
        self.nonces = NonceBook(lambda: secrets.randbits(64))
        self._diagnosis = Diagnosis(self.nonces)
        self._data = DataDoubts(lambda remote: evidence.route_to(parts, remote), new_nonce=self.nonces)
        self._alarm = Alarm(self._on_time)
        self._journal = ProblemJournal()
        self._current: tuple[Problem, ...] = ()
        self._timer: asyncio.TimerHandle | None = None
        self._mark_drops: tuple[int, int, float] = (0, 0, float("-inf"))  # seen, recently, when
        self._forbidden: tuple[int, int, float] = (0, 0, float("-inf"))  # refused, sent, when the former grew

    @property
    def headline(self) -> str:
        """The first line of `lispctl status`, as of the last computation."""
        return headline(self._current)

    @property
    def summary(self) -> str:
        """One line for `systemctl status`."""
        count = len(self._parts.uplinks)
        uplinks = f"{count} uplink" if count == 1 else f"{count} uplinks"
        return f"{self.headline}; EID {', '.join(map(str, self._parts.file.eids))}; {uplinks}"

    def look(self) -> tuple[Problem, ...]:
        """The present list, the most severe first."""
        now = self._parts.now()
        odd, detours = self._odd_choices.of(self._parts), self._detours.of(self._parts)
        dropped = self._dropped_by_mark(now)
        filtered = self._data.verdicts(now)
        gathered = evidence.gather(self._parts, self._diagnosis, self._complaints, odd, detours, dropped, filtered)
        refuses_control = self._parts.own_firewall.is_refusing(now)
        new = problems_of(replace(gathered, is_forbidden=self._is_forbidden(now), refuses_control=refuses_control))
        is_news = new != self._current
        self._current = new
        for line in self._journal.on_problems(new, now):
            log.log(logging.WARNING if line.is_warning else logging.INFO, "%s", line.text)
        if is_news:
            self._on_news()
        return new

    def since_s(self, problem: Problem) -> float:
        """How long it has existed, in seconds."""
        began = self._journal.since(problem)
        return 0.0 if began is None else max(0.0, self._parts.now() - began)

    def of(self, eid: str, map_server: str) -> str | None:
        """The obstacle to this registration, in one sentence."""
        about = (f"{eid} at {map_server}", map_server)
        found = next((problem for problem in self._current if problem.subject in about), None)
        return None if found is None else f"{found.what}: {found.cause}"

    def touch(self) -> None:
        """Something may have changed: compute the list soon."""
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(SETTLE_S, self._on_settle_timer)

    def close(self) -> None:
        """Stop."""
        self._alarm.cancel()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def on_event(self, event: Event) -> None:
        """An event of the core."""
        self._complaints.on_event(event.kind, event.fields)
        if event.kind in ("register-timeout", "registered", "withdrawn"):
            self._on_registration(event.kind, str(event.fields.get("eid")), str(event.fields.get("map_server")))
        self.touch()

    def on_datagram(self, payload: bytes) -> bool:
        """True when a control datagram answers a request of ours."""
        is_answer = self._diagnosis.on_datagram(payload) or self._diagnosis.on_map_request(payload)
        is_answer = is_answer or self._data.on_map_reply(payload, in_data=False, now=self._parts.now())
        if is_answer:
            self._settle()
        return is_answer

    def on_punt(self, punt: model.Punt) -> bool:
        """True when a report of the datapath answers a request of ours; others are only evaluated."""
        now = self._parts.now()
        match punt:
            case model.ControlPacket(payload) if self._data.on_map_reply(payload, in_data=True, now=now):
                self._settle()
                return True
            case model.Silent(locator):
                self._ask_in_data(self._data.on_silent(locator, now))
                self._arm()
            case model.HeardAgain(locator):
                self._data.on_heard([locator])
        return False

    def on_heard(self, pairs: Iterable[tuple[IpAddress, IpAddress]]) -> None:
        """Data arrived at these local addresses from those locators."""
        self._data.on_heard(remote for _, remote in pairs)

    def on_unreachable(self, error: Unreachable) -> None:
        """ICMP, or this host's firewall, answered a message that we sent."""
        if error.port == CONTROL_PORT:
            self._diagnosis.on_unreachable(error.destination, _FINDINGS[error.reason], self._parts.now())
            self._settle()

    def _on_registration(self, kind: str, eid: str, map_server: str) -> None:
        told = [
            registration
            for registration in self._parts.node.registrations
            if (str(registration.eid), str(registration.server.address)) == (eid, map_server)
        ]
        for failed in told:
            if kind == "register-timeout":
                self._ask(failed)
            else:
                self._diagnosis.on_confirmed(failed.eid, failed.server.address)
        self._arm()

    def _arm(self) -> None:
        times = (self._diagnosis.wake_at(), self._data.wake_at())
        self._alarm.set(min((at for at in times if at is not None), default=None))

    def _ask_in_data(self, questions: Iterable[Question]) -> None:
        for asked in questions:
            self._parts.engine.data_port.send_control(
                asked.payload, asked.remote, DATA_PORT, asked.local, ifindex=asked.ifindex, data_port="fixed"
            )

    def _ask(self, one: Registration) -> None:
        """By the uplink of its next Map-Register."""
        server = one.server.address
        uplinks = LocatorSet.of(0, self._parts.node.plan.direct).for_family(server.version)
        if uplinks:
            uplink = uplinks[max(0, one.tries - 1) % len(uplinks)]
            now = self._parts.now()
            self._perform(self._diagnosis.on_unconfirmed(one.eid, server, uplink.address, uplink.ifindex, now))

    def _perform(self, effects: Iterable[SendControl]) -> None:
        for effect in effects:
            self._parts.control.send(effect)

    def _on_time(self) -> None:
        now = self._parts.now()
        self._perform(self._diagnosis.on_timer(now))
        self._ask_in_data(self._data.on_timer(now))
        self._settle()

    def _settle(self) -> None:
        self._arm()
        self.touch()

    def _on_settle_timer(self) -> None:
        self._timer = None
        self.look()
        self._on_news()  # other views may have changed too

    def _is_forbidden(self, now: float) -> bool:
        """True while this host's firewall refuses data: it did lately, and none has left since."""
        refused, sent, at = self._forbidden
        counters = self._parts.engine.counters()
        if counters["out_forbidden"] > refused:
            at = now
        elif counters["out_packets"] > sent:
            at = float("-inf")
        self._forbidden = counters["out_forbidden"], counters["out_packets"], at
        return now - at <= LATELY_S

    def _dropped_by_mark(self, now: float) -> int:
        """Packets of the last minutes; the datapath counts from its start."""
        seen, lately, at = self._mark_drops
        count = self._parts.engine.counters()["out_mark_drop"]
        if count > seen:
            lately = count - seen + (lately if now - at <= LATELY_S else 0)
            self._mark_drops = seen, lately, at = count, lately, now
        return lately if now - at <= LATELY_S else 0

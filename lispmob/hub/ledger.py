"""Recent events, moves and problems of this hub. Pure, and of bounded size.

Entries caused by unauthenticated senders are kept apart: they evict only each other.

It is in memory only: after a restart the hub knows the registrations, but not since when they exist.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Mapping
from typing import Any, Final, TypeAlias

import msgspec

from lispmob.protocol.effect import Event

EVENTS_KEPT: Final = 1000
UNPROVED_KEPT: Final = 256  # ours: of events, and of problems, that unauthenticated senders caused
EIDS_KEPT: Final = 65536  # ours: those with the oldest change are evicted first
PROBLEMS_KEPT: Final = 256
PROBLEM_S: Final = 900.0  # ours: a complaint is repeated after a minute, or ten for a pair of nodes
_PROBLEMS: Final = {"duplicate": "duplicate-eid", "auth-failed": "wrong-key", "refused": "refused"}
_ENOUGH: Final = {"refused": 2}  # a single late or misdirected message is normal
_UNPROVED: Final = frozenset({"auth-failed", "refused"})  # of unauthenticated senders, unless a site is named
_SHOWN: Final = frozenset(
    {
        "registered",
        "moved",
        "changed",
        "withdrawn",
        "expired",
        "relay",
        "joined",
        "invited",
        "renumbered",
        "revoked",
        *_PROBLEMS,
    }
)


class Presence(msgspec.Struct):
    """State of one registered EID-Prefix. Times are in seconds since 1970."""

    since: float
    moves: int = 0
    moved_at: float | None = None


class Complaint(msgspec.Struct):
    """One problem."""

    key: str
    subject: str
    text: str
    since: float
    last: float
    count: int = 1


_Complaints: TypeAlias = OrderedDict[tuple[str, str, str], Complaint]


class Ledger:
    """Records events, and answers queries about them."""

    def __init__(self) -> None:
        self._events: deque[dict[str, Any]] = deque(maxlen=EVENTS_KEPT)
        self._unproved: deque[dict[str, Any]] = deque(maxlen=UNPROVED_KEPT)
        self._number = 0
        self._presences: OrderedDict[str, Presence] = OrderedDict()
        self._complaints: _Complaints = OrderedDict()
        self._unproved_complaints: _Complaints = OrderedDict()

    def on_event(self, event: Event, wall: float) -> None:
        """Something happened."""
        if event.kind not in _SHOWN:
            return
        self._number += 1
        is_proved = event.kind not in _UNPROVED or "site" in event.fields
        events = self._events if is_proved else self._unproved
        events.append({"number": self._number, "at": wall, "type": event.kind, **event.fields})
        eid = event.fields.get("eid")
        if isinstance(eid, str):
            self._on_presence(event.kind, eid, wall)
        if event.kind in _PROBLEMS:
            self._on_problem(_PROBLEMS[event.kind], event.fields, wall, is_proved=is_proved)

    def events(self, count: int, after: int = 0) -> list[dict[str, Any]]:
        """The last events with a number greater than `after`, oldest first."""
        known = sorted((*self._events, *self._unproved), key=lambda event: int(event["number"]))
        return [event for event in known[-count:] if event["number"] > after]

    def presence(self, eid: str) -> Presence | None:
        """Since when an EID-Prefix is registered; None: since before this hub started, or it was evicted."""
        return self._presences.get(eid)

    def moves(self, count: int) -> list[dict[str, Any]]:
        """The last moves, newest first."""
        return [event for event in reversed(self._events) if event["type"] == "moved"][:count]

    def complaints(self, wall: float) -> list[Complaint]:
        """The present problems, newest first."""
        known = (*reversed(self._complaints.values()), *reversed(self._unproved_complaints.values()))
        return sorted(
            (
                complaint
                for complaint in known
                if wall - complaint.last < PROBLEM_S and complaint.count >= _ENOUGH.get(complaint.key, 1)
            ),
            key=lambda complaint: -complaint.last,
        )

    def _on_presence(self, kind: str, eid: str, wall: float) -> None:
        if kind in ("withdrawn", "expired"):
            self._presences.pop(eid, None)
        elif kind == "registered":
            self._presences[eid] = Presence(wall)
            self._presences.move_to_end(eid)
        elif kind == "moved" and (presence := self._presences.setdefault(eid, Presence(wall))):
            presence.moves += 1
            presence.moved_at = wall
            self._presences.move_to_end(eid)
        while len(self._presences) > EIDS_KEPT:
            self._presences.popitem(last=False)

    def _on_problem(self, key: str, fields: Mapping[str, Any], wall: float, *, is_proved: bool) -> None:
        subject = str(fields.get("eid") or fields.get("source") or "")
        text = str(fields.get("text") or fields.get("why") or "")
        identity = key, subject, text
        complaints = self._complaints if is_proved else self._unproved_complaints
        known = complaints.pop(identity, None)
        if known is None or wall - known.last >= PROBLEM_S:
            known = Complaint(key, subject, text, wall, wall, 0)
        known.last = wall
        known.count += 1
        complaints[identity] = known
        while len(complaints) > (PROBLEMS_KEPT if is_proved else UNPROVED_KEPT):
            complaints.popitem(last=False)

"""Suspects that a Map-Server knows larger nonces of this node than the node itself uses. Pure.

A copy of this machine that runs for a while, such as a backup that is tried out, has the same key and xTR-ID, and
its nonces begin at the clock of its own start, ahead of ours. When it is gone, the Map-Server drops our Map-Registers
as old, without an answer (RFC 9301, 5.6), and our count would reach its last nonce only much later.

While such a copy runs, the Map-Server says so within a few registers (lispmob/hub/map_server/claims.py). So a
registration that stays unanswered for longer is reason to begin again at the clock. If that was not the reason, nothing
is lost: the count only grows.
"""

from __future__ import annotations

from typing import Final, TypeAlias

import msgspec

from lispmob.protocol.effect import Event

FIRST_S: Final = 12.0  # ours: a Map-Server that sees two machines says so after about seven seconds
LONGEST_S: Final = 3600.0  # ours: each time costs a write to the disk
MAX_KEPT: Final = 64  # ours: more registrations and uplinks than any node has

_FAILURES: Final = frozenset({"register-timeout", "rtr-failed"})
_ENDS: Final = frozenset({"registered", "eid-shared", "withdrawn"})

Place: TypeAlias = tuple[str, str]
"""An EID-Prefix and its Map-Server, or an address and its RTR."""


class _Trouble(msgspec.Struct):
    """Since when a place is unanswered, and how long from then the next doubt waits."""

    since: float
    wait_s: float = FIRST_S


class NonceDoubt:
    """Follows the events of the node's registrations, direct and by RTRs."""

    def __init__(self) -> None:
        self._troubles: dict[Place, _Trouble] = {}

    def on_event(self, event: Event, now: float) -> bool:
        """True when the nonces should begin again at the clock, because the registration stays unanswered."""
        if event.kind in _ENDS:
            self._end(event)
            return False
        if event.kind not in _FAILURES:
            return False
        place = _place(event)
        trouble = self._troubles.setdefault(place, _Trouble(now))
        while len(self._troubles) > MAX_KEPT:
            del self._troubles[next(iter(self._troubles))]
        if now - trouble.since < trouble.wait_s:
            return False
        trouble.since, trouble.wait_s = now, min(2 * trouble.wait_s, LONGEST_S)
        return True

    def _end(self, event: Event) -> None:
        """The Map-Server answers for an EID: whatever an RTR did not confirm was not about nonces."""
        place = _place(event)
        by_rtrs = [other for other in self._troubles if other[0] != place[0] and "/" not in other[0]]
        for other in (place, *by_rtrs):
            self._troubles.pop(other, None)


def _place(event: Event) -> Place:
    fields = event.fields
    if event.kind == "rtr-failed":
        return str(fields.get("rloc")), str(fields.get("rtr"))
    return str(fields.get("eid")), str(fields.get("map_server"))

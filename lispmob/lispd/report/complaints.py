"""Reasons against a registration or an RTR from events, kept until an event clears them. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

_REFUSALS: Final = frozenset({"auth-failed", "register-refused"})
_STILL_AT_IT: Final = "registering"  # the state of NAT traversal in which the reason about an RTR holds


class Complaints:
    """Follows the events of registrations and of NAT traversal."""

    def __init__(self) -> None:
        self._refusals: dict[tuple[str, str], str] = {}
        self._shared: dict[tuple[str, str], str] = {}
        self._failed: dict[str, str] = {}  # by our address

    def refusal(self, eid: str, map_server: str) -> str | None:
        """The last refusal of this registration by a Map-Notify, since it was last confirmed."""
        return self._refusals.get((eid, map_server))

    def shared(self, eid: str, map_server: str) -> str | None:
        """What the last Map-Notify shows of another node that registers the same EID."""
        return self._shared.get((eid, map_server))

    def failed_rtr(self, rloc: str) -> str | None:
        """The RTR that does not answer this local address, if there is no other one."""
        return self._failed.get(rloc)

    def on_event(self, kind: str, fields: Mapping[str, object]) -> None:
        """An event; `kind` and `fields` are those of `control.effect.Event`."""
        place = str(fields.get("eid")), str(fields.get("map_server"))
        if kind in ("registered", "withdrawn"):
            self._refusals.pop(place, None)
            self._shared.pop(place, None)
            if (shared := fields.get("shared")) is not None:
                self._shared[place] = str(shared)
            rtr = fields.get("rtr")
            self._failed = {rloc: failed for rloc, failed in self._failed.items() if failed != rtr}
        elif kind in _REFUSALS:
            self._refusals[place] = str(fields.get("text", kind))
        elif kind == "eid-shared":
            self._shared[place] = str(fields.get("text", kind))
        elif kind == "rtr-failed" and fields.get("next") is None:
            self._failed[str(fields.get("rloc"))] = str(fields.get("rtr"))
        elif kind == "natt-state" and fields.get("to") != _STILL_AT_IT:
            self._failed.pop(str(fields.get("rloc")), None)

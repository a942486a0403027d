"""The events of the core as text for the log and for a handover's timeline. Pure."""

from __future__ import annotations

from typing import Final

from lispmob.protocol.effect import Event

SHOWN_PEERS: Final = 3  # ours: what fits a line of the timeline
_STEPS: Final = {"register-sent": "register", "registered": "notify", "smr-sent": "smr"}


_TOLD: Final = frozenset(
    {
        "registered",
        "moved",
        "withdrawn",
        "natt",
        "natt-absent",
        "uplinks-ranked",
        "shortcut-opened",
        "shortcut-closed",
        "name-registered",
        "name-refused",
    }
)
"""Events that a person would tell a friend. Faults are reported as problems, once."""


class LogFilter:
    """Decides which events are news for the log: the periodic confirmation of a registration is not."""

    def __init__(self) -> None:
        self._registered: dict[tuple[str, str], str] = {}  # (EID, Map-Server) -> the RTR, or ""

    def is_logged(self, event: Event) -> bool:
        """True if the log should have it at INFO."""
        if event.kind == "moved":
            self._registered.clear()  # every confirmation is news again
        if event.kind != "registered":
            return event.kind in _TOLD
        place = str(event.fields.get("eid")), str(event.fields.get("map_server"))
        through = str(event.fields.get("rtr") or "")
        is_change = event.fields.get("is_change") is True or self._registered.get(place) != through
        self._registered[place] = through
        return is_change


def line_of(event: Event) -> str:
    """The event as one line of the log: its kind, then key=value."""
    return " ".join([event.kind, *(f"{key}={_word(value)}" for key, value in event.fields.items())])


def step_of(event: Event) -> tuple[str, str] | None:
    """(step, peer) if the event is a step of a handover."""
    if (what := _STEPS.get(event.kind)) is None:
        return None
    if (server := event.fields.get("map_server")) is not None:
        return what, str(server)
    rlocs = event.fields.get("rlocs")
    told = [str(rloc) for rloc in rlocs] if isinstance(rlocs, list) else []
    more = len(told) - SHOWN_PEERS
    return what, ", ".join(told[:SHOWN_PEERS]) + (f" and {more} more" if more > 0 else "")


def _word(value: object) -> str:
    return (",".join(map(str, value)) or "none") if isinstance(value, list) else str(value)

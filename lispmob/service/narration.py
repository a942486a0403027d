"""The events of the core in the words of the log and of a handover's timeline. Pure."""

from __future__ import annotations

from typing import Final

from lispmob.control.effect import Event

SHOWN_PEERS: Final = 3  # ours: what fits a line of the timeline
_STEPS: Final = {"register-sent": "register", "registered": "notify", "smr-sent": "smr"}


def line_of(event: Event) -> str:
    """The event as one line of the log: its kind, then key=value."""
    return " ".join([event.kind, *(f"{key}={_word(value)}" for key, value in event.fields.items())])


def step_of(event: Event) -> tuple[str, str] | None:
    """(what, whom it went to) when the event is a step of a handover."""
    if (what := _STEPS.get(event.kind)) is None:
        return None
    if (server := event.fields.get("map_server")) is not None:
        return what, str(server)
    rlocs = event.fields.get("rlocs")
    told = [str(each) for each in rlocs] if isinstance(rlocs, list) else []
    more = len(told) - SHOWN_PEERS
    return what, ", ".join(told[:SHOWN_PEERS]) + (f" and {more} more" if more > 0 else "")


def _word(value: object) -> str:
    return (",".join(map(str, value)) or "none") if isinstance(value, list) else str(value)

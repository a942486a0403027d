"""The structs of the control socket as D-Bus values: texts, numbers and dictionaries of variants. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeAlias

import msgspec

from lispmob.api.schema import Handover, Status

ToVariant: TypeAlias = Callable[[str, Any], Any]

# These change all the time: a client that needs them requests the status.
_VOLATILE: Final = frozenset({"next_in_s", "last_notify", "rtt_ms", "since_s"})

SIGNATURES: Final[Mapping[str, str]] = {
    "Version": "s",
    "State": "s",
    "Verdict": "s",
    "Headline": "s",
    "Problems": "aa{sv}",
    "StartedAt": "s",
    "Eids": "as",
    "Registrations": "aa{sv}",
    "Uplinks": "aa{sv}",
    "Locators": "aa{sv}",
    "Routing": "a{sv}",
    "Datapath": "a{sv}",
    "LastHandover": "a{sv}",
}
"""The properties of net.lispmob.Daemon1 and their types."""


def properties(status: Status) -> dict[str, Any]:
    """The properties as plain values: equal when there is nothing to report."""
    return {
        "Version": status.version,
        "State": status.state,
        "Verdict": status.verdict,
        "Headline": status.headline,
        "Problems": [plain(problem) for problem in status.problems],
        "StartedAt": status.started_at,
        "Eids": [eid.prefix for eid in status.eids],
        "Registrations": [
            {"eid": eid.prefix, **plain(registration)} for eid in status.eids for registration in eid.registrations
        ],
        "Uplinks": [plain(uplink) for uplink in status.uplinks],
        "Locators": [plain(locator) for locator in status.locators],
        "Routing": plain(status.routing),
        "Datapath": {"tier": status.datapath.tier, "why": status.datapath.why},
        "LastHandover": handover(status.last_handover) if status.last_handover else {},
    }


def handover(move: Handover) -> dict[str, Any]:
    """A move without its steps."""
    return {key: value for key, value in plain(move).items() if key != "steps"}


def plain(one: msgspec.Struct) -> dict[str, Any]:
    """A struct's fields; those that are not known, and those that never rest, are left out."""
    fields = msgspec.to_builtins(one)
    return {key: value for key, value in fields.items() if value is not None and key not in _VOLATILE}


def marshal(signature: str, value: Any, variant: ToVariant) -> Any:
    """A plain value with variants where the signature has `v`; their types are those of the values."""
    if signature == "a{sv}":
        return {key: variant(*typed(each, variant)) for key, each in value.items()}
    if signature == "aa{sv}":
        return [marshal("a{sv}", item, variant) for item in value]
    return value


def typed(value: Any, variant: ToVariant) -> tuple[str, Any]:
    """A plain value's D-Bus type, and itself: text s, truth b, whole number x, fraction d, lists and dictionaries."""
    match value:
        case bool():
            return "b", value
        case int():
            return "x", value
        case float():
            return "d", value
        case Mapping():
            return "a{sv}", marshal("a{sv}", value, variant)
        case str():
            return "s", value
        case Sequence():
            if value and all(isinstance(item, Mapping) for item in value):
                return "aa{sv}", marshal("aa{sv}", value, variant)
            return "as", [str(item) for item in value]
        case _:
            return "s", "" if value is None else str(value)

"""What stands between us and each Map-Server, in words that name the likely cause. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

ENOUGH_TRIES: Final = 2  # ours: one lost datagram is the weather, two in a row are worth a word

_SAYS_WHY: Final = frozenset({"auth-failed", "register-refused"})


class RegistrationProblems:
    """Follows the events of the registrations; a problem stands until the Map-Server confirms."""

    def __init__(self) -> None:
        self._problems: dict[tuple[str, str], str] = {}
        self._deaf: dict[str, str] = {}  # by the RLOC that nothing comes back to

    def on_event(self, kind: str, fields: Mapping[str, object]) -> str | None:
        """A sentence for the log when a problem is new, else None."""
        rloc = str(fields.get("rloc", ""))
        if kind == "rtr-deaf":
            self._deaf[rloc] = str(fields.get("text", kind))
            return None  # the event itself is in the log
        if kind in ("rtr-heard", "natt-state"):
            self._deaf.pop(rloc, None)
            return None
        place = str(fields.get("eid", "")), str(fields.get("map_server", ""))
        if kind in ("registered", "withdrawn"):
            self._problems.pop(place, None)
            return None
        if (problem := self._problem(kind, fields, self._problems.get(place))) is None:
            return None
        is_new = place not in self._problems or kind in _SAYS_WHY
        self._problems[place] = problem
        eid, server = place
        return f"{eid} is not registered at {server}: {problem}" if is_new else None

    def of(self, eid: str, map_server: str) -> str | None:
        """Why this registration does not stand, when that is known."""
        return self._problems.get((eid, map_server)) or next(iter(self._deaf.values()), None)

    @staticmethod
    def _problem(kind: str, fields: Mapping[str, object], known: str | None) -> str | None:
        if kind in _SAYS_WHY:
            return str(fields.get("text", kind))
        if kind != "register-timeout":
            return None
        tries = fields.get("tries")
        if not isinstance(tries, int) or tries < ENOUGH_TRIES:
            return None
        if known is not None and not known.startswith("no answer"):
            return known  # silence after a refusal: the refusal says more
        return (
            f"no answer to {tries} Map-Registers: the key differs, UDP port 4342 is filtered, "
            "or the Map-Server is down or does not know this EID"
        )

"""The application of a control group, by the naming of systemd and desktop units; pure.

Desktops start each application in a unit of its own (systemd, "Desktop Environment Integration"): a scope
`app[-LAUNCHER]-ID-RANDOM.scope`, or a service `app[-LAUNCHER]-ID[@RANDOM].service`, with the desktop file's name as ID,
in which "-" is written `\\x2d`. Snap has `snap.NAME.APP-UUID.scope`. A plain service is named after itself.
"""

from __future__ import annotations

import re
from fnmatch import fnmatchcase
from typing import Final

_ESCAPED: Final = re.compile(r"\\x([0-9a-f]{2})")
_SNAP: Final = re.compile(r"snap\.([^.]+)\.([^.]+?)[-.][0-9a-f-]{36}\.scope")
DESKTOP_FILE: Final = ".desktop"


def app_names(unit: str) -> frozenset[str]:
    """The names of a unit's application, in lower case: its ID, and the last part of that; empty for none.

    `unit` is the last part of a control group's path.
    """
    if (snap := _SNAP.fullmatch(unit)) is not None:
        return frozenset({snap[1].lower(), snap[2].lower()})
    name, dot, kind = unit.rpartition(".")
    if not dot or kind not in ("scope", "service"):
        return frozenset()
    if kind == "service":
        name = name.partition("@")[0]
    if name.startswith("app-"):
        words = name.split("-")[1:]
        if kind == "scope" and len(words) > 1:
            words.pop()  # random, so that each start has a unit of its own
        name = words[-1] if words else ""
    elif kind == "scope":
        return frozenset()
    whole = _ESCAPED.sub(lambda found: chr(int(found[1], 16)), name).lower()
    return frozenset({whole, whole.rpartition(".")[2]} - {""})


def is_app(unit: str, pattern: str) -> bool:
    """Whether a unit belongs to an application: its name, a shell pattern of it, or the name of its desktop file."""
    wanted = pattern.lower().removesuffix(DESKTOP_FILE)
    return any(fnmatchcase(name, wanted) for name in app_names(unit))


def is_within_app(path: str, pattern: str) -> bool:
    """Whether a control group is an application's, or below it."""
    return any(is_app(unit, pattern) for unit in path.split("/"))

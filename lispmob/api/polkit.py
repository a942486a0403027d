"""Ask polkit whether a D-Bus caller may do something. Without polkit only root may."""

from __future__ import annotations

import logging
import os
from typing import Any, Final

from lispmob.bus.connection import BUS_NAME, BUS_PATH, BusError, Connection

NAME: Final = "org.freedesktop.PolicyKit1"
PATH: Final = "/org/freedesktop/PolicyKit1/Authority"
AUTHORITY: Final = "org.freedesktop.PolicyKit1.Authority"

_ALLOW_USER_INTERACTION: Final = 1
_ASK_S: Final = 120.0  # ours: the time to find a password; the caller gives up on its own before
_ANSWER_S: Final = 10.0  # ours: polkit is started by the call, and runs rules written in JavaScript
_NOT_THERE: Final = frozenset(
    {
        "org.freedesktop.DBus.Error.ServiceUnknown",
        "org.freedesktop.DBus.Error.NameHasNoOwner",
        "org.freedesktop.DBus.Error.Spawn.ServiceNotFound",
        "org.freedesktop.systemd1.NoSuchUnit",
    }
)

log = logging.getLogger(__name__)


async def is_authorized(bus: Connection, caller: str, action: str, *, may_ask: bool) -> bool:
    """True when `caller`, a unique name, may do `action`. Errors of polkit's count as no. Raises BusError: no bus."""
    (uid,) = await bus.call(BUS_NAME, BUS_PATH, BUS_NAME, "GetConnectionUnixUser", "s", caller)
    if uid in (0, os.geteuid()):
        return True
    subject = ["system-bus-name", {"name": bus.variant("s", caller)}]
    flags = _ALLOW_USER_INTERACTION if may_ask else 0
    arguments: tuple[Any, ...] = (subject, action, {}, flags, "")
    try:
        ((is_yes, *_),) = await bus.call(
            *(NAME, PATH, AUTHORITY, "CheckAuthorization", "(sa{sv})sa{ss}us", *arguments),
            timeout_s=_ASK_S if may_ask else _ANSWER_S,
        )
    except BusError as error:
        if error.name not in _NOT_THERE:
            log.warning("polkit did not decide, which counts as no action=%s why=%s", action, error)
        return False
    return bool(is_yes)

"""Starts and stops a service by systemd over D-Bus, for permitted users: polkit asks for a password if necessary."""

from __future__ import annotations

import asyncio
from typing import Final

from lispmob.bus.connection import BusError, Connection, libraries
from lispmob.bus.system_bus import system_bus_address
from lispmob.errors import LispError

SYSTEMD: Final = "org.freedesktop.systemd1"
_PATH: Final = "/org/freedesktop/systemd1"
_MANAGER: Final = "org.freedesktop.systemd1.Manager"
_UNIT: Final = "org.freedesktop.systemd1.Unit"
PASSWORD_S: Final = 120.0  # ours: the time to find a password
DONE_S: Final = 20.0  # ours: lispd starts in two seconds, and stops in one
_LOOK_S: Final = 0.1
_DENIED: Final = frozenset(
    {"org.freedesktop.DBus.Error.AccessDenied", "org.freedesktop.DBus.Error.InteractiveAuthorizationRequired"}
)
_NO_SYSTEMD: Final = frozenset(
    {
        "net.lispmob.NoBus",
        "org.freedesktop.DBus.Error.ServiceUnknown",
        "org.freedesktop.DBus.Error.NameHasNoOwner",
        "org.freedesktop.DBus.Error.Spawn.ExecFailed",
    }
)


class NotDone(LispError):
    """The service is unchanged, or did not start; the text says why and what to do."""


class NotAllowed(NotDone):
    """This user may not do that."""

    exit_code = 77  # sysexits.h: EX_NOPERM


async def switch(bus: Connection, unit: str, *, on: bool) -> None:
    """Start or stop a unit, and wait until it is so. Raises NotDone."""
    member = "StartUnit" if on else "StopUnit"
    try:
        await bus.call(*(SYSTEMD, _PATH, _MANAGER, member, "ss", unit, "replace"), timeout_s=PASSWORD_S, may_ask=True)
        (path,) = await bus.call(SYSTEMD, _PATH, _MANAGER, "LoadUnit", "s", unit)
        deadline = asyncio.get_running_loop().time() + DONE_S
        while (state := await _state(bus, path)) in ("activating", "deactivating", "reloading"):
            if asyncio.get_running_loop().time() >= deadline:
                break
            await asyncio.sleep(_LOOK_S)
    except BusError as error:
        raise _refusal(error, unit, on=on) from None
    if (state == "active") is not on:
        raise NotDone(f"{unit} is {state}; why: sudo journalctl -u {unit} -n 20")


async def _state(bus: Connection, path: str) -> str:
    (state,) = await bus.call(SYSTEMD, path, "org.freedesktop.DBus.Properties", "Get", "ss", _UNIT, "ActiveState")
    return str(state)


def _refusal(error: BusError, unit: str, *, on: bool) -> NotDone:
    verb = "start" if on else "stop"
    if error.name in _DENIED:
        return NotAllowed(
            f"you may not {verb} {unit}: root may, and the user at this machine, if polkit runs; try: sudo "
            f"systemctl {verb} {unit}"
        )
    if error.name in _NO_SYSTEMD:
        return NotDone(f"systemd does not answer here ({error.text}); {verb} lispd as this host starts its services")
    return NotDone(f"{unit}: {error.text}")


def switch_once(unit: str, *, on: bool) -> None:
    """The same, for a command. Raises NotDone."""

    async def run() -> None:
        try:
            bus = Connection(next(iter(libraries()), ""), system_bus_address(), (), None)
            await bus.open()
        except (BusError, OSError, ValueError) as error:
            raise NotDone(f"there is no system bus ({error}); {'start' if on else 'stop'} lispd as root") from None
        try:
            await switch(bus, unit, on=on)
        finally:
            await bus.close()

    asyncio.run(run())

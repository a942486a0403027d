"""Listens to logind: the machine is about to sleep, or has just woken up.

Without logind, the difference of the kernel's clocks after a suspend is the fallback.

No inhibitor lock delays the sleep, because nothing has to be done before it: to peers it is the loss of a network,
which they detect themselves, and a withdrawal would also remove the locators for a suspend of seconds.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from lispmob.bus.connection import Connection, Signal

NAME: Final = "org.freedesktop.login1"
PATH: Final = "/org/freedesktop/login1"
MANAGER: Final = "org.freedesktop.login1.Manager"


class SleepWatch:
    """Calls `on_sleep(True)` before a suspend and `on_sleep(False)` after it. A BusClient."""

    def __init__(self, on_sleep: Callable[[bool], None]) -> None:
        self._on_sleep = on_sleep

    async def on_bus(self, bus: Connection) -> None:
        """Subscribe; a logind that comes later is heard too."""
        await bus.subscribe(
            f"type='signal',sender='{NAME}',path='{PATH}',interface='{MANAGER}',member='PrepareForSleep'"
        )
        await bus.follow(NAME)

    def on_bus_lost(self) -> None:
        """The fallback continues."""

    def on_owner(self, name: str, is_there: bool) -> None:
        """The fallback continues."""

    def on_signal(self, signal: Signal) -> None:
        """PrepareForSleep(b)."""
        if (signal.sender, signal.interface, signal.member) == (NAME, MANAGER, "PrepareForSleep") and signal.body:
            self._on_sleep(bool(signal.body[0]))

"""A desktop session for tests: a watcher of status notifier items, a notification server, and systemd's manager."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final

from lispmob.bus.connection import BusError, Call, Connection, Signal, libraries

WATCHER: Final = "org.kde.StatusNotifierWatcher"
NOTIFICATIONS: Final = "org.freedesktop.Notifications"
SYSTEMD: Final = "org.freedesktop.systemd1"
ITEM: Final = "org.kde.StatusNotifierItem"
MENU: Final = "com.canonical.dbusmenu"
PROPERTIES: Final = "org.freedesktop.DBus.Properties"


class Panel:
    """Everything in a session that the indicator talks to; records what it gets."""

    def __init__(self) -> None:
        self.items: list[str] = []
        self.notified: list[tuple[str, str]] = []
        self.signals: list[Signal] = []
        self.bus: Connection | None = None

    async def open(self, address: str, *names: str) -> None:
        """Take the names of a desktop on this bus."""
        self.bus = Connection(libraries()[0], address, [self], self)
        await self.bus.open()
        for name in names:
            await self.bus.take_name(name)
        await self.bus.subscribe(f"type='signal',interface='{MENU}'")
        await self.bus.subscribe(f"type='signal',interface='{ITEM}'")

    async def close(self) -> None:
        """End the panel."""
        assert self.bus is not None
        await self.bus.close()

    async def on_bus(self, bus: Connection) -> None: ...

    def on_bus_lost(self) -> None: ...

    def on_owner(self, name: str, is_there: bool) -> None: ...

    def on_signal(self, signal: Signal) -> None:
        self.signals.append(signal)

    async def on_call(self, call: Call) -> tuple[str, list[Any]]:
        match call.interface, call.member:
            case _, "RegisterStatusNotifierItem":
                self.items.append(call.body[0])
                return "", []
            case _, "Notify":
                self.notified.append((call.body[3], call.body[4]))
                return "u", [len(self.notified)]
        raise BusError("org.freedesktop.DBus.Error.UnknownMethod", call.member)

    # --- what a panel asks of the item

    async def item(self, name: str) -> Any:
        """A property of the icon."""
        assert self.bus is not None
        (value,) = await self.bus.call(self.items[-1], "/StatusNotifierItem", PROPERTIES, "Get", "ss", ITEM, name)
        return value

    async def menu(self) -> dict[int, dict[str, Any]]:
        """Every line of the menu, by number."""
        assert self.bus is not None
        _, root = await self.bus.call(self.items[-1], "/MenuBar", MENU, "GetLayout", "iias", 0, -1, [])
        found: dict[int, dict[str, Any]] = {}

        def walk(line: Any) -> None:
            number, properties, children = line
            found[number] = properties
            for child in children:
                walk(child)

        walk(root)
        return found

    async def labels(self) -> list[str]:
        """The labels of the lines."""
        return [line["label"] for line in (await self.menu()).values() if "label" in line]

    async def click(self, label: str) -> None:
        """Click on a line."""
        assert self.bus is not None
        number = next(number for number, line in (await self.menu()).items() if line.get("label") == label)
        variant = self.bus.variant("i", 0)
        await self.bus.call(self.items[-1], "/MenuBar", MENU, "Event", "isvu", number, "clicked", variant, 0)


class Systemd:
    """systemd's manager. `on_switch` gets each request, and may refuse it."""

    def __init__(self, on_switch: Callable[[str, str], None]) -> None:
        self._on_switch = on_switch
        self.state = "active"
        self.stays: str | None = None
        self.bus: Connection | None = None

    async def open(self, address: str) -> None:
        """Take its name on this bus."""
        self.bus = Connection(libraries()[0], address, [], self)
        await self.bus.open()
        await self.bus.take_name(SYSTEMD)

    async def close(self) -> None:
        """Give the name back."""
        assert self.bus is not None
        await self.bus.close()

    async def on_bus(self, bus: Connection) -> None: ...

    def on_bus_lost(self) -> None: ...

    def on_owner(self, name: str, is_there: bool) -> None: ...

    def on_signal(self, signal: Signal) -> None: ...

    async def on_call(self, call: Call) -> tuple[str, list[Any]]:
        assert self.bus is not None
        match call.member:
            case "StartUnit" | "StopUnit":
                self._on_switch(call.member, call.body[0])
                self.state = self.stays or ("active" if call.member == "StartUnit" else "inactive")
                return "o", ["/org/freedesktop/systemd1/job/1"]
            case "LoadUnit":
                return "o", ["/org/freedesktop/systemd1/unit/lispd_2eservice"]
            case "Get":
                return "v", [self.bus.variant("s", self.state)]
        raise BusError("org.freedesktop.DBus.Error.UnknownMethod", call.member)


async def until(is_so: Callable[[], Any], what: str, timeout_s: float = 10.0) -> None:
    """Return once `is_so` is true; it may be a coroutine function."""
    async with asyncio.timeout(timeout_s):
        while True:
            found = is_so()
            if asyncio.iscoroutine(found):
                found = await found
            if found:
                return
            await asyncio.sleep(0.02)
    raise AssertionError(what)

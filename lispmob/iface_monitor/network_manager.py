"""Listens to NetworkManager over D-Bus. It adds to the state from netlink, and never replaces it.

NetworkManager may come, go and restart while we run; without it the state is empty and netlink continues alone. Only
the necessary signals are subscribed to: a Wi-Fi scan, which it reports access point by access point, causes no wake-up.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from typing import Any, Final, TypeAlias

from lispmob.bus.connection import BusError, Connection, Signal
from lispmob.iface_monitor.network_manager_state import ManagerState, explain

NAME: Final = "org.freedesktop.NetworkManager"
PATH: Final = "/org/freedesktop/NetworkManager"
DEVICE: Final = "org.freedesktop.NetworkManager.Device"
ACTIVE: Final = "org.freedesktop.NetworkManager.Connection.Active"
ACCESS_POINT: Final = "org.freedesktop.NetworkManager.AccessPoint"
PROPERTIES: Final = "org.freedesktop.DBus.Properties"

_DEVICES_PATH: Final = "/org/freedesktop/NetworkManager/Devices/"
_ACCESS_POINT_PATH: Final = "/org/freedesktop/NetworkManager/AccessPoint/"
_MAX_DEVICES: Final = 256  # ours: more than any host has that moves
_ASK_AGAIN_S: Final = 0.1  # ours: it needs some tenths of a second to get ready
_ASK_LAST_S: Final = 10.0  # ours: one that never answers costs no battery
_RULES: Final = (
    f"type='signal',sender='{NAME}',path='{PATH}',interface='{NAME}'",
    f"type='signal',sender='{NAME}',path='{PATH}',interface='{PROPERTIES}',member='PropertiesChanged',arg0='{NAME}'",
    f"type='signal',sender='{NAME}',interface='{DEVICE}',member='StateChanged'",
    f"type='signal',sender='{NAME}',interface='{PROPERTIES}',member='PropertiesChanged',arg0='{DEVICE}'",
)

OnNetworkManager: TypeAlias = Callable[[ManagerState, list[str], float], None]

log = logging.getLogger(__name__)


class NetworkManagerWatch:
    """Keeps a `ManagerState` current and calls `on_change(nm_state, reasons, since)` for every difference.

    `since` is the loop's time at which the last signal was read; `reasons` are sentences for people and may be empty.
    The callback runs inside the loop. A BusClient for a SystemBus.
    """

    def __init__(self, on_change: OnNetworkManager) -> None:
        self._on_change = on_change
        self._nm_state = ManagerState()
        self._bus: Connection | None = None
        self._is_known = False
        self._heard_at = 0.0
        self._manager: dict[str, Any] = {}
        self._devices: dict[str, dict[str, Any]] = {}
        self._news: dict[str, dict[str, Any]] = {}
        self._primary_path: str | None = None
        self._connections: dict[str, dict[str, Any]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def nm_state(self) -> ManagerState:
        """The last reported one."""
        return self._nm_state

    async def on_bus(self, bus: Connection) -> None:
        """Subscribe, and read its state if it runs already."""
        self._bus = bus
        for rule in _RULES:
            await bus.subscribe(rule)
        await bus.follow(NAME)

    def on_bus_lost(self) -> None:
        """Everything is unknown again."""
        self._bus = None
        self._forget()

    def on_owner(self, name: str, is_there: bool) -> None:
        """NetworkManager came or went."""
        if name != NAME:
            return
        self._heard_at = asyncio.get_running_loop().time()
        self._forget()
        if is_there:
            self._spawn(self._look_until_known)

    def on_signal(self, signal: Signal) -> None:
        """One change; applied at once, with a query only if the signal is incomplete."""
        if signal.sender == NAME:
            self._heard_at = asyncio.get_running_loop().time()
            self._on_news(signal)

    def _on_news(self, signal: Signal) -> None:
        match signal.interface, signal.member, signal.body:
            case "org.freedesktop.NetworkManager", "DeviceAdded", (str() as path,):
                self._spawn(lambda: self._look_at_device(path))
                return
            case "org.freedesktop.NetworkManager", "DeviceRemoved", (str() as path,):
                self._devices.pop(path, None)
            case "org.freedesktop.NetworkManager.Device", "StateChanged", (new, _, reason):
                self._update(signal.path, {"State": new, "StateReason": [new, reason]})
            case "org.freedesktop.DBus.Properties", "PropertiesChanged", (str() as interface, dict() as changed, *_):
                self._merge(signal.path, interface, changed)
            case _:
                return
        self._publish()

    def _merge(self, path: str, interface: str, changed: dict[str, Any]) -> None:
        if interface == NAME:
            self._manager.update(changed)
            if (news := self._news.get(path)) is not None:
                news.update(changed)
            if "PrimaryConnection" in changed:
                self._spawn(self._look_at_primary)
        elif interface == DEVICE:
            # A change of state comes in three signals; the last one, StateChanged, has state and reason together.
            self._update(path, {key: value for key, value in changed.items() if key not in ("State", "StateReason")})
            if (connection := changed.get("ActiveConnection")) is not None:
                self._spawn(lambda: self._look_at_connection(connection))

    def _update(self, path: str, changed: dict[str, Any]) -> None:
        """Changed properties of a device, which may still be in the middle of its first query."""
        for known in (self._devices.get(path), self._news.get(path)):
            if known is not None:
                known.update(changed)

    async def _look_until_known(self) -> None:
        """NetworkManager takes its name before it can answer: repeat the query until it does."""
        pause_s = _ASK_AGAIN_S
        while True:
            try:
                await self._look()
            except BusError as error:
                log.debug("NetworkManager does not answer yet why=%s", error)
            else:
                return
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, _ASK_LAST_S)

    async def _look(self) -> None:
        """Query everything; the answers are newer than any signal that arrived before them."""
        assert self._bus is not None
        self._manager = await self._ask(PATH, NAME)
        paths = self._manager.get("AllDevices") or self._manager.get("Devices") or []
        for path in paths[:_MAX_DEVICES]:
            await self._look_at_device(path)
        self._is_known = True
        await self._look_at_primary()

    async def _look_at_device(self, path: str) -> None:
        try:
            known = await self._ask(path, DEVICE)
        except BusError:  # it went away meanwhile; its signal follows
            return
        if len(self._devices) < _MAX_DEVICES and path.startswith(_DEVICES_PATH):
            self._devices[path] = known
        self._publish()
        await self._look_at_connection(known.get("ActiveConnection"))

    async def _look_at_connection(self, path: object) -> None:
        """The network of a device: the name of its connection, and of the access point for Wi-Fi."""
        used = {device.get("ActiveConnection") for device in self._devices.values()}
        self._connections = {known: found for known, found in self._connections.items() if known in used}
        if not isinstance(path, str) or path == "/" or path in self._connections or path not in used:
            return
        found = await self._ask(path, ACTIVE)
        point = found.get("SpecificObject")
        if isinstance(point, str) and point.startswith(_ACCESS_POINT_PATH):
            with contextlib.suppress(BusError):  # it is out of range already
                found["Ssid"] = (await self._ask(point, ACCESS_POINT)).get("Ssid")
        self._connections[path] = found
        self._publish()

    async def _look_at_primary(self) -> None:
        path = self._manager.get("PrimaryConnection")
        self._primary_path = None
        if isinstance(path, str) and path != "/":
            try:
                devices = (await self._ask(path, ACTIVE)).get("Devices")
            except BusError:  # replaced by the next one already
                devices = None
            if isinstance(devices, list) and devices and self._manager.get("PrimaryConnection") == path:
                self._primary_path = str(devices[0])
        self._publish()

    async def _ask(self, path: str, interface: str) -> dict[str, Any]:
        if self._bus is None:
            raise BusError("org.freedesktop.DBus.Error.Disconnected", "the bus is gone")
        # Signals right after the answer are read before this line: what they say since the query takes precedence.
        news = self._news.setdefault(path, {})
        try:
            (found,) = await self._bus.call(NAME, path, PROPERTIES, "GetAll", "s", interface)
        finally:
            self._news.pop(path, None)
        return {**found, **news}

    def _spawn(self, look: Callable[[], Any]) -> None:
        task = asyncio.get_running_loop().create_task(self._quietly(look))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _quietly(self, look: Callable[[], Any]) -> None:
        try:
            await look()
        except BusError as error:  # it went away, or restarts: another NameOwnerChanged follows
            log.debug("NetworkManager did not answer why=%s", error)

    def _forget(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        self._is_known = False
        self._manager, self._devices, self._connections, self._primary_path = {}, {}, {}, None
        self._publish()

    def _publish(self) -> None:
        """Report differences; none before the first query is complete."""
        nm_state = ManagerState()
        if self._is_known:
            nm_state = ManagerState.of(self._manager, self._devices, self._primary_path, self._connections)
        old, self._nm_state = self._nm_state, nm_state
        if old != nm_state:
            self._on_change(nm_state, explain(old, nm_state), self._heard_at)

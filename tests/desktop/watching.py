"""A NetworkManagerWatch on a bus, and everything that it reported."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable

from lispmob.bus.connection import BusClient, Connection, Signal
from lispmob.bus.system_bus import SystemBus
from lispmob.iface_monitor.network_manager import NetworkManagerWatch
from lispmob.iface_monitor.network_manager_state import ManagerState
from lispmob.iface_monitor.sleep import SleepWatch


class Watch:
    """What was reported, and when, in monotonic seconds."""

    def __init__(self) -> None:
        self.nm_states: list[ManagerState] = []
        self.reasons: list[str] = []
        self.delays_s: list[float] = []
        self.sleeps: list[bool] = []
        self.watch = NetworkManagerWatch(self._on_change)
        self.bus: Connection | None = None
        self._told = asyncio.Event()

    @property
    def nm_state(self) -> ManagerState:
        return self.watch.nm_state

    def _on_change(self, nm_state: ManagerState, reasons: list[str], since: float) -> None:
        self.nm_states.append(nm_state)
        self.reasons += reasons
        self.delays_s.append(time.monotonic() - since)
        self._told.set()

    def on_sleep(self, is_falling_asleep: bool) -> None:
        self.sleeps.append(is_falling_asleep)
        self._told.set()

    async def until(self, is_so: Callable[[], bool], timeout_s: float = 20.0) -> None:
        async with asyncio.timeout(timeout_s):
            while not is_so():
                self._told.clear()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._told.wait(), 0.2)


class Capture:
    """Remembers the connection, for tests that call methods on it."""

    def __init__(self, watch: Watch) -> None:
        self._watch = watch

    async def on_bus(self, bus: Connection) -> None:
        self._watch.bus = bus

    def on_bus_lost(self) -> None:
        self._watch.bus = None

    def on_owner(self, name: str, is_there: bool) -> None: ...

    def on_signal(self, signal: Signal) -> None: ...


@contextlib.asynccontextmanager
async def watching(address: str, library: str) -> AsyncIterator[Watch]:
    """Listen to NetworkManager and logind on this bus."""
    watch = Watch()
    clients: list[BusClient] = [watch.watch, SleepWatch(watch.on_sleep), Capture(watch)]
    bus = SystemBus(clients, address=address, library=library)
    await bus.start()
    try:
        yield watch
    finally:
        await bus.stop()

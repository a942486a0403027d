"""Follows lispd on the system bus: its properties, its peers, and its moves (adapter)."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from lispmob.bus.connection import BusError, Connection, Signal
from lispmob.bus.units import NotDone, switch

NAME: Final = "net.lispmob.Daemon1"
PATH: Final = "/net/lispmob/Daemon1"
_STANDARD: Final = "org.freedesktop.DBus"
UNIT: Final = "lispd.service"
SETTLE_S: Final = 0.2  # ours: signals within this time cause a single query
MOVED_S: Final = 1.0  # ours: by then lispd knows how many packets the move has lost


class DaemonWatch:
    """A client of the system bus.

    `on_facts` receives properties and peers, `on_move` a handover after it has completed.

    A query never starts lispd, because a user who has stopped it wants it to stay stopped.
    """

    def __init__(
        self,
        on_facts: Callable[[Mapping[str, Any], Sequence[Mapping[str, Any]]], None],
        on_move: Callable[[Mapping[str, Any]], None],
    ) -> None:
        self._on_facts, self._on_move = on_facts, on_move
        self._bus: Connection | None = None
        self._is_there = False
        self._look_timer: asyncio.TimerHandle | None = None
        self._move_timer: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._properties: Mapping[str, Any] = {}

    async def on_bus(self, bus: Connection) -> None:
        """Follow lispd."""
        self._bus = bus
        await bus.subscribe(f"type='signal',sender='{NAME}',path='{PATH}'")
        await bus.follow(NAME)
        if not self._is_there:
            self._on_facts({}, ())

    def on_bus_lost(self) -> None:
        """Forget the state: without the bus it is unknown."""
        self._bus, self._is_there = None, False
        self._on_facts({}, ())

    def on_owner(self, name: str, is_there: bool) -> None:
        """lispd appeared on the bus, or disappeared."""
        if name == NAME:
            self._is_there = is_there
            if is_there:
                self.look()
            else:
                self._properties = {}
                self._on_facts({}, ())

    def on_signal(self, signal: Signal) -> None:
        """Query the state. `Moved` is reported after MOVED_S, when the cost of the move is known."""
        if signal.sender != NAME:
            return
        self.look()
        if signal.interface == NAME and signal.member == "Moved" and self._move_timer is None:
            self._move_timer = asyncio.get_running_loop().call_later(MOVED_S, self._moved)

    def look(self) -> None:
        """Query all properties and peers, after SETTLE_S."""
        if self._is_there and self._look_timer is None:
            self._look_timer = asyncio.get_running_loop().call_later(SETTLE_S, self._start_look)

    async def switch(self, *, on: bool) -> str:
        """Start or stop lispd, and so join or leave the overlay. Returns "", or why it failed."""
        if self._bus is None:
            return "there is no system bus"
        try:
            await switch(self._bus, UNIT, on=on)
        except NotDone as error:
            return str(error)
        return ""

    def _start_look(self) -> None:
        self._look_timer = None
        self._spawn(self._look())

    def _moved(self) -> None:
        self._move_timer = None
        self._spawn(self._tell_move())

    def _spawn(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _tell_move(self) -> None:
        await self._look()
        if self._properties.get("LastHandover"):
            self._on_move(self._properties["LastHandover"])

    async def _look(self) -> None:
        if self._bus is None or not self._is_there:
            return
        try:
            (self._properties,) = await self._bus.call(
                NAME, PATH, f"{_STANDARD}.Properties", "GetAll", "s", NAME, starts_service=False
            )
            (text,) = await self._bus.call(NAME, PATH, NAME, "GetPeers", starts_service=False)
            peers = json.loads(text)
        except (BusError, ValueError):  # lispd is stopping, or older than this program
            peers = []
        if self._is_there and self._properties:
            self._on_facts(self._properties, peers)

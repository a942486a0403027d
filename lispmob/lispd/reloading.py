"""What a reload may change while packets flow, and what needs a restart; and the reload on a signal."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

import msgspec

from lispmob.api.schema import Reloaded
from lispmob.config.node import NodeFile, load_node
from lispmob.errors import ConfigError

log = logging.getLogger("lispd")

PAUSE_S: Final = 1.0  # ours: files are not edited more often

# A device, a socket and a directory are opened once.
NEEDS_RESTART: Final = ("tun", "control", "flows", "dbus", "state_dir")


def compare(old: NodeFile, new: NodeFile) -> tuple[list[str], list[str]]:
    """(changed keys, those among them that need a restart), in the order of the file."""
    keys = dict(zip(old.__struct_fields__, old.__struct_encode_fields__, strict=True))
    changed = [name for name in keys if getattr(old, name) != getattr(new, name)]
    return [keys[name] for name in changed], [keys[name] for name in changed if name in NEEDS_RESTART]


def merge(old: NodeFile, new: NodeFile) -> NodeFile:
    """The new configuration, with the former values where a restart is needed."""
    kept = {name: getattr(old, name) for name in NEEDS_RESTART}
    return msgspec.structs.replace(new, **kept, log=msgspec.structs.replace(new.log, record=old.log.record))


class Seldom:
    """Serialises reloads, with a pause between; all requests during the pause share the next one.

    The user at the seat needs no password for a reload, and each takes some milliseconds of the event loop.
    """

    def __init__(self, reload: Callable[[], Awaitable[Reloaded]], pause_s: float = PAUSE_S) -> None:
        self._reload = reload
        self._pause_s = pause_s
        self._next: asyncio.Task[Reloaded] | None = None
        self._lock = asyncio.Lock()
        self._ready_at = float("-inf")

    async def __call__(self) -> Reloaded:
        if self._next is None:
            self._next = asyncio.get_running_loop().create_task(self._run())
        return await asyncio.shield(self._next)

    async def _run(self) -> Reloaded:
        loop = asyncio.get_running_loop()
        async with self._lock:
            await asyncio.sleep(max(0.0, self._ready_at - loop.time()))
            self._next = None  # from here on the file may have changed again
            try:
                return await self._reload()
            finally:
                self._ready_at = loop.time() + self._pause_s


class Reader:
    """Reads the configuration outside the loop, because a large one takes seconds; in order of request."""

    def __init__(self) -> None:
        self._lock = asyncio.Lock()

    async def read(self, path: Path) -> NodeFile:
        """The present contents of the file. Raises ConfigError."""
        async with self._lock:
            return await asyncio.to_thread(load_node, path)


class OnSignal:
    """Called for SIGHUP: reloads in a task; errors of the configuration go to the log."""

    def __init__(self, reload: Callable[[], Awaitable[object]]) -> None:
        self._reload = reload
        self._task: asyncio.Task[None] | None = None

    def __call__(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._quietly())

    async def _quietly(self) -> None:
        try:
            await self._reload()
        except ConfigError as error:
            log.error("the old configuration stays in use: %s", error)

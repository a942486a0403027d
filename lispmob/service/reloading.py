"""What a reload may change while packets flow, and what waits for a restart; and the reload that a signal asks for."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final

import msgspec

from lispmob.config.node import NodeFile
from lispmob.errors import ConfigError

log = logging.getLogger("lispd")

# A device, a socket and a directory are opened once.
NEEDS_RESTART: Final = ("tun", "control", "flows", "dbus", "state_dir")


def compare(old: NodeFile, new: NodeFile) -> tuple[list[str], list[str]]:
    """(keys that changed, those among them that wait for a restart), as they stand in the file."""
    keys = dict(zip(old.__struct_fields__, old.__struct_encode_fields__, strict=True))
    changed = [name for name in keys if getattr(old, name) != getattr(new, name)]
    return [keys[name] for name in changed], [keys[name] for name in changed if name in NEEDS_RESTART]


def merge(old: NodeFile, new: NodeFile) -> NodeFile:
    """The new configuration, with what waits for a restart as it was."""
    return msgspec.structs.replace(new, **{name: getattr(old, name) for name in NEEDS_RESTART})


class OnSignal:
    """Called for SIGHUP: reloads in a task of its own; what is wrong with the configuration goes to the log."""

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

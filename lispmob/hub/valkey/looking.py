"""Reads single EID-Prefixes from the servers; simultaneous queries for the same prefix are one (adapter)."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Final

from lispmob.hub.valkey import keys
from lispmob.hub.valkey.servers import Script, Servers
from lispmob.wire.address import EidPrefix

LOOK: Final = Script("look", 2)


class Looking:
    """`counters` counts the queries to the servers."""

    def __init__(self, servers: Servers, counters: Counter[str]) -> None:
        self._servers, self._counters = servers, counters
        self._loop = asyncio.get_running_loop()
        self._tasks: dict[EidPrefix, asyncio.Task[keys.Answer]] = {}

    @property
    def tasks(self) -> list[asyncio.Task[keys.Answer]]:
        """Unanswered queries."""
        return [*self._tasks.values()]

    async def look(self, prefix: EidPrefix) -> keys.Answer:
        """The servers' state of a prefix. Raises ServerAway."""
        task = self._tasks.get(prefix)
        if task is None:
            task = self._tasks[prefix] = self._loop.create_task(self._look(prefix))
            task.add_done_callback(lambda _: self._tasks.pop(prefix, None))
        return await asyncio.shield(task)

    async def _look(self, prefix: EidPrefix) -> keys.Answer:
        self._counters["looked_up"] += 1
        return keys.read_answer(await self._servers.run(keys.bucket_of(prefix), LOOK, keys.look_arguments(prefix)))

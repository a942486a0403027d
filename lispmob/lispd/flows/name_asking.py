"""Name lookups, between the coroutines of flows and the core: several may wait for one answer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from lispmob.protocol.effect import NameResolved
from lispmob.wire.address import IpAddress
from lispmob.wire.name_eid import folded


class NameAsking:
    """`ask` passes a name to the core, which answers by `on_resolved`, perhaps before it returns."""

    def __init__(self, ask: Callable[[bytes], None]) -> None:
        self._ask = ask
        self._waiting: dict[bytes, set[asyncio.Future[NameResolved]]] = {}

    async def find(self, name: str) -> tuple[tuple[IpAddress, ...], str]:
        """The EIDs of the host of a name, and the result in a word. Ends when cancelled; the core ends sooner."""
        resolved = await self.resolve(name.encode())
        return resolved.eids, resolved.why

    async def resolve(self, name: bytes) -> NameResolved:
        """The mapping system's answer for a name."""
        key = folded(name)
        done: asyncio.Future[NameResolved] = asyncio.get_running_loop().create_future()
        waiting = self._waiting.setdefault(key, set())
        waiting.add(done)
        try:
            self._ask(key)
            return await done
        finally:
            waiting.discard(done)
            if not waiting and self._waiting.get(key) is waiting:
                del self._waiting[key]

    def on_resolved(self, resolved: NameResolved) -> None:
        """The core's answer, for all that wait for this name."""
        for done in self._waiting.pop(resolved.name, set()):
            if not done.done():
                done.set_result(resolved)

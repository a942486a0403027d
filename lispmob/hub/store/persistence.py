"""Writes registrations to the store in batches, off the event loop (adapter).

A registration is written when it changes, and a nonce at each Map-Register. Ranges of nonces cannot be reserved
instead, because a node that counts by ones would be refused within the range. So after a crash of the machine, a
register of the last batch can be replayed, even if a later one undid it: until the node refreshes, within a minute.
"""

from __future__ import annotations

import asyncio
import logging
from itertools import islice
from typing import Final

from lispmob.errors import LispError
from lispmob.hub.map_server.askers import Askers
from lispmob.hub.map_server.map_server import MapServer
from lispmob.hub.map_server.nonces import NO_CHANGES
from lispmob.hub.publishing.publisher import Publisher
from lispmob.hub.store.store import Store
from lispmob.wire.address import EidPrefix

log = logging.getLogger(__name__)

BATCH_S: Final = 1.0  # ours: the loss in a crash of the machine; nodes repeat it within a minute
ASKERS_S: Final = 30.0  # ours: the askers that a crash may lose; probes help them
AT_ONCE: Final = 1024  # ours: registrations in one batch; the next one follows without a pause


class Persistence:
    """Collects the changed prefixes and writes them together. A failing store is reported once."""

    def __init__(
        self, store: Store, map_server: MapServer, askers: Askers | None = None, publisher: Publisher | None = None
    ) -> None:
        self._store = store
        self._map_server = map_server
        self._askers, self._publisher = askers, publisher
        self._subscriptions_task: asyncio.Task[None] | None = None
        self._askers_timer: asyncio.TimerHandle | None = None
        self._askers_task: asyncio.Task[None] | None = None
        self._dirty: set[EidPrefix] = set()
        self._nonces = NO_CHANGES
        self._writing = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None
        self.problem: str | None = None  # why the store does not hold them, in a sentence

    def on_changed(self, prefix: EidPrefix) -> None:
        """The registration of a prefix differs from the store."""
        self._dirty.add(prefix)
        self._wake()

    def on_datagram(self) -> None:
        """A datagram was processed: its nonce must be stored even if it changed nothing."""
        if self._map_server.has_new_nonces:
            self._wake()
        is_idle = self._subscriptions_task is None or self._subscriptions_task.done()
        if is_idle and self._publisher is not None and self._publisher.has_changes:
            self._subscriptions_task = asyncio.create_task(self._write_subscriptions_soon())
        if self._askers_timer is None and self._askers is not None and self._askers.has_changes:
            self._askers_timer = asyncio.get_running_loop().call_later(ASKERS_S, self._on_askers_due)

    def _on_askers_due(self) -> None:
        self._askers_timer = None
        self._askers_task = asyncio.create_task(self._write_askers())

    async def _write_askers(self) -> None:
        """Unwritten askers are only lost by a restart, so a failure is not retried."""
        if self._askers is None or not self._askers.has_changes:
            return
        async with self._writing:
            try:
                await asyncio.to_thread(self._store.save_askers, self._askers.take_changes())
            except LispError as error:
                log.debug("who asked is not saved: %s", error)

    async def _write_subscriptions_soon(self) -> None:
        await asyncio.sleep(BATCH_S)
        await self._write_subscriptions()

    async def _write_subscriptions(self) -> None:
        """Unwritten subscribers have to subscribe again after a restart, so a failure is not retried."""
        if self._publisher is None or not self._publisher.has_changes:
            return
        async with self._writing:
            try:
                await asyncio.to_thread(self._store.save_subscriptions, self._publisher.take_changes())
            except LispError as error:
                log.debug("subscriptions are not saved: %s", error)

    def _wake(self) -> None:
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._write_soon())

    async def flush(self) -> None:
        """Write pending changes, so that what is shown survives."""
        while await self._write():
            pass

    async def stop(self) -> None:
        """Write pending changes and close."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        if self._askers_timer is not None:
            self._askers_timer.cancel()
        if self._askers_task is not None:
            await asyncio.gather(self._askers_task, return_exceptions=True)
        await self.flush()
        if self._subscriptions_task is not None:
            self._subscriptions_task.cancel()
            await asyncio.gather(self._subscriptions_task, return_exceptions=True)
        await self._write_askers()
        await self._write_subscriptions()
        self._store.close()

    async def _write_soon(self) -> None:
        while self._dirty or self._map_server.has_new_nonces or self._nonces != NO_CHANGES:
            await asyncio.sleep(BATCH_S)
            while await asyncio.shield(self._write()):
                pass

    async def _write(self) -> bool:
        """Write a batch; True if it was written and there is more."""
        async with self._writing:
            dirty = list(islice(self._dirty, AT_ONCE))
            nonces, self._nonces = self._nonces.before(self._map_server.take_new_nonces()), NO_CHANGES
            if not dirty and nonces == NO_CHANGES:
                return False
            self._dirty.difference_update(dirty)
            try:
                await asyncio.to_thread(self._store.save, {prefix: self._parts(prefix) for prefix in dirty}, nonces)
            except LispError as error:
                if self.problem is None:
                    log.warning("registrations are not saved: %s", error)
                self.problem = f"registrations are not saved: {error}"
                self._dirty.update(dirty)
                self._nonces = nonces
                return False
            if self.problem is not None:
                log.info("registrations are saved again")
            self.problem = None
            return bool(self._dirty)

    def _parts(self, prefix: EidPrefix) -> tuple[bytes, ...]:
        registration = self._map_server.registrations.get(prefix)
        return registration.parts if registration is not None else ()

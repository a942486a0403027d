"""A registry of this hub alone: its memory, and an SQLite file that survives a restart (adapter)."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Collection, Iterable
from pathlib import Path

from lispmob.errors import LispError
from lispmob.hub.dispatch import ControlPlane
from lispmob.hub.map_server.effect import Arrival, RegistrationChanged
from lispmob.hub.map_server.registration import Registration
from lispmob.hub.restoring import Restoring
from lispmob.hub.rtr.traversal import PlaneEffect
from lispmob.hub.store.persistence import Persistence
from lispmob.hub.store.store import Clock, Store
from lispmob.wire.address import EidPrefix

log = logging.getLogger(__name__)


class EmbeddedRegistry:
    """Decides at once. `path` None: nothing survives a restart. `own_eids` are this machine's, and not written."""

    def __init__(
        self,
        plane: ControlPlane,
        feed: Callable[[Iterable[PlaneEffect]], None],
        path: Path | None,
        own_eids: Collection[EidPrefix] = (),
    ) -> None:
        self._plane, self._feed, self._path, self._own_eids = plane, feed, path, frozenset(own_eids)
        self._persistence: Persistence | None = None
        self._restoring: asyncio.Task[None] | None = None

    @property
    def problem(self) -> str | None:
        """Why registrations cannot be saved."""
        return self._persistence.problem if self._persistence is not None else None

    @property
    def counters(self) -> dict[str, int]:
        """None: the control plane counts."""
        return {}

    async def start(self) -> None:
        """Open the state file, which is read while the hub serves; the hub works even without a usable one."""
        if self._path is None:
            return
        loop = asyncio.get_running_loop()
        store = Store(self._path, Clock(loop.time, time.time))
        restoring = Restoring(store, self._plane, self._feed)
        try:
            if (why := store.open()) is not None:
                log.warning("%s", why)
            restoring.begin()
        except LispError as error:
            store.close()
            log.warning("registrations will not survive a restart: %s", error)
            return
        self._persistence = Persistence(store, self._plane.map_server, self._plane.askers, self._plane.publisher)
        self._restoring = loop.create_task(restoring.run())

    async def stop(self) -> None:
        """Write pending changes."""
        if self._restoring is not None:
            self._restoring.cancel()
            await asyncio.gather(self._restoring, return_exceptions=True)
        if self._persistence is not None:
            await self._persistence.stop()

    async def settle(self) -> None:
        """Wait until the file is read, and pending changes are written."""
        if self._restoring is not None:
            await asyncio.wait([self._restoring])
        if self._persistence is not None:
            await self._persistence.flush()

    def before(self, arrival: Arrival, deliver: Callable[[], None]) -> bool:  # noqa: ARG002 - nothing depends on it
        """Nothing has to be done before."""
        deliver()
        return False

    def on_changed(self, change: RegistrationChanged) -> None:
        """To be written, unless the file has it."""
        if self._persistence is not None and not change.is_stored and change.prefix not in self._own_eids:
            self._persistence.on_changed(change.prefix)

    def on_turn(self) -> None:
        """A nonce must be stored even if it changed nothing."""
        if self._persistence is not None:
            self._persistence.on_datagram()
        else:
            # Without a store, pending writes would grow for ever
            self._plane.map_server.take_new_nonces()
            self._plane.askers.take_changes()

    def on_sites(self) -> None:
        """Handled by the control plane."""

    async def slices(self, count: int) -> AsyncIterator[list[Registration]]:
        """All registrations. Between two slices the hub serves."""
        for some in self._plane.map_server.registrations.slices(count):
            yield some
            await asyncio.sleep(0)

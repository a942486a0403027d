"""Restores the state file, a slice at a time, while the hub serves (adapter).

Subscriptions and askers come first, so that they get changes meanwhile; then the nonces, because they have the time of
each registration's last refresh. Rows that a datagram needs before they were read are looked up individually.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable
from typing import Final

from lispmob.errors import LispError
from lispmob.hub.dispatch import ControlPlane
from lispmob.hub.rtr.traversal import PlaneEffect
from lispmob.hub.store.store import END, Store, StoredRegistration
from lispmob.wire.address import EidPrefix

log = logging.getLogger(__name__)

NONCES: Final = 512  # ours: rows in a slice
REGISTRATIONS: Final = 128
ASKERS: Final = 512
PAUSE_S: Final = 0.0  # the loop serves waiting events in between


class Restoring:
    """Reads a store into a control plane. `feed` gets the effects."""

    def __init__(self, store: Store, plane: ControlPlane, feed: Callable[[Iterable[PlaneEffect]], None]) -> None:
        self._store = store
        self._plane = plane
        self._feed = feed
        self._has_failed = False
        self._old_owners: dict[str, list[str]] = {}  # by key, its name in a file of version 1

    def begin(self) -> None:
        """Find single rows from now on. Raises LispError."""
        self._store.begin_reading()
        for old, owner in self._plane.map_server.old_owners.items():
            if self._store.has_owner(old):
                self._old_owners.setdefault(owner, []).append(old)
        self._plane.publisher.on_reading()
        self._plane.map_server.on_reading(self)

    async def run(self) -> None:
        """Read all of it. Unreadable rows are reported, and left out."""
        loop = asyncio.get_running_loop()
        began_at, server = time.monotonic(), self._plane.map_server
        try:
            place: object = None
            self._plane.publisher.restore_associations(self._store.associations(), loop.time())
            while place is not END:
                subscriptions, place = self._store.subscriptions_after(place, ASKERS)
                self._plane.publisher.restore(subscriptions, loop.time())
                await asyncio.sleep(PAUSE_S)
            place = None
            while place is not END:
                askers, place = self._store.askers_after(place, ASKERS)
                self._plane.askers.restore(askers, loop.time())
                await asyncio.sleep(PAUSE_S)
            place = None
            while place is not END:
                nonces, place = self._store.nonces_after(place, NONCES)
                server.restore_nonces(nonces)
                await asyncio.sleep(PAUSE_S)
            server.on_nonces_restored()
            place = None
            while place is not END:
                rows, place = self._store.registrations_after(place, REGISTRATIONS)
                self._feed(self._plane.restore(rows, loop.time()))
                await asyncio.sleep(PAUSE_S)
        except LispError as error:
            log.warning("not all registrations could be withdrawn: %s", error)
        finally:
            server.on_restored(loop.time())
            self._feed(self._plane.on_publications(loop.time()))
            self._store.end_reading()
        log.info("restored registrations=%d s=%.1f", len(server.registrations), time.monotonic() - began_at)

    def nonce(self, owner: str, name: bytes) -> bytes | None:
        """The count of a name under a key."""
        try:
            names = (owner, *self._old_owners.get(owner, ()))
            return next((found for known_as in names if (found := self._store.nonce(known_as, name)) is not None), None)
        except LispError as error:
            self._tell(error)
            return None

    def registrations(self, asked: EidPrefix) -> list[StoredRegistration]:
        """The registrations of an EID-Prefix, and of those that hold it."""
        try:
            return self._store.registrations(asked)
        except LispError as error:
            self._tell(error)
            return []

    def _tell(self, error: LispError) -> None:
        if not self._has_failed:
            log.warning("the state file cannot be searched: %s", error)
        self._has_failed = True

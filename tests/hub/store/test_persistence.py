"""Batches: changes are written soon; a failed write is tried again, and logged once."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from lispmob.errors import LispError
from lispmob.hub.map_server.nonces import FLOOR, NO_CHANGES, Count, NonceChanges, eid_name, owner_of
from lispmob.hub.store.persistence import Persistence
from lispmob.hub.store.store import Clock, Store
from lispmob.wire.address import EidPrefix
from tests.hub.exchange import KEY, eid, plane, site, xtr

LAPTOP = "10.1.0.1/32"
STANDING = Clock(lambda: 0.0, lambda: 1_700_000_000.0)


class FullDisk(Store):
    """Fails a number of times, then works."""

    failures = 2

    def save(
        self,
        changed: Mapping[EidPrefix, Sequence[bytes]],
        nonces: NonceChanges = NO_CHANGES,
    ) -> None:
        if self.failures:
            self.failures -= 1
            raise LispError("the disk is full")
        super().save(changed, nonces)


def test_what_could_not_be_written_is_written_later(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store = FullDisk(tmp_path / "hub.sqlite", STANDING)
    store.open()
    hub = plane(site("10.1.0.0/16", strict_nonces=True))
    caplog.set_level(logging.INFO)

    async def main() -> None:
        persistence = Persistence(store, hub.map_server)
        hub.on_datagram(xtr("203.0.113.5").register(LAPTOP, nonce=77), now=0.0)
        for _ in range(3):
            persistence.on_changed(eid(LAPTOP))
            await persistence._write()
        await persistence.stop()

    asyncio.run(main())

    again = Store(tmp_path / "hub.sqlite", STANDING)
    again.open()
    nonces, registrations = again.load()
    again.close()
    assert [prefix for prefix, _ in registrations] == [eid(LAPTOP)]
    assert nonces == [((owner_of(KEY), eid_name(eid(LAPTOP))), Count(77, is_counting=False, at=0.0).encode())]
    assert [record.message for record in caplog.records] == [
        "registrations are not saved: the disk is full",
        "registrations are saved again",
    ]


def test_stopping_writes_what_is_left(tmp_path: Path) -> None:
    store = Store(tmp_path / "hub.sqlite", STANDING)
    store.open()
    hub = plane(site("10.1.0.0/16"))

    async def main() -> None:
        persistence = Persistence(store, hub.map_server)
        hub.on_datagram(xtr("203.0.113.5").register(LAPTOP), now=0.0)
        persistence.on_changed(eid(LAPTOP))
        await persistence.stop()

    asyncio.run(main())

    again = Store(tmp_path / "hub.sqlite", STANDING)
    again.open()
    assert len(again.load()[1]) == 1
    again.close()


def test_a_nonce_is_written_even_where_its_register_changed_nothing(tmp_path: Path) -> None:
    store = Store(tmp_path / "hub.sqlite", STANDING)
    store.open()
    hub = plane(site("10.1.0.0/16"))

    async def main() -> None:
        persistence = Persistence(store, hub.map_server)
        hub.on_datagram(xtr("203.0.113.5").withdraw(LAPTOP, nonce=78), now=0.0)
        persistence.on_datagram()
        await asyncio.wait_for(persistence._task or asyncio.sleep(0), 10)

    asyncio.run(main())
    store.close()

    again = Store(tmp_path / "hub.sqlite", STANDING)
    again.open()
    assert [Count.decode(count).nonce for _, count in again.load()[0]] == [78]
    again.close()


def test_rows_that_were_given_up_are_deleted_even_when_the_first_try_failed(tmp_path: Path) -> None:
    store = FullDisk(tmp_path / "hub.sqlite", STANDING)
    store.failures = 0
    store.open()
    hub = plane(site("10.1.0.0/16"))

    async def main() -> None:
        persistence = Persistence(store, hub.map_server)
        hub.on_datagram(xtr("203.0.113.5").register(LAPTOP, nonce=79), now=0.0)
        await persistence._write()
        store.failures = 1
        hub.on_sites([], (), now=1e6)
        await persistence._write()
        await persistence.stop()

    asyncio.run(main())

    again = Store(tmp_path / "hub.sqlite", STANDING)
    again.open()
    assert [(row[0][1], Count.decode(row[1]).nonce) for row in again.load()[0]] == [(FLOOR, 79)]
    again.close()

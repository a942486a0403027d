"""Batches: what changes is written soon, what cannot be written is tried again, and said once."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping
from pathlib import Path

import pytest

from lispmob.errors import LispError
from lispmob.hub.persistence import Persistence
from lispmob.hub.registration import XtrRegistration
from lispmob.hub.store import Clock, Store
from lispmob.wire.address import EidPrefix
from tests.hub.exchange import eid, plane, site, xtr

LAPTOP = "10.1.0.1/32"
STANDING = Clock(lambda: 0.0, lambda: 1_700_000_000.0)


class FullDisk(Store):
    """Fails a number of times, then works."""

    failures = 2

    def save(
        self,
        changed: Mapping[EidPrefix, Iterable[XtrRegistration]],
        nonces: Mapping[tuple[str, int, str], int] | None = None,
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
        hub.on_datagram(xtr("203.0.113.5").register(LAPTOP), now=0.0)
        for _ in range(3):
            persistence.on_changed(eid(LAPTOP))
            await persistence._write()
        await persistence.stop()

    asyncio.run(main())

    again = Store(tmp_path / "hub.sqlite", STANDING)
    again.open()
    parts, nonces = again.load()
    again.close()
    assert [part.record.eid_prefix for part in parts] == [eid(LAPTOP)]
    assert nonces == [(("home", 0, LAPTOP), 1)]
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
    assert len(again.load()[0]) == 1
    again.close()

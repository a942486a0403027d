"""A hub that serves while it reads its state file answers and refuses as it will once it has read it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from lispmob.errors import LispError
from lispmob.hub.dispatch import ControlPlane
from lispmob.hub.map_server.effect import Arrival, RegistrationChanged
from lispmob.hub.map_server.nonces import Count, NonceChanges, eid_name, old_owner
from lispmob.hub.restoring import REGISTRATIONS, Restoring
from lispmob.hub.rtr.traversal import PlaneEffect
from lispmob.hub.store.store import Clock, Store
from tests.hub.exchange import KEY, Xtr, ask, eid, plane, reply_in, rlocs_of, site, xtr

LAPTOP = "10.1.9.9/32"
STANDING = Clock(lambda: 0.0, lambda: 1_700_000_000.0)


@dataclass
class Scene:
    """A hub that has begun to read, and what its node sent before."""

    hub: ControlPlane
    restoring: Restoring
    node: Xtr
    recorded: Arrival
    fed: list[PlaneEffect] = field(default_factory=list)

    def places(self, asked: str = LAPTOP) -> list[str]:
        return rlocs_of(reply_in(self.hub.on_datagram(ask(asked), now=0.0)).records[0])

    async def finish(self) -> None:
        """Read the rest, by the real loop's clock; the file's clock stands still."""
        asyncio.get_running_loop().time = lambda: 0.0  # type: ignore[method-assign]
        await self.restoring.run()


def scene(path: Path, more: Iterable[str] = ()) -> Scene:
    before, node = plane(site("10.1.0.0/16")), xtr("203.0.113.5", xtr_id=b"x" * 16)
    recorded = node.register(LAPTOP, rlocs=["192.0.2.66"])
    for arrival in (recorded, node.register(LAPTOP), *(xtr("203.0.113.6").register(one) for one in more)):
        before.on_datagram(arrival, now=0.0)
    store = Store(path / "hub.sqlite", STANDING)
    store.open()
    registered = {prefix: registration.parts for prefix, registration in before.map_server.registrations}
    store.save(registered, before.map_server.take_new_nonces())
    hub, fed = plane(site("10.1.0.0/16")), list[PlaneEffect]()
    restoring = Restoring(store, hub, fed.extend)
    restoring.begin()
    return Scene(hub, restoring, node, recorded, fed)


def test_it_answers_for_what_it_has_not_read_yet(tmp_path: Path) -> None:
    one = scene(tmp_path)

    assert one.places() == ["203.0.113.5"]
    assert one.places("10.1.9.8/32") == []


def test_an_old_register_is_refused_before_its_nonce_was_read(tmp_path: Path) -> None:
    one = scene(tmp_path)

    one.hub.on_datagram(one.recorded, now=0.0)

    assert one.hub.counters["rx_replay"] == 1
    assert one.places() == ["203.0.113.5"]


def test_what_was_withdrawn_meanwhile_stays_gone(tmp_path: Path) -> None:
    one = scene(tmp_path)

    one.hub.on_datagram(one.node.withdraw(LAPTOP), now=0.0)
    asyncio.run(one.finish())

    assert one.places() == []


def test_what_was_registered_meanwhile_is_not_undone(tmp_path: Path) -> None:
    one = scene(tmp_path)

    one.hub.on_datagram(one.node.register(LAPTOP, rlocs=["192.0.2.9"]), now=0.0)
    asyncio.run(one.finish())

    assert one.places() == ["192.0.2.9"]


def test_an_answer_speaks_for_one_host_as_long_as_more_may_be_below(tmp_path: Path) -> None:
    one = scene(tmp_path, ["10.1.0.0/24", "10.1.0.7/32"])

    (wide,) = reply_in(one.hub.on_datagram(ask("10.1.0.8/32"), now=0.0)).records
    (host,) = reply_in(one.hub.on_datagram(ask("10.1.0.0/24"), now=0.0)).records
    asyncio.run(one.finish())
    whole = reply_in(one.hub.on_datagram(ask("10.1.0.8/32"), now=0.0)).records

    assert (wide.eid_prefix, rlocs_of(wide)) == (eid("10.1.0.8/32"), ["203.0.113.6"])
    assert host.eid_prefix == eid("10.1.0.0/32")
    assert [record.eid_prefix for record in whole] == [eid("10.1.0.0/24"), eid("10.1.0.7/32")]


def test_everything_is_there_at_the_end_and_the_store_learns_nothing_new(tmp_path: Path) -> None:
    more = [f"10.1.{number // 256}.{number % 256}/32" for number in range(2 * REGISTRATIONS + 1)]
    one = scene(tmp_path, more)

    asyncio.run(one.finish())

    changes = [effect for effect in one.fed if isinstance(effect, RegistrationChanged)]
    assert len(one.hub.map_server.registrations) == len(changes) == len(more) + 1
    assert all(change.is_stored for change in changes)
    assert one.hub.map_server.is_complete


def test_rows_that_have_run_out_are_deleted(tmp_path: Path) -> None:
    one = scene(tmp_path)
    one.hub.map_server.restore_nonces(one.restoring._store.nonces_after(None, 9)[0])
    rows, _ = one.restoring._store.registrations_after(None, 9)

    effects = one.hub.restore(rows, now=181.0)

    assert [prefix for prefix, _ in rows] == [eid(LAPTOP)]
    assert effects == [RegistrationChanged(eid(LAPTOP), None, is_announced=True)]


def test_a_file_that_cannot_be_read_to_its_end_is_told_of_and_the_hub_serves(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    one = scene(tmp_path)

    def fail(*_: object) -> object:
        raise LispError("the disk is gone")

    one.restoring._store.registrations_after = fail  # type: ignore[method-assign,assignment]
    asyncio.run(one.finish())

    assert "not all registrations could be withdrawn: the disk is gone" in caplog.text
    assert one.hub.map_server.is_complete


def test_the_nonces_of_a_file_that_was_of_version_1_count_before_they_were_read(tmp_path: Path) -> None:
    node, store = xtr("203.0.113.5"), Store(tmp_path / "hub.sqlite", STANDING)
    old = Count(2**63, is_counting=False, at=0.0).encode()
    store.open()
    store.save({}, NonceChanges({(old_owner("home", KEY.key_id), eid_name(eid(LAPTOP))): old}, frozenset()))
    hub = plane(site("10.1.0.0/16"))
    Restoring(store, hub, lambda _: None).begin()

    hub.on_datagram(node.register(LAPTOP, nonce=2**63), now=0.0)

    assert hub.counters["rx_replay"] == 1
    store.close()

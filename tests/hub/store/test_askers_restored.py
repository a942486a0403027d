"""A hub that starts again still sends SMRs to nodes that asked before."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from lispmob.hub.dispatch import ControlPlane
from lispmob.hub.map_server.site import Site
from lispmob.hub.restoring import Restoring
from lispmob.hub.rtr.traversal import PlaneEffect
from lispmob.hub.store.persistence import Persistence
from lispmob.hub.store.store import END, Store
from tests.hub.exchange import ask, eid, plane, site, xtr
from tests.hub.map_server.test_askers import PEER, told
from tests.hub.store.test_store import Time

LAPTOP = "10.1.0.1/32"
LAPTOPS = site(LAPTOP)


class Hub:
    """A hub with a clock that the test sets, and its state file."""

    def __init__(self, path: Path, time: Time, *sites: Site) -> None:
        self.time = time
        self.plane: ControlPlane = plane(*(sites or (LAPTOPS,)))
        self.store = Store(path, time.clock)
        self.fed: list[PlaneEffect] = []

    async def _run(self) -> None:
        asyncio.get_running_loop().time = lambda: self.time.monotonic_s  # type: ignore[method-assign]
        restoring = Restoring(self.store, self.plane, self.fed.extend)
        assert self.store.open() is None
        restoring.begin()
        await restoring.run()

    def start(self) -> None:
        asyncio.run(self._run())

    def stop(self) -> None:
        """Stop as systemd does it: what is left is written."""
        saved = {prefix: one.parts for prefix, one in self.plane.map_server.registrations}
        self.store.save(saved, self.plane.map_server.take_new_nonces())

        async def end() -> None:
            await Persistence(self.store, self.plane.map_server, self.plane.askers).stop()

        asyncio.run(end())


def asked(path: Path, time: Time, what: str = LAPTOP) -> Hub:
    """A hub that a peer has asked about a laptop, and that has stopped."""
    hub = Hub(path, time)
    hub.start()
    hub.plane.on_datagram(xtr("192.0.2.5").register(LAPTOP), time.monotonic_s)
    hub.plane.on_datagram(ask(what), time.monotonic_s)
    hub.stop()
    return hub


def test_who_asked_before_a_restart_hears_what_changes_after_it(tmp_path: Path) -> None:
    time = Time()
    asked(tmp_path / "hub.sqlite", time)
    time.monotonic_s, time.wall_s = 5.0, time.wall_s + 60.0  # the machine was started again, too
    hub = Hub(tmp_path / "hub.sqlite", time)
    hub.start()

    effects = hub.plane.on_datagram(xtr("192.0.2.5").withdraw(LAPTOP), 6.0)

    assert told(hub.fed) == []
    assert told(effects) == [(PEER, eid(LAPTOP))]


def test_a_site_that_was_removed_while_the_hub_was_off_is_told(tmp_path: Path) -> None:
    time = Time()
    asked(tmp_path / "hub.sqlite", time)
    hub = Hub(tmp_path / "hub.sqlite", time, site("10.9.0.0/16"))

    hub.start()

    assert told(hub.fed) == [(PEER, eid(LAPTOP))]


def test_an_outage_that_outlasts_the_registrations_makes_no_node_forget_what_still_works(tmp_path: Path) -> None:
    time = Time()
    asked(tmp_path / "hub.sqlite", time)
    time.monotonic_s, time.wall_s = time.monotonic_s + 300.0, time.wall_s + 300.0
    hub = Hub(tmp_path / "hub.sqlite", time)

    hub.start()
    back = hub.plane.on_datagram(xtr("192.0.2.77").register(LAPTOP), time.monotonic_s + 1.0)

    assert told(hub.fed) == []
    assert told(back) == [(PEER, eid(LAPTOP))]


@pytest.mark.parametrize("away_s", [3600.0, 90_000.0])
def test_who_holds_no_answer_any_more_is_forgotten_for_good(away_s: float, tmp_path: Path) -> None:
    time = Time()
    asked(tmp_path / "hub.sqlite", time)
    time.monotonic_s, time.wall_s = time.monotonic_s + away_s, time.wall_s + away_s
    hub = Hub(tmp_path / "hub.sqlite", time)
    hub.start()
    assert len(hub.plane.askers) == 0

    hub.stop()
    hub = Hub(tmp_path / "hub.sqlite", time)
    assert hub.store.open() is None

    assert hub.store.askers_after(None, 10)[0] == []
    hub.store.close()


def test_a_clock_that_is_set_back_keeps_no_asker_for_longer_than_a_day(tmp_path: Path) -> None:
    time = Time()
    asked(tmp_path / "hub.sqlite", time)
    time.wall_s -= 10 * 365 * 86400.0
    hub = Hub(tmp_path / "hub.sqlite", time)

    hub.start()

    assert told(hub.plane.on_datagram(xtr("192.0.2.5").register(LAPTOP), time.monotonic_s + 86_401.0)) == []


def test_who_asks_is_written_soon_without_a_stop(tmp_path: Path) -> None:
    hub = Hub(tmp_path / "hub.sqlite", Time())
    hub.start()
    hub.plane.on_datagram(ask(LAPTOP), hub.time.monotonic_s)

    async def main() -> None:
        keeper = Persistence(hub.store, hub.plane.map_server, hub.plane.askers)
        keeper.on_datagram()
        assert keeper._askers_timer is not None
        keeper._askers_timer.cancel()
        keeper._on_askers_due()
        assert keeper._askers_task is not None
        await keeper._askers_task

    asyncio.run(main())

    rows, _ = hub.store.askers_after(None, 10)
    hub.store.close()
    assert [(prefix, str(asker.itr)) for prefix, asker in rows] == [(eid(LAPTOP), PEER)]


def test_askers_are_read_in_pages_that_miss_none(tmp_path: Path) -> None:
    hub = Hub(tmp_path / "hub.sqlite", Time())
    hub.start()
    places = [f"192.0.2.{number}" for number in range(10, 15)]
    for place in places:
        hub.plane.on_datagram(ask(LAPTOP, itr=place), hub.time.monotonic_s)
    hub.stop()
    hub = Hub(tmp_path / "hub.sqlite", hub.time)
    assert hub.store.open() is None

    found, pages = list[str](), 0
    at: object = None
    while pages == 0 or at is not END:
        rows, at = hub.store.askers_after(at, 2)
        found += [str(asker.itr) for _, asker in rows]
        pages += 1

    hub.store.close()
    assert (found, pages) == (places, 3)

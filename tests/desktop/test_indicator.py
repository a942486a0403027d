"""The indicator in a session without a screen: a fake panel, the real D-Bus interface of lispd, and a fake systemd."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from lispmob.api.dbus import DBusFace
from lispmob.api.schema import Event, Handover, Status
from lispmob.bus.connection import BusError
from lispmob.bus.system_bus import SystemBus
from tests.api.fake_backend import FakeBackend
from tests.desktop.panel import NOTIFICATIONS, WATCHER, Panel, Systemd, until
from tests.desktop.private_bus import PrivateBus, end, private_bus, why_no_bus

pytestmark = pytest.mark.skipif(why_no_bus() is not None, reason=why_no_bus() or "")

MOVE = Handover(
    id=7,
    started_at="2026-11-28T20:00:00Z",
    reasons=["wlan0: link down"],
    steps=[],
    gap_out_ms=12.0,
    left=["wifi wlan0"],
    took=["wwan wwan0"],
)


class Backend(FakeBackend):
    """lispd, with a status that can be changed."""

    changes: dict[str, Any]

    def __init__(self) -> None:
        super().__init__()
        self.changes = {}

    def status(self) -> Status:
        return msgspec.structs.replace(super().status(), **self.changes)


class Session:
    """A session bus with a panel, a system bus with lispd and systemd, and the indicator."""

    def __init__(self, session: PrivateBus, system: PrivateBus, home: Path) -> None:
        self._session, self._system, self.home = session, system, home
        self.panel, self.backend = Panel(), Backend()
        self.face = DBusFace(self.backend)
        self.asked: list[tuple[str, str]] = []
        self.refusal: BusError | None = None
        self.systemd = Systemd(self._on_switch)
        self._served: SystemBus | None = None
        self._indicator: subprocess.Popen[bytes] | None = None

    async def start(self, *options: str, names: tuple[str, ...] = (WATCHER, NOTIFICATIONS)) -> None:
        await self.panel.open(self._session.address, *names)
        await self.systemd.open(self._system.address)
        await self.start_lispd()
        environment = {
            **os.environ,
            "DBUS_SESSION_BUS_ADDRESS": self._session.address,
            "DBUS_SYSTEM_BUS_ADDRESS": self._system.address,
            "XDG_CONFIG_HOME": str(self.home),
        }
        command = [sys.executable, "-m", "lispmob.desktop.main", *options]
        self._indicator = await asyncio.to_thread(subprocess.Popen, command, env=environment)

    async def start_lispd(self) -> None:
        self._served = SystemBus([], self.face, address=self._system.address)
        await self._served.start()

    async def stop_lispd(self) -> None:
        if self._served is not None:
            await self._served.stop()
            self._served = None

    async def change(self, **changes: Any) -> None:
        self.backend.changes.update(changes)
        self.face.publish(Event(kind="moved", at="2026-11-28T20:00:00Z", fields={}))

    def _on_switch(self, member: str, unit: str) -> None:
        self.asked.append((member, unit))
        if self.refusal is not None:
            raise self.refusal

    async def says(self, text: str) -> None:
        async def is_so() -> bool:
            return bool(self.panel.items) and any(text in label for label in await self.panel.labels())

        await until(is_so, f"the menu says {text!r}")

    @property
    def exit_code(self) -> int | None:
        assert self._indicator is not None
        return self._indicator.poll()

    async def close(self) -> None:
        if self._indicator is not None:
            end(self._indicator)
        await self.stop_lispd()
        for place in (self.panel, self.systemd):
            if place.bus is not None:
                await place.close()


@pytest.fixture
def buses() -> Iterator[tuple[PrivateBus, PrivateBus]]:
    with contextlib.ExitStack() as stack:
        found = []
        for _ in range(2):
            directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="lispmob-bus-"))
            found.append(stack.enter_context(private_bus(Path(directory))))
        yield found[0], found[1]


@pytest.fixture
def run(
    buses: tuple[PrivateBus, PrivateBus], tmp_path: Path
) -> Callable[[Callable[[Session], Coroutine[Any, Any, None]]], None]:
    @contextlib.asynccontextmanager
    async def session() -> AsyncIterator[Session]:
        place = Session(*buses, tmp_path)
        try:
            yield place
        finally:
            await place.close()

    def run(scenario: Callable[[Session], Coroutine[Any, Any, None]]) -> None:
        async def main() -> None:
            async with asyncio.timeout(40), session() as place:
                await scenario(place)

        asyncio.run(main())

    return run


Run = Callable[[Callable[[Session], Coroutine[Any, Any, None]]], None]


def test_the_panel_shows_state_uplinks_peers_and_problems_with_their_remedy(run: Run) -> None:
    async def scenario(session: Session) -> None:
        await session.start()
        await session.says("Peers (2)")

        labels = await session.panel.labels()
        status = session.backend.status()
        assert status.headline[1:] in labels[0]
        assert any(label.startswith("nas: direct, 12 ms") for label in labels)
        assert any("10.99.0.3: does not answer" in label for label in labels)
        for problem in status.problems:
            assert any(problem.what in label for label in labels)
            assert not problem.remedy or any(problem.remedy in label for label in labels)
        assert await session.panel.item("Menu") == "/MenuBar"
        icon = Path(await session.panel.item("IconThemePath")) / f"{await session.panel.item('IconName')}.svg"
        assert icon.exists()
        assert status.headline in (await session.panel.item("ToolTip"))[3]

    run(scenario)


def test_a_move_is_shown_and_told_once_unless_that_was_switched_off(run: Run) -> None:
    text = "Moved from Wi-Fi to LTE, 0 packets lost, paused for 12 ms"

    async def scenario(session: Session) -> None:
        await session.start()
        await session.says("Peers (2)")
        before = len(session.panel.notified)
        await session.change(last_handover=MOVE)
        await session.says(text)
        await until(lambda: len(session.panel.notified) > before, "a notification")
        assert session.panel.notified[-1][0] == text

        await session.panel.click("Notify of moves and problems")
        told = len(session.panel.notified)
        await session.change(last_handover=msgspec.structs.replace(MOVE, id=8, took=["ethernet eth0"]))
        await session.says("Moved from Wi-Fi to cable")
        await asyncio.sleep(1.5)

        assert len(session.panel.notified) == told
        assert json.loads((session.home / "lispmob" / "indicator.json").read_text()) == {"notifications": False}

    run(scenario)


def test_who_leaves_stays_away_and_comes_back_by_one_click(run: Run) -> None:
    async def scenario(session: Session) -> None:
        await session.start()
        await session.says("Leave the overlay")
        await session.panel.click("Leave the overlay")
        await until(lambda: session.asked, "systemd is asked")
        await session.stop_lispd()
        await session.says("Come back")
        assert await session.panel.item("IconName") == "lispmob-off"

        await session.panel.click("Come back")
        await until(lambda: len(session.asked) == 2, "systemd is asked again")
        await session.start_lispd()
        await session.says("Leave the overlay")

        assert session.asked == [("StopUnit", "lispd.service"), ("StartUnit", "lispd.service")]

    run(scenario)


def test_who_may_not_is_told_why(run: Run) -> None:
    async def scenario(session: Session) -> None:
        session.refusal = BusError("org.freedesktop.DBus.Error.AccessDenied", "no")
        await session.start()
        await session.says("Leave the overlay")

        await session.panel.click("Leave the overlay")

        await session.says("you may not stop lispd.service")

    run(scenario)


def test_a_panel_that_comes_later_or_starts_again_gets_the_indicator(run: Run) -> None:
    async def scenario(session: Session) -> None:
        await session.start(names=())
        await asyncio.sleep(0.5)
        assert session.panel.items == []

        assert session.panel.bus is not None
        await session.panel.bus.take_name(WATCHER)
        await until(lambda: len(session.panel.items) == 1, "it is registered")
        await session.panel.close()
        await session.panel.open(session._session.address, WATCHER)

        await until(lambda: len(session.panel.items) == 2, "it is registered again")

    run(scenario)


def test_it_starts_with_the_session_where_that_is_wanted_and_quits_where_it_is_not(run: Run) -> None:
    async def scenario(session: Session) -> None:
        await session.start("--no-notifications")
        await session.says("Start with the session")
        entry = session.home / "autostart" / "lispmob-indicator.desktop"
        await session.panel.click("Start with the session")
        await until(entry.exists, "the file")
        await session.panel.click("Start with the session")
        await until(lambda: not entry.exists(), "no file")

        await session.panel.click("Quit")

        await until(lambda: session.exit_code == 0, "it has ended")
        assert session.panel.notified == []

    run(scenario)


def test_without_a_session_bus_it_says_so(tmp_path: Path) -> None:
    environment = {**os.environ, "DBUS_SESSION_BUS_ADDRESS": f"unix:path={tmp_path}/none"}

    done = subprocess.run(
        [sys.executable, "-m", "lispmob.desktop.main"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )

    assert (done.returncode, done.stderr.count("\n")) == (69, 1)

"""The daemon's side of the bus: services that come and go leave nothing behind, and their nudges are bounded."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from lispmob.lispd.tasks.desktop import NUDGES_APART_S, Desktop
from tests.api.fake_backend import FakeBackend
from tests.desktop.private_bus import end, private_bus, why_no_mock


class Told:
    """A daemon that records what it is told."""

    def __init__(self) -> None:
        self.reasons: list[str] = []
        self.woken = 0
        self.looks = 0

    def on_nm_state(self, reasons: list[str], since: float) -> None:
        self.reasons += reasons

    def on_awake(self) -> None:
        self.woken += 1

    def look_again(self) -> None:
        self.looks += 1

    def summary(self) -> str:
        return "well"


async def until(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not is_so():  # noqa: ASYNC110 - it waits for other processes
            await asyncio.sleep(0.02)


@pytest.mark.skipif(why_no_mock() is not None, reason=why_no_mock() or "")
def test_a_network_manager_and_a_bus_that_restart_again_and_again_leave_no_task_and_no_descriptor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        told = Told()
        with private_bus(tmp_path) as bus:
            monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", bus.address)
            tasks, descriptors = len(asyncio.all_tasks()), len(os.listdir("/proc/self/fd"))
            desktop = Desktop(told, FakeBackend(), has_bus=True)
            await desktop.start()
            counts = []
            for round_ in range(1, 5):
                manager = bus.mock("networkmanager")
                await until(lambda n=round_: told.reasons.count("NetworkManager is there") == n)  # type: ignore[misc]
                await asyncio.sleep(0.1)
                counts.append((len(asyncio.all_tasks()), len(os.listdir("/proc/self/fd"))))
                await asyncio.to_thread(end, manager)
                await until(lambda: not desktop.nm_state.is_running)
                if round_ == 2:
                    await asyncio.to_thread(bus.stop)
                    await asyncio.to_thread(bus.start)
            await desktop.stop()

            assert len(set(counts)) == 1, counts
            assert len(asyncio.all_tasks()) == tasks
            assert len(os.listdir("/proc/self/fd")) == descriptors

    asyncio.run(scenario())


def test_many_nudges_are_one_look_now_and_one_in_a_moment() -> None:
    async def scenario() -> None:
        told = Told()
        desktop = Desktop(told, FakeBackend(), has_bus=False)
        await desktop.start()
        assert desktop.nudge()
        assert not any(desktop.nudge() for _ in range(100))
        assert told.looks == 1

        await asyncio.sleep(NUDGES_APART_S + 0.1)
        assert told.looks == 2
        await desktop.stop()

    asyncio.run(scenario())

"""A real NetworkManager brings connections up and down in a namespace; netlink and D-Bus are watched side by side."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from lispmob.bus.connection import libraries
from lispmob.iface_monitor.delta import NetworkDelta
from lispmob.iface_monitor.netlink import NetlinkMonitor
from lispmob.iface_monitor.network_manager_state import DeviceState
from lispmob.iface_monitor.snapshot import NetworkState, UplinkPolicy
from tests.desktop.real_network_manager import RealNetworkManager, real_network_manager, why_no_network_manager
from tests.desktop.watching import Watch, watching

pytestmark = [
    pytest.mark.netns,
    pytest.mark.skipif(why_no_network_manager() is not None, reason=why_no_network_manager() or ""),
    pytest.mark.parametrize("library", libraries()),
]

SHIPPED = Path(__file__).resolve().parents[2] / "packaging" / "networkmanager" / "lispmob.conf"


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[RealNetworkManager]:
    with real_network_manager(tmp_path) as one:
        yield one


async def nmcli(manager: RealNetworkManager, *arguments: str) -> None:
    await asyncio.to_thread(manager.nmcli, *arguments)


@contextlib.asynccontextmanager
async def both(manager: RealNetworkManager, library: str) -> AsyncIterator[tuple[Watch, NetlinkMonitor, list[str]]]:
    """Both watches inside the namespace, and one list of what they reported, in its order."""
    story: list[str] = []

    def on_change(state: NetworkState, delta: NetworkDelta, since: float) -> None:
        story.extend(reason.text for reason in delta.reasons)

    monitor = NetlinkMonitor(UplinkPolicy(), on_change)
    async with watching(manager.bus.address, library) as watch:
        watch.reasons = story
        with manager.namespace.entered():
            await monitor.start()
            try:
                yield watch, monitor, story
            finally:
                await monitor.stop()


def test_what_it_brings_up_is_primary_and_active_and_has_the_reason(manager: RealNetworkManager, library: str) -> None:
    manager.add_uplink(0, "connection.metered", "yes")

    async def scenario() -> None:
        async with watching(manager.bus.address, library) as watch:
            await nmcli(manager, "con", "up", "c0")
            await watch.until(lambda: watch.nm_state.primary == "w0" and "w0" in watch.nm_state.metered)

            device = watch.nm_state.device("w0")
            assert device is not None
            assert (device.state, device.kind) == (DeviceState.ACTIVATED, "veth")
            assert watch.nm_state.primary_kind == "802-3-ethernet"
            assert watch.nm_state.is_metered

    asyncio.run(scenario())


def test_a_disconnect_is_told_before_the_kernel_loses_the_address(manager: RealNetworkManager, library: str) -> None:
    manager.add_uplink(0)
    manager.nmcli("con", "up", "c0")

    async def scenario() -> None:
        async with both(manager, library) as (watch, monitor, story):
            await watch.until(lambda: watch.nm_state.primary == "w0")
            story.clear()
            await nmcli(manager, "dev", "disconnect", "w0")
            await watch.until(lambda: not monitor.state.uplinks(UplinkPolicy()) and not watch.nm_state.held_back)

            gone = next(at for at, text in enumerate(story) if text.startswith("w0: ") and "removed" in text)
            assert "w0: deactivating (the user said so)" in story[:gone]
            assert gone < story.index("w0: disconnected (the user said so)")

    asyncio.run(scenario())


def test_an_uplink_that_was_being_disconnected_is_not_used_again_before_it_is_gone(
    manager: RealNetworkManager, library: str
) -> None:
    manager.add_uplink(0)
    manager.add_uplink(1)
    manager.nmcli("con", "up", "c0")
    manager.nmcli("con", "up", "c1")

    async def scenario() -> None:
        async with both(manager, library) as (watch, monitor, _):
            await watch.until(lambda: len(monitor.state.uplinks(UplinkPolicy())) == 2 and watch.nm_state.is_running)
            usable: list[set[str]] = []

            def note() -> bool:
                usable.append({up.name for up in monitor.state.uplinks(UplinkPolicy())} - set(watch.nm_state.held_back))
                names = {up.name for up in monitor.state.uplinks(UplinkPolicy())}
                return "w0" not in names and not watch.nm_state.held_back

            await nmcli(manager, "dev", "disconnect", "w0")
            await watch.until(note)

            first_without = next(at for at, names in enumerate(usable) if "w0" not in names)
            assert all("w0" not in names for names in usable[first_without:])

    asyncio.run(scenario())


def test_it_restarts_while_we_run_and_is_listened_to_again(manager: RealNetworkManager, library: str) -> None:
    manager.add_uplink(0)
    manager.nmcli("con", "up", "c0")

    async def scenario() -> None:
        async with both(manager, library) as (watch, monitor, _):
            await watch.until(lambda: watch.nm_state.primary == "w0")
            await asyncio.to_thread(manager.stop)
            await watch.until(lambda: not watch.nm_state.is_running)
            assert [up.name for up in monitor.state.uplinks(UplinkPolicy())] == ["w0"]

            await asyncio.to_thread(manager.start)
            await watch.until(lambda: watch.nm_state.device("w0") is not None)

    asyncio.run(scenario())


def test_the_shipped_snippet_keeps_our_device_unmanaged(tmp_path: Path, library: str) -> None:
    with real_network_manager(tmp_path, more=SHIPPED.read_text(encoding="ascii")) as manager:
        for name in ("lmn0", "lmn0-3"):
            manager.namespace.run("ip", "tuntap", "add", name, "mode", "tun")
            manager.namespace.run("ip", "link", "set", name, "up")

        async def scenario() -> None:
            async with watching(manager.bus.address, library) as watch:
                await watch.until(lambda: watch.nm_state.device("lmn0") is not None)
                await watch.until(lambda: watch.nm_state.device("lmn0-3") is not None)
                manager.nmcli("dev", "set", "lmn0", "managed", "yes", must=False)
                await asyncio.sleep(0.3)

                device = watch.nm_state.device("lmn0")
                assert device is not None
                assert device.state is DeviceState.UNMANAGED
                listed = manager.nmcli("-t", "-f", "DEVICE,STATE", "dev").splitlines()
                assert {"lmn0:unmanaged", "lmn0-3:unmanaged"} <= set(listed)

        asyncio.run(scenario())

"""NetworkManager's portal, metered and sleep, which a real one cannot be brought to report here: from a mock of it."""

from __future__ import annotations

import asyncio
import gc
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lispmob.bus.connection import BusError, Connection, libraries
from lispmob.iface_monitor.network_manager_state import Connectivity, DeviceState
from tests.desktop.private_bus import PrivateBus, end, private_bus, wait_for, why_no_mock
from tests.desktop.watching import Watch, watching

pytestmark = [
    pytest.mark.skipif(why_no_mock() is not None, reason=why_no_mock() or ""),
    pytest.mark.parametrize("library", libraries()),
]

NM = "org.freedesktop.NetworkManager"
MANAGER = "/org/freedesktop/NetworkManager"
WLAN = f"{MANAGER}/Devices/wlan0"
WWAN = f"{MANAGER}/Devices/wwan0"
MOCK = "org.freedesktop.DBus.Mock"


@pytest.fixture
def bus(tmp_path: Path) -> Iterator[PrivateBus]:
    with private_bus(tmp_path) as one:
        yield one


async def mock_call(watch: Watch, path: str, interface: str, member: str, signature: str, *body: Any) -> Any:
    assert watch.bus is not None
    return await watch.bus.call(NM, path, interface, member, signature, *body)


async def wifi(watch: Watch, name: str = "wlan0") -> str:
    (path,) = await mock_call(watch, MANAGER, MOCK, "AddWiFiDevice", "ssu", name, name, 100)
    assert watch.bus is not None
    for missing in ("Ip4Connectivity", "Ip6Connectivity", "Metered"):
        value = watch.bus.variant("u", 0)
        await mock_call(watch, path, MOCK, "AddProperty", "ssv", f"{NM}.Device", missing, value)
    return str(path)


async def change(watch: Watch, path: str, **properties: tuple[str, Any]) -> None:
    """Change properties of a mocked device, with the signal that NetworkManager would send."""
    assert watch.bus is not None
    values = {key: watch.bus.variant(signature, value) for key, (signature, value) in properties.items()}
    await mock_call(watch, path, MOCK, "UpdateProperties", "sa{sv}", f"{NM}.Device", values)


async def enter(watch: Watch, path: str, state: int, former: int, reason: int) -> None:
    """Send the signal that NetworkManager sends when a device changes its state."""
    assert watch.bus is not None
    arguments = [watch.bus.variant("u", each) for each in (state, former, reason)]
    signal = (f"{NM}.Device", "StateChanged", "uuu", arguments)
    await mock_call(watch, path, MOCK, "EmitSignal", "sssav", *signal)


def test_a_captive_portal_holds_an_uplink_back_until_the_login_is_done(bus: PrivateBus, library: str) -> None:
    async def scenario() -> None:
        bus.mock("networkmanager")
        async with watching(bus.address, library) as watch:
            await watch.until(lambda: watch.nm_state.is_running)
            path = await wifi(watch)
            await change(watch, path, Ip4Connectivity=("u", 2))
            await enter(watch, path, 100, 90, 0)
            await watch.until(lambda: "wlan0" in watch.nm_state.held_back)

            await change(watch, path, Ip4Connectivity=("u", 4))
            await watch.until(lambda: "wlan0" not in watch.nm_state.held_back)

            device = watch.nm_state.device("wlan0")
            assert device is not None
            assert device.connectivity is Connectivity.FULL
            assert "wlan0: a captive portal" in watch.reasons
            assert "wlan0: no captive portal any more" in watch.reasons

    asyncio.run(scenario())


def test_a_metered_modem_is_known_by_the_interface_that_carries_ip(bus: PrivateBus, library: str) -> None:
    async def scenario() -> None:
        bus.mock("networkmanager")
        async with watching(bus.address, library) as watch:
            await watch.until(lambda: watch.nm_state.is_running)
            path = await wifi(watch, "cdcwdm0")
            await change(watch, path, Metered=("u", 3), IpInterface=("s", "wwan0"))
            await enter(watch, path, 100, 90, 0)

            await watch.until(lambda: "wwan0" in watch.nm_state.metered)

            await change(watch, path, Metered=("u", 2))
            await watch.until(lambda: not watch.nm_state.metered)

    asyncio.run(scenario())


def test_the_network_of_a_device_is_known_by_the_ssid_and_the_name_of_its_connection(
    bus: PrivateBus, library: str
) -> None:
    async def scenario() -> None:
        bus.mock("networkmanager")
        async with watching(bus.address, library) as watch:
            await watch.until(lambda: watch.nm_state.is_running)
            path = await wifi(watch)
            point = (path, "ap0", "Home", "00:11:22:33:44:55", 2, 2437, 54, 80, 0)
            access_point = await mock_call(watch, MANAGER, MOCK, "AddAccessPoint", "ssssuuuyu", *point)
            connection = (path, "home5", "Home", "wpa-psk")
            (saved,) = await mock_call(watch, MANAGER, MOCK, "AddWiFiConnection", "ssss", *connection)
            active = ([path], saved, access_point[0], "home5", 2)
            (used,) = await mock_call(watch, MANAGER, MOCK, "AddActiveConnection", "assssu", *active)
            await mock_call(watch, MANAGER, MOCK, "SetDeviceActive", "ss", path, used)
            await enter(watch, path, 100, 90, 0)

            await watch.until(lambda: watch.nm_state.network("wlan0").ssid == "Home")

            assert watch.nm_state.network("wlan0").uuid

    asyncio.run(scenario())


def test_a_connection_that_is_being_taken_down_is_told_within_5_ms_of_the_signal(bus: PrivateBus, library: str) -> None:
    async def scenario() -> None:
        bus.mock("networkmanager")
        async with watching(bus.address, library) as watch:
            await watch.until(lambda: watch.nm_state.is_running)
            path = await wifi(watch)
            await enter(watch, path, 100, 90, 0)
            await watch.until(lambda: watch.nm_state.device("wlan0") is not None)

            await enter(watch, path, 110, 100, 39)
            await watch.until(lambda: "wlan0" in watch.nm_state.held_back)

            assert watch.nm_state.held_back == {"wlan0": "is being disconnected (the user said so)"}
            assert watch.delays_s[-1] < 0.005

    asyncio.run(scenario())


def test_networkmanager_comes_goes_and_comes_back_while_we_run(bus: PrivateBus, library: str) -> None:
    async def scenario() -> None:
        async with watching(bus.address, library) as watch:
            await asyncio.sleep(0.1)
            assert not watch.nm_state.is_running
            for _ in range(3):
                service = bus.mock("networkmanager")
                await watch.until(lambda: watch.nm_state.is_running)
                await wifi(watch)
                await watch.until(lambda: watch.nm_state.device("wlan0") is not None)
                end(service)
                await watch.until(lambda: not watch.nm_state.is_running)

            assert watch.nm_state.devices == ()
            assert watch.reasons.count("NetworkManager is there") == 3
            assert watch.reasons.count("NetworkManager is gone: going by netlink alone") == 3

    asyncio.run(scenario())


def test_the_bus_itself_may_be_restarted_and_nothing_is_left_open(bus: PrivateBus, library: str) -> None:
    async def scenario() -> None:
        async with watching(bus.address, library) as watch:
            service = bus.mock("networkmanager")
            await watch.until(lambda: watch.nm_state.is_running)
            gc.collect()
            before = len(os.listdir("/proc/self/fd"))
            for _ in range(3):
                bus.stop()
                await watch.until(lambda: not watch.nm_state.is_running)
                end(service)
                bus.start()
                service = bus.mock("networkmanager")
                await watch.until(lambda: watch.nm_state.is_running)
            gc.collect()
            assert len(os.listdir("/proc/self/fd")) == before

    asyncio.run(scenario())
    gc.collect()  # an unclosed socket fails the test here


def test_without_a_bus_nothing_happens_and_stopping_takes_no_time(tmp_path: Path, library: str) -> None:
    async def scenario() -> None:
        async with watching(f"unix:path={tmp_path}/nobody", library) as watch:
            await asyncio.sleep(0.1)
            assert not watch.nm_states

    asyncio.run(asyncio.wait_for(scenario(), 5))
    gc.collect()


def test_sleep_and_awakening_are_told(bus: PrivateBus, library: str) -> None:
    async def scenario() -> None:
        bus.mock("logind")
        wait_for(lambda: "login1" in bus.gdbus("call", "--system", *_LIST_NAMES), "logind is mocked")
        async with watching(bus.address, library) as watch:
            await watch.until(lambda: watch.bus is not None)
            for is_falling_asleep in (True, False):
                await prepare_for_sleep(watch, is_falling_asleep)
            await watch.until(lambda: len(watch.sleeps) == 2)

            assert watch.sleeps == [True, False]

    asyncio.run(scenario())


def test_a_signal_from_another_sender_is_ignored(bus: PrivateBus, library: str) -> None:
    async def scenario() -> None:
        bus.mock("logind")
        bus.mock("networkmanager")
        async with watching(bus.address, library) as watch:
            await watch.until(lambda: watch.nm_state.is_running and watch.bus is not None)
            assert watch.bus is not None
            forger = Connection(library, bus.address, [], None)
            await forger.open()
            try:
                forger.emit("/org/freedesktop/login1", "org.freedesktop.login1.Manager", "PrepareForSleep", "b", True)
                owner = ("org.freedesktop.DBus", "NameOwnerChanged", "sss", NM, ":1.1", "")
                send_to(forger, library, watch.bus.name, "/org/freedesktop/DBus", *owner)
                sleep = ("org.freedesktop.login1.Manager", "PrepareForSleep", "b", True)
                send_to(forger, library, watch.bus.name, "/org/freedesktop/login1", *sleep)
                await wifi(watch)  # its answer comes after the forged signals
                await watch.until(lambda: watch.nm_state.device("wlan0") is not None)
            finally:
                await forger.close()

            assert watch.sleeps == []
            assert watch.nm_state.is_running

    asyncio.run(scenario())


def test_a_call_without_a_receiver_is_an_error_that_can_be_told(bus: PrivateBus, library: str) -> None:
    async def scenario() -> None:
        one = Connection(library, bus.address, [], None)
        await one.open()
        try:
            with pytest.raises(BusError) as caught:
                await one.call("net.example.Nobody", "/", "net.example.Nobody", "Hello")
            assert caught.value.name == "org.freedesktop.DBus.Error.ServiceUnknown"
        finally:
            await one.close()

    asyncio.run(scenario())
    gc.collect()


def test_states_that_the_mock_knows_are_states_that_we_know(library: str) -> None:
    assert [state.value for state in DeviceState] == [*range(0, 130, 10)]


_LIST_NAMES = (
    "--dest=org.freedesktop.DBus",
    "--object-path=/org/freedesktop/DBus",
    "--method=org.freedesktop.DBus.ListNames",
)


async def prepare_for_sleep(watch: Watch, is_falling_asleep: bool) -> None:
    assert watch.bus is not None
    arguments = [watch.bus.variant("b", is_falling_asleep)]
    signal = ("org.freedesktop.login1.Manager", "PrepareForSleep", "b", arguments)
    await watch.bus.call("org.freedesktop.login1", "/org/freedesktop/login1", MOCK, "EmitSignal", "sssav", *signal)


def send_to(
    sender: Connection, library: str, to: str, path: str, interface: str, member: str, signature: str, *body: Any
) -> None:
    """Address a signal to one connection, which the match rules of its owner cannot prevent."""
    message = sender._library.Message.new_signal(path, interface, member, signature, list(body))
    message.destination = to
    sender._send(message)

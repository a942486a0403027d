"""A Linux phone: Wi-Fi, and a metered modem whose link has no gateway and no Ethernet.

The packets are real. ModemManager cannot run without a modem, so a mock says what NetworkManager would say of one.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from lispmob.lab.namespace import why_unavailable
from tests.desktop.desktop_world import EIDS, DesktopWorld, Node, desktop_world, used
from tests.desktop.private_bus import PrivateBus, private_bus, wait_for, why_no_mock

WHY_NOT = why_unavailable() or why_no_mock()
pytestmark = [pytest.mark.netns, pytest.mark.skipif(WHY_NOT is not None, reason=WHY_NOT or "")]

MODEM_ADDRESS: Final = "10.64.0.2"
MODEM_MTU: Final = 1430
_NM: Final = "org.freedesktop.NetworkManager"
_DEVICE: Final = f"{_NM}.Device"
_MANAGER: Final = "/org/freedesktop/NetworkManager"


class Phone:
    """Wi-Fi is w0; wwan0 carries the modem's packets, and NetworkManager knows it as cdc-wdm0."""

    def __init__(self, world: DesktopWorld, bus: PrivateBus) -> None:
        self.world = world
        self.bus = bus
        bus.mock("networkmanager")
        wait_for(lambda: _NM in bus.gdbus(*_NAMES), "NetworkManager is mocked")
        self._make_modem()
        self.modem = self._add_device("cdcwdm0")
        self._set("DeviceType", "uint32 8")
        self._set("IpInterface", "'wwan0'")

    def _make_modem(self) -> None:
        core, desk = self.world.core, self.world.desk
        core.run("ip", "link", "add", "cell", "type", "veth", "peer", "name", "wwan0", "netns", desk.name)
        core.run("ip", "link", "set", "cell", "up")
        core.run("ip", "route", "add", f"{MODEM_ADDRESS}/32", "dev", "cell")
        core.sysctl("ipv4/conf/cell/proxy_arp", "1")  # a modem has no ARP: here the core answers for every address
        desk.run("ip", "link", "set", "wwan0", "mtu", str(MODEM_MTU))

    def dial(self) -> None:
        """Connect: an address without a gateway; NetworkManager says that it is metered."""
        for line in (
            "link set wwan0 up",
            f"addr add {MODEM_ADDRESS} peer 10.64.0.1/32 dev wwan0",
            "route add default dev wwan0 metric 700",
        ):
            self.world.desk.run("ip", *line.split())
        self._set("Metered", "uint32 3")  # NM_METERED_GUESS_YES, as for every modem
        self._enter(100, 90, 0)

    def hang_up(self) -> None:
        """Disconnect: NetworkManager reports it first; then the address goes."""
        self._enter(110, 100, 39)

    def _add_device(self, name: str) -> str:
        told = self._call(_MANAGER, "org.freedesktop.DBus.Mock.AddWiFiDevice", name, name, "100")
        path = told.split("'")[1]
        for missing, value in (("Ip4Connectivity", 0), ("Ip6Connectivity", 0), ("Metered", 0), ("DeviceType", 8)):
            add = ("org.freedesktop.DBus.Mock.AddProperty", _DEVICE, missing, f"<uint32 {value}>")
            self._call(path, *add, must=False)
        return path

    def _set(self, name: str, value: str) -> None:
        changed = f"{{'{name}': <{value}>}}"
        self._call(self.modem, "org.freedesktop.DBus.Mock.UpdateProperties", _DEVICE, changed)

    def _enter(self, state: int, former: int, reason: int) -> None:
        arguments = f"[<uint32 {state}>, <uint32 {former}>, <uint32 {reason}>]"
        self._call(self.modem, "org.freedesktop.DBus.Mock.EmitSignal", _DEVICE, "StateChanged", "uuu", arguments)

    def _call(self, path: str, method: str, *arguments: str, must: bool = True) -> str:
        command = ["call", "--system", "--dest", _NM, "--object-path", path, "--method", method, *arguments]
        if must:
            return self.bus.gdbus(*command)
        subprocess.run(["gdbus", *command], env=self.bus.environment, capture_output=True, timeout=20, check=False)
        return ""


@pytest.fixture
def phone(tmp_path: Path) -> Iterator[Phone]:
    with private_bus(tmp_path) as bus, desktop_world(tmp_path) as world:
        yield Phone(world, bus)


def lispctl_uplinks(desk: Node) -> dict[str, list[str]]:
    """The table that a user sees, by its first column."""
    command = [sys.executable, "-m", "lispmob.lispctl.main", "--socket", str(desk.directory / "lispd.sock"), "uplinks"]
    shown = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout
    return {line.split()[0]: line.split() for line in shown.splitlines()[1:]}


def uplink(status: dict[str, Any], name: str) -> dict[str, Any]:
    (found,) = [each for each in status["uplinks"] if each["name"] == name]
    return dict(found)


def reaches_peer(phone: Phone) -> bool:
    return "bytes from" in phone.world.desk.run("sh", "-c", f"ping -c 3 -i 0.2 -W 2 {EIDS['peer']} || true")


def test_a_modem_without_a_gateway_carries_the_phone_and_is_shown_as_what_costs(phone: Phone) -> None:
    phone.dial()
    desk, _ = phone.world.start(phone.bus)
    desk.until_on("wwan0")
    status = desk.wait_until(lambda status: uplink(status, "wwan0")["is_metered"], "known to cost by volume")

    assert uplink(status, "wwan0")["addresses"] == [MODEM_ADDRESS]
    assert uplink(status, "wwan0")["mtu_bytes"] == MODEM_MTU
    name, _, address, priority, weight, mtu, *note = lispctl_uplinks(desk)["wwan0"]
    assert (name, address, priority, weight, mtu) == ("wwan0", MODEM_ADDRESS, "1", "100", str(MODEM_MTU))
    assert " ".join(note) == "used, metered"
    assert reaches_peer(phone)


def test_wifi_comes_before_the_modem_which_takes_over_under_a_stream_and_gives_back(phone: Phone) -> None:
    phone.world.attach(0)
    phone.dial()
    desk, peer = phone.world.start(phone.bus)
    desk.until_on("w0", "wwan0")
    stream = phone.world.stream(desk, peer)

    phone.world.desk.run("ip", "link", "set", "w0", "down")
    desk.until_on("wwan0")
    phone.world.attach(0)
    desk.until_on("w0", "wwan0")
    phone.hang_up()
    status = desk.wait_until(lambda status: used(status) == ["w0"], "on w0")

    assert uplink(status, "wwan0")["note"] == "is being disconnected (the user said so)"
    assert stream.finish().is_alive


_NAMES: Final = (
    *("call", "--system", "--dest", "org.freedesktop.DBus", "--object-path", "/org/freedesktop/DBus"),
    *("--method", "org.freedesktop.DBus.ListNames"),
)

"""The type of an interface: from rtnetlink's kind, the link layer, and what the driver says in /sys."""

from __future__ import annotations

from pathlib import Path

import pytest

from lispmob.iface_monitor import sysfs
from lispmob.iface_monitor.link_type import OTHER, SILENT, TUNNEL_KINDS, TYPES, DriverWords, link_type

ETHER, PPP, RAWIP, INFINIBAND = 1, 512, 519, 32


@pytest.mark.parametrize(
    ("kind", "hardware", "driver", "word"),
    [
        ("", ETHER, SILENT, "ethernet"),
        ("", ETHER, DriverWords("wlan"), "wifi"),
        ("", ETHER, DriverWords(is_wireless=True), "wifi"),
        ("", ETHER, DriverWords("wlan", is_usb=True), "wifi"),
        ("", ETHER, DriverWords("wwan", is_usb=True), "wwan"),
        ("", RAWIP, SILENT, "wwan"),
        ("", ETHER, DriverWords(is_usb=True), "usb"),
        ("", ETHER, DriverWords("bluetooth"), "bluetooth"),
        ("", ETHER, DriverWords("dsa"), "ethernet"),
        ("", PPP, SILENT, "ppp"),
        ("", INFINIBAND, SILENT, OTHER),
        ("ppp", PPP, SILENT, "ppp"),
        ("vlan", ETHER, SILENT, "vlan"),
        ("macvtap", ETHER, SILENT, "macvlan"),
        ("team", ETHER, SILENT, "bond"),
        ("tun", 65534, SILENT, "tun"),
        ("wireguard", 65534, SILENT, "wireguard"),
        ("gre", 778, SILENT, "tunnel"),
        ("dummy", ETHER, SILENT, OTHER),
    ],
)
def test_every_interface_has_one_word(kind: str, hardware: int, driver: DriverWords, word: str) -> None:
    assert link_type(kind, hardware, driver) == word
    assert word in TYPES


def test_every_kind_of_tunnel_goes_by_a_word_for_tunnels() -> None:
    assert {link_type(kind, 0) for kind in TUNNEL_KINDS} == {"tun", "wireguard", "tunnel"}


def write(root: Path, name: str, uevent: str, device: str | None = None) -> Path:
    here = root / name
    here.mkdir()
    (here / "uevent").write_text(uevent)
    if device is not None:
        (here / "device").mkdir()
        (here / "device" / "uevent").write_text(device)
    return here


def test_the_driver_of_a_tethering_phone_is_found_on_usb(tmp_path: Path) -> None:
    write(tmp_path, "usb0", "INTERFACE=usb0\nIFINDEX=7\n", "DEVTYPE=usb_interface\nDRIVER=rndis_host\n")
    write(tmp_path, "eth0", "INTERFACE=eth0\nIFINDEX=8\n", "DRIVER=e1000e\nPCI_ID=8086:15F9\n")

    assert sysfs.driver_words("usb0", 7, tmp_path) == DriverWords(is_usb=True)
    assert sysfs.driver_words("eth0", 8, tmp_path) == SILENT


def test_a_wireless_driver_without_a_word_of_its_own_is_known_by_its_directory(tmp_path: Path) -> None:
    (write(tmp_path, "wlan0", "INTERFACE=wlan0\nIFINDEX=3\n") / "wireless").mkdir()

    assert sysfs.driver_words("wlan0", 3, tmp_path) == DriverWords(is_wireless=True)


def test_what_another_network_namespace_says_of_the_same_name_does_not_count(tmp_path: Path) -> None:
    write(tmp_path, "eth0", "DEVTYPE=wlan\nINTERFACE=eth0\nIFINDEX=2\n")

    assert sysfs.driver_words("eth0", 3, tmp_path) == SILENT
    assert sysfs.driver_words("eth9", 2, tmp_path) == SILENT
    assert sysfs.driver_words("eth0", 2, tmp_path) == DriverWords("wlan")

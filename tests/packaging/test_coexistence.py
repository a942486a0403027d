"""The package on a desktop with real firewalld, ufw, systemd-networkd and NetworkManager, under systemd.

docs/coexistence.md lists the results.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.desktop.private_bus import wait_for
from tests.packaging.desktop_machine import DesktopMachine, desktop_machine
from tests.packaging.machine import why_no_machine

pytestmark = [
    pytest.mark.package,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(why_no_machine() is not None, reason=why_no_machine() or ""),
]

TUN = "datapath: {tier: tun}"
CLEAR = "security: {seal: off}"
PORT = 8080
FIREWALLS = {
    "firewalld": ("systemctl start firewalld", f"firewall-cmd --add-port={PORT}/tcp"),
    "ufw": ("ufw --force enable", f"ufw allow {PORT}/tcp"),
}
"""How each is started, and how it admits packets to one port."""
_NETWORKD = """[Match]
Name=w{number}
[Network]
Address=192.168.{network}.2/24
[Route]
Gateway=192.168.{network}.1
Metric=10{number}
"""


@pytest.fixture
def desktop(package: Path, tmp_path: Path) -> Iterator[DesktopMachine]:
    with desktop_machine(tmp_path, package) as one:
        yield one


def test_network_manager_keeps_off_our_device_and_tells_us_that_it_disconnects(desktop: DesktopMachine) -> None:
    desktop.connect(0, 1)
    desktop.start_lispd()

    states = dict(line.split(":") for line in desktop.box.sh("nmcli -t -f DEVICE,STATE dev").splitlines())
    assert states["lmn0"] == "unmanaged"
    assert desktop.reaches_peer()
    desktop.box.sh("nmcli dev disconnect w0")
    wait_for(lambda: [uplink["name"] for uplink in desktop.status()["uplinks"] if uplink["is_used"]] == ["w1"], "on w1")
    assert "w0: deactivating (the user said so)" in desktop.box.sh("journalctl -u lispd -o cat")
    assert desktop.reaches_peer()


def test_without_dbus_network_managers_dispatcher_nudges_us(desktop: DesktopMachine) -> None:
    desktop.connect(0, 1)
    desktop.start_lispd("dbus: no")
    assert "nudged" not in desktop.box.sh("journalctl -u lispd -o cat")

    desktop.box.sh("nmcli con down c1")

    wait_for(lambda: "nudged" in desktop.box.sh("journalctl -u lispd -o cat"), "nudged by the dispatcher script")
    assert desktop.reaches_peer()


def test_firewalld_leaves_our_chains_alone_and_lets_lisp_in_once_its_ports_are_open(desktop: DesktopMachine) -> None:
    desktop.connect(0, 1)
    desktop.start_lispd(TUN)
    before = desktop.settled()
    assert desktop.is_reached_by_peer()

    desktop.box.sh("systemctl start firewalld")
    desktop.until_as(before, "as before firewalld's start")
    desktop.until_shut()
    desktop.box.sh("firewall-cmd --permanent --add-port=4341-4342/udp && firewall-cmd --reload")
    desktop.until_as(before, "as before its reload")
    assert desktop.is_reached_by_peer()
    assert desktop.reaches_peer()

    desktop.box.sh("firewall-cmd --complete-reload")
    desktop.until_as(before, "as before its complete reload")
    assert desktop.reaches_peer()
    desktop.box.sh("systemctl stop firewalld")
    desktop.until_as(before, "as before its stop")
    assert desktop.is_reached_by_peer()


def test_ufw_leaves_our_chains_alone_and_lets_lisp_in_once_its_ports_are_open(desktop: DesktopMachine) -> None:
    desktop.connect(0, 1)
    desktop.start_lispd(TUN)
    before = desktop.settled()

    desktop.box.sh("ufw --force enable")
    desktop.until_as(before, "as before ufw")
    desktop.until_shut()
    desktop.box.sh("ufw allow 4341:4342/udp")
    assert desktop.is_reached_by_peer()
    assert desktop.reaches_peer()

    for command in ("reload", "disable"):
        desktop.box.sh(f"ufw {command}")
        desktop.until_as(before, f"as before ufw {command}")
        assert desktop.reaches_peer()


@pytest.mark.parametrize("firewall", FIREWALLS)
def test_what_the_ebpf_tier_takes_out_of_lisp_is_filtered_though_lisp_itself_is_not(
    desktop: DesktopMachine, firewall: str
) -> None:
    begin, let_in = FIREWALLS[firewall]
    desktop.connect(0)
    desktop.start_lispd(CLEAR)  # lispd's threads open sealed data, and the firewall comes before them
    wait_for(lambda: desktop.status()["datapath"]["tier"] == "ebpf", "the kernel moves the packets")
    desktop.serve(PORT)
    assert desktop.is_served_to_peer(PORT)

    desktop.box.sh(begin)
    wait_for(lambda: not desktop.is_served_to_peer(PORT), "a firewall that drops")
    assert desktop.is_reached_by_peer(), "both let an echo in, and its outer packet never comes before them"
    desktop.box.sh(let_in)
    wait_for(lambda: desktop.is_served_to_peer(PORT), "let in by the inner port alone")


def test_nftables_service_flushes_the_whole_ruleset_and_ours_is_back(desktop: DesktopMachine) -> None:
    desktop.connect(0, 1)
    desktop.start_lispd()
    before = desktop.settled()

    desktop.box.sh("nft -f /etc/nftables.conf")

    assert desktop.box.sh("cat /etc/nftables.conf").count("flush ruleset") == 1
    desktop.until_as(before, "as before")
    assert desktop.reaches_peer()


def test_systemd_networkd_flushes_what_it_did_not_make_and_ours_is_back(desktop: DesktopMachine) -> None:
    desktop.box.sh("systemctl stop NetworkManager")
    for number in (0, 1):
        desktop.box.put(f"/etc/systemd/network/w{number}.network", _NETWORKD.format(number=number, network=90 + number))
    desktop.box.sh("systemctl start systemd-networkd")
    desktop.start_lispd()
    wait_for(lambda: len([uplink for uplink in desktop.status()["uplinks"] if uplink["is_used"]]) == 2, "on both")
    before = desktop.settled()
    desktop.box.sh("systemd-run --unit=listener sh -c 'exec ip monitor rule route >/run/heard'")

    desktop.box.sh("systemctl restart systemd-networkd && networkctl reload && networkctl reconfigure w0 w1")

    wait_for(lambda: "Deleted" in desktop.box.sh("cat /run/heard"), "networkd flushes")
    desktop.until_as(before, "as before")
    assert desktop.reaches_peer()

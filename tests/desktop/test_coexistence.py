"""Programs that change routes on a desktop: VPNs, containers, services that flush. Results: docs/coexistence.md"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from lispmob.lab.namespace import why_unavailable
from tests.desktop.desktop_world import HUB, DesktopWorld, Node, desktop_world

pytestmark = [
    pytest.mark.netns,
    pytest.mark.skipif(why_unavailable() is not None, reason=why_unavailable() or ""),
]

EID_OF_PEER = "10.1.0.2"
LEGACY = "xtables-legacy-multi"


@pytest.fixture
def world(tmp_path: Path) -> Iterator[DesktopWorld]:
    with desktop_world(tmp_path) as one:
        one.attach(0)
        one.attach(1)
        yield one


def start(world: DesktopWorld) -> Node:
    desk, _ = world.start(None)
    desk.until_on("w0", "w1")
    assert reaches_peer(world)
    return desk


def reaches_peer(world: DesktopWorld) -> bool:
    return "bytes from" in world.desk.run("sh", "-c", f"ping -c 3 -i 0.2 -W 2 {EID_OF_PEER} || true")


def add_tunnel(world: DesktopWorld) -> None:
    """Add the device of a VPN; nothing answers behind it."""
    world.desk.run("ip", "tuntap", "add", "vpn0", "mode", "tun")
    world.desk.run("ip", "addr", "add", "10.8.0.2/24", "dev", "vpn0")
    world.desk.run("ip", "link", "set", "vpn0", "up")


def test_an_openvpn_that_takes_the_default_route_with_two_halves_leaves_the_eid_working(world: DesktopWorld) -> None:
    desk = start(world)
    add_tunnel(world)
    for half in ("0.0.0.0/1", "128.0.0.0/1"):
        world.desk.run("ip", "route", "add", half, "dev", "vpn0")

    assert reaches_peer(world)
    desk.until_on("w0", "w1")


def test_wg_quick_before_lispd_leaves_the_eid_working(world: DesktopWorld) -> None:
    add_tunnel(world)
    wg_quick(world)
    start(world)


def test_wg_quick_after_lispd_leaves_the_eid_working(world: DesktopWorld) -> None:
    desk = start(world)
    add_tunnel(world)
    before = sorted(world.desk.run("ip", "rule").splitlines())
    wg_quick(world)

    desk.wait_until(lambda _: reaches_peer(world), "reached the peer")
    desk.until_on("w0", "w1")

    for line in ("rule del table main suppress_prefixlength 0", "rule del not fwmark 51820 table 51820"):
        world.desk.run("ip", *line.split())
    desk.wait_until(lambda _: sorted(world.desk.run("ip", "rule").splitlines()) == before, "as before", patience_s=5.0)


def wg_quick(world: DesktopWorld) -> None:
    """Do what wg-quick(8) does for AllowedIPs = 0.0.0.0/0, at the priorities that the kernel gives."""
    for line in (
        "route add 0.0.0.0/0 dev vpn0 table 51820",
        "rule add not fwmark 51820 table 51820",
        "rule add table main suppress_prefixlength 0",
    ):
        world.desk.run("ip", *line.split())


def test_a_container_behind_dockers_bridge_reaches_the_internet_as_without_us_and_the_overlay_as_the_host_does(
    world: DesktopWorld,
) -> None:
    world.desk.sysctl("ipv4/ip_forward", "1")
    desk = start(world)
    run = world.desk.run
    run("ip", "link", "add", "docker0", "type", "bridge")
    run("ip", "addr", "add", "172.17.0.1/16", "dev", "docker0")
    run("ip", "link", "set", "docker0", "up")
    container = world.add_namespace("container")
    run("ip", "link", "add", "veth1", "type", "veth", "peer", "name", "eth0", "netns", container.name)
    run("ip", "link", "set", "veth1", "master", "docker0", "up")
    for line in ("addr add 172.17.0.2/16 dev eth0", "link set eth0 up", "route add default via 172.17.0.1"):
        container.run("ip", *line.split())
    run(
        *["iptables", "-t", "nat", "-A", "POSTROUTING", "-s", "172.17.0.0/16", "!", "-o", "docker0", "-j", "MASQUERADE"]
    )
    run(*["iptables", "-t", "mangle", "-A", "PREROUTING", "-i", "docker0", "-j", "MARK", "--set-mark", "0x1"])

    for target in (HUB, EID_OF_PEER):
        assert "bytes from" in container.run("sh", "-c", f"ping -c 2 -i 0.2 -W 2 {target} || true")
    assert reaches_peer(world)
    desk.until_on("w0", "w1")


def test_rules_and_routes_that_a_network_service_flushes_are_back_within_a_moment(world: DesktopWorld) -> None:
    desk = start(world)
    before = sorted(world.desk.run("ip", "rule").splitlines())
    world.desk.run("ip", "rule", "flush")
    for priority, table in (("32766", "main"), ("32767", "default")):
        world.desk.run("ip", "rule", "add", "priority", priority, "table", table)

    desk.wait_until(lambda _: sorted(world.desk.run("ip", "rule").splitlines()) == before, "as before", patience_s=5.0)
    assert reaches_peer(world)


def test_routes_that_a_network_service_flushes_are_back_within_a_moment(world: DesktopWorld) -> None:
    desk = start(world)

    def routes() -> list[str]:
        return sorted(world.desk.run("ip", "route", "show", "table", "all", "proto", "201").splitlines())

    before = routes()
    assert any("10.1.0.0/16 dev lmn0" in line for line in before)
    said = world.desk.run("ip", "-s", "route", "flush", "table", "all", "proto", "201")
    assert "deleting" in said

    desk.wait_until(lambda _: routes() == before, "as before", patience_s=5.0)
    assert reaches_peer(world)


def test_what_another_program_does_to_our_interface_is_put_right_within_a_moment(world: DesktopWorld) -> None:
    desk = start(world)

    def interface() -> list[str]:
        addresses = world.desk.run("ip", "-o", "addr", "show", "dev", "lmn0")
        mtu = world.desk.run("cat", "/sys/class/net/lmn0/mtu")
        routes = world.desk.run("ip", "route", "show", "table", "all", "dev", "lmn0")
        lines = [*addresses.splitlines(), mtu, *routes.splitlines()]
        return sorted(line for line in lines if "fe80:" not in line)  # the kernel's own, after a small MTU

    before = interface()
    assert any("10.1.0.1/32" in line for line in before)
    for damage in (
        "addr flush dev lmn0",
        "-4 addr flush dev lmn0",
        "addr del 10.1.0.1/32 dev lmn0",
        "link set lmn0 mtu 576",
        "link set lmn0 down",
        "addr add 192.0.2.77/32 dev lmn0",
    ):
        world.desk.run("ip", *damage.split())
        desk.wait_until(lambda _: interface() == before, f"as before, after: {damage}", patience_s=5.0)
    assert reaches_peer(world)


def chains(world: DesktopWorld) -> list[str]:
    """Our chains in iptables: the one that translates, and the one that keeps replies on their path."""
    return sorted(line for line in world.desk.run("iptables-save").splitlines() if "LISPMOB-" in line[3:])


def until_both_are_there(world: DesktopWorld, desk: Node) -> list[str]:
    desk.wait_until(
        lambda _: all(word in str(chains(world)) for word in ("LISPMOB-NAT", "LISPMOB-CAME-IN")), "all chains"
    )
    return chains(world)


@pytest.mark.parametrize(
    "flush",
    [
        ("iptables", "-t", "nat", "-F"),
        ("iptables", "-t", "mangle", "-F"),
        ("iptables", "-t", "mangle", "-F", "LISPMOB-CAME-IN"),
        ("nft", "flush", "ruleset"),
    ],
    ids=" ".join,
)
def test_chains_that_a_firewall_flushes_are_back_within_a_moment(world: DesktopWorld, flush: tuple[str, ...]) -> None:
    desk = start(world)
    before = until_both_are_there(world, desk)
    world.desk.run(*flush)
    assert chains(world) != before

    desk.wait_until(lambda _: chains(world) == before, "as before", patience_s=8.0)
    assert reaches_peer(world)


@pytest.mark.skipif(shutil.which(LEGACY) is None, reason=f"{LEGACY} is missing: install the Debian package iptables")
def test_where_the_kernel_does_not_tell_of_a_flush_a_nudge_repairs_all_chains(
    world: DesktopWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    legacy = world.directory / "legacy"
    legacy.mkdir()
    for name in (f"{tool}{kind}" for tool in ("iptables", "ip6tables") for kind in ("", "-save", "-restore")):
        (legacy / name).symlink_to(str(shutil.which(LEGACY)))
    monkeypatch.setenv("PATH", f"{legacy}:{os.environ['PATH']}")
    desk = start(world)
    before = until_both_are_there(world, desk)
    for table in ("nat", "mangle"):
        world.desk.run("iptables", "-t", table, "-F")
    assert chains(world) == []
    desk.ask("nudge")

    desk.wait_until(lambda _: chains(world) == before, "as before", patience_s=8.0)

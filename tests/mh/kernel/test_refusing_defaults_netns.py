"""A default route that refuses (a kill switch, a block against leaks) takes nothing from the overlay."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import Iterator
from ipaddress import ip_network

import pytest

from lispmob.lab.namespace import NamespaceSet
from lispmob.mh.kernel.kernel import KernelRouter, KernelState
from lispmob.mh.kernel.kernel_listing import KernelListing
from lispmob.wire.address import EidPrefix
from tests.mh.kernel.test_kernel_router import make_tun, run

pytestmark = pytest.mark.netns

EIDS = (EidPrefix.parse("10.1.0.1/32"), EidPrefix.parse("2001:db8:e::1/128"))
OVERLAY = (ip_network("10.1.0.0/16"), ip_network("2001:db8:e::/48"))
STATES = {
    "split": KernelState("lmn0", EIDS, "split", OVERLAY),
    "full": KernelState("lmn0", EIDS, "full", OVERLAY),
}
INSIDE = {4: "10.1.4.9", 6: "2001:db8:e:4::9"}
NEARER = {4: ("10.1.128.9", "10.1.128.0/20"), 6: ("2001:db8:e:8000::9", "2001:db8:e:8000::/52")}
NEIGHBOUR = {4: "192.0.2.77", 6: "2001:db8:1::77"}


@pytest.fixture
def inside() -> Iterator[None]:
    """An uplink, our device, and a network inside the overlay that the host reaches by itself."""
    with NamespaceSet() as namespaces, namespaces.make("refusing").entered():
        run("ip link add eth0 type veth peer name far0; ip link set far0 up; ip link set eth0 up")
        run("ip addr add 192.0.2.2/24 dev eth0; ip -6 addr add 2001:db8:1::2/64 dev eth0 nodad")
        for family in (4, 6):
            run(f"ip -{family} route add {NEARER[family][1]} dev eth0")
        descriptor = make_tun()
        yield
        os.close(descriptor)


def way(family: int, destination: str, source: str = "") -> str:
    """The device that the kernel takes; what it says when it refuses."""
    words = ["ip", f"-{family}", "route", "get", destination, *(["from", source] if source else [])]
    done = subprocess.run(words, capture_output=True, text=True, timeout=5, check=False)
    return done.stdout.partition(" dev ")[2].split()[0] if done.returncode == 0 else done.stderr.strip()


def apply(state: KernelState) -> None:
    assert asyncio.run(KernelRouter().route(state)) == ()


@pytest.mark.parametrize("mode", ["split", "full"])
@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize(
    "lines",
    [
        ["route add blackhole default metric 1"],
        ["route add unreachable default table 52", "rule add lookup 52 priority 5270"],
        ["route add prohibit default table 52", "rule add lookup 52 priority 1000"],
    ],
    ids=["in main", "in a table behind us", "in a table in front of us"],
)
def test_the_overlay_enters_our_device_and_what_is_nearer_is_reached(
    inside: None, family: int, mode: str, lines: list[str]
) -> None:
    for line in lines:
        run(f"ip -{family} {line}")

    apply(STATES[mode])

    eid = str(EIDS[0 if family == 4 else 1].address)
    assert [way(family, INSIDE[family]), way(family, INSIDE[family], eid)] == ["lmn0", "lmn0"]
    if "table" not in lines[0]:
        assert way(family, NEARER[family][0]) == "eth0"
        assert way(family, NEIGHBOUR[family]) == "eth0"


def test_the_rules_follow_a_block_that_comes_and_goes(inside: None) -> None:
    apply(STATES["split"])
    before = run("ip -6 rule")

    run("ip -6 route add unreachable default metric 1")
    apply(STATES["split"])
    blocked = way(6, INSIDE[6])
    run("ip -6 route del unreachable default metric 1")
    apply(STATES["split"])

    assert blocked == "lmn0"
    assert run("ip -6 rule") == before


def test_a_table_is_wide_by_a_whole_default_route_for_every_source(inside: None) -> None:
    for table, route in (
        (71, "-6 route add default via 2001:db8:1::1"),
        (72, "-6 route add default from 2001:db8:1::/64 via 2001:db8:1::1"),
        (73, "-6 route add throw default"),
        (74, "-4 route add 0.0.0.0/1 via 192.0.2.1"),
        (75, "-4 route add default via 192.0.2.1"),
    ):
        run(f"ip {route} {'dev eth0' * ('via' in route)} table {table}")

    tables = [(6, 71), (6, 72), (6, 73), (4, 74), (4, 75)]
    assert KernelListing.wide_tables(tables) == {(6, 71), (4, 75)}

"""Which addresses are locators, and which uplink comes first, on hosts where the kernel has a choice."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Callable
from ipaddress import ip_address

import pytest

from lispmob.iface_monitor.netlink import NetlinkMonitor
from lispmob.iface_monitor.snapshot import NetworkState, UplinkPolicy
from tests.iface_monitor.watch import ip

pytestmark = pytest.mark.netns

POLICY = UplinkPolicy(destinations=(ip_address("198.18.0.10"), ip_address("2001:db8:99::10")))


def seen(*changes: Callable[[], None]) -> list[dict[str, list[str]]]:
    """The uplinks in their order with their addresses, at the start and after each change."""

    async def main() -> list[dict[str, list[str]]]:
        told = asyncio.Event()
        monitor = NetlinkMonitor(POLICY, lambda *_: told.set())
        await monitor.start()
        try:
            found = [listed(monitor.state)]
            for change in changes:
                told.clear()
                change()
                async with asyncio.timeout(5):
                    await told.wait()
                found.append(listed(monitor.state))
            return found
        finally:
            await monitor.stop()

    return asyncio.run(main())


def listed(state: NetworkState) -> dict[str, list[str]]:
    return {uplink.name: [str(address) for address in uplink.addresses] for uplink in state.uplinks(POLICY)}


def priorities() -> dict[str, int]:
    """The uplinks with their priorities."""

    async def main() -> dict[str, int]:
        monitor = NetlinkMonitor(POLICY, lambda *_: None)
        await monitor.start()
        await monitor.stop()
        return {uplink.name: uplink.priority for uplink in monitor.state.uplinks(POLICY)}

    return asyncio.run(main())


def second() -> None:
    """Add another interface, up."""
    ip("link add eth1 type veth peer name far1", "link set far1 up", "link set eth1 up")


@pytest.mark.parametrize(
    ("lines", "locators"),
    [
        (["203.0.113.7/24", "192.168.100.2/24", "via 203.0.113.1"], ["203.0.113.7"]),
        (["192.168.178.20/24", "192.168.1.2/24", "via 192.168.178.1"], ["192.168.178.20"]),
        (["192.168.1.2/24", "10.0.0.5/8", "via 10.0.0.1"], ["10.0.0.5"]),
        (["198.51.100.9/24", "203.0.113.7/24", "via 203.0.113.1"], ["203.0.113.7", "198.51.100.9"]),
        (["203.0.113.7/24", "198.51.100.99/32", "via 203.0.113.1"], ["203.0.113.7", "198.51.100.99"]),
        (["203.0.113.7/24", "192.168.100.2/24", "via 203.0.113.1 src 192.168.100.2"], ["192.168.100.2", "203.0.113.7"]),
        (["203.0.113.200/24", "203.0.113.7/25", "via 203.0.113.1"], None),
        (["192.168.100.2/24", "203.0.113.7/32", "via 192.168.100.1"], ["192.168.100.2", "203.0.113.7"]),
    ],
)
def test_the_address_that_the_kernel_would_take_comes_first(
    inside: None, lines: list[str], locators: list[str] | None
) -> None:
    addresses, route = lines[:-1], lines[-1]
    ip(*(f"addr add {address} dev eth0" for address in addresses), f"route add default {route} dev eth0")

    (found,) = seen()

    if locators is None:  # both are in the gateway's subnet: what the kernel chooses is right
        assert found["eth0"][0] == kernel_source("198.18.0.10")
    else:
        assert found == {"eth0": locators}


def kernel_source(destination: str) -> str:
    said = subprocess.run(["ip", "route", "get", destination], capture_output=True, text=True, check=True, timeout=5)
    return said.stdout.split(" src ")[1].split()[0]


def test_of_two_ipv6_prefixes_the_one_that_the_kernel_takes_towards_the_map_server_comes_first(inside: None) -> None:
    ip(
        "addr add 2001:db8:1::2/64 dev eth0 nodad",
        "addr add 2001:db8:98::2/64 dev eth0 nodad",  # shares more bits with the Map-Server's (RFC 6724, rule 8)
        "route add default via 2001:db8:1::1 dev eth0",
        family="-6",
    )

    assert seen() == [{"eth0": ["2001:db8:98::2", "2001:db8:1::2"]}]


FROM_P1 = "default from 2001:db8:1::/64 via fe80::1 dev eth0 metric 512"
FROM_P2 = "default from 2001:db8:2::/64 via fe80::1 dev eth0 metric 512"


def two_prefixes(interface: str = "eth0") -> None:
    ip(*(f"addr add 2001:db8:{n}::2/64 dev {interface} nodad" for n in (1, 2)), family="-6")


@pytest.mark.parametrize(("gone", "left"), [(FROM_P1, "2001:db8:2::2"), (FROM_P2, "2001:db8:1::2")])
def test_one_of_two_source_specific_default_routes_goes_and_the_other_stays(inside: None, gone: str, left: str) -> None:
    two_prefixes()
    ip(f"route add {FROM_P1}", f"route add {FROM_P2}", family="-6")

    found = seen(lambda: ip(f"route del {gone}", family="-6"))

    assert [set(each["eth0"]) for each in found] == [{"2001:db8:1::2", "2001:db8:2::2"}, {left}]


def test_an_address_whose_prefix_has_no_default_route_on_its_interface_is_no_locator(inside: None) -> None:
    second()
    two_prefixes()
    two_prefixes("eth1")
    ip(f"route add {FROM_P1}", f"route add {FROM_P2.replace('eth0', 'eth1')}", family="-6")

    assert seen() == [{"eth0": ["2001:db8:1::2"], "eth1": ["2001:db8:2::2"]}]


def test_a_default_route_for_all_sources_beside_a_source_specific_one_serves_every_address(inside: None) -> None:
    two_prefixes()
    ip(f"route add {FROM_P1}", "route add default via fe80::9 dev eth0 metric 1024", family="-6")

    found = seen(lambda: ip("route del default via fe80::9 dev eth0 metric 1024", family="-6"))

    assert [set(each["eth0"]) for each in found] == [{"2001:db8:1::2", "2001:db8:2::2"}, {"2001:db8:1::2"}]


def test_replacing_a_source_specific_route_leaves_that_of_another_source_alone(inside: None) -> None:
    two_prefixes()
    ip(f"route add {FROM_P1}", f"route add {FROM_P2}", family="-6")

    found = seen(lambda: ip(f"route replace {FROM_P1.replace('fe80::1', 'fe80::7')}", family="-6"))

    assert set(found[1]["eth0"]) == {"2001:db8:1::2", "2001:db8:2::2"}


def test_an_ipv4_table_that_only_one_source_is_looked_up_in_serves_that_source(inside: None) -> None:
    ip(
        "addr add 192.0.2.2/24 dev eth0",
        "addr add 198.51.100.2/24 dev eth0",
        "route add default via 198.51.100.1 dev eth0 table 100",
        "rule add from 198.51.100.0/24 lookup 100 priority 500",
    )

    assert seen() == [{"eth0": ["198.51.100.2"]}]


def with_table_77(*rules: str) -> dict[str, int]:
    """Two uplinks with default routes in main (eth0 better) and in the table 77 (eth1 only)."""
    second()
    ip(
        "addr add 192.0.2.2/24 dev eth0",
        "addr add 198.51.100.2/24 dev eth1",
        "route add default via 192.0.2.1 dev eth0 metric 100",
        "route add default via 198.51.100.1 dev eth1 metric 200",
        "route add default via 198.51.100.1 dev eth1 table 77",
        *rules,
    )
    return priorities()


def test_a_table_that_all_packets_are_looked_up_in_before_main_decides_on_the_order(inside: None) -> None:
    assert with_table_77("rule add lookup 77 priority 1000") == {"eth1": 1, "eth0": 2}


@pytest.mark.parametrize(
    "rule",
    [
        "rule add fwmark 0x100/0x3f00 lookup 77 priority 2001",
        "rule add uidrange 7000-7001 lookup 77 priority 1000",
        "rule add iif eth1 lookup 77 priority 1001",
        "rule add to 10.0.0.0/8 lookup 77 priority 1000",
        "rule add from 198.51.100.2 lookup 77 priority 1000",
        "rule add lookup 77 suppress_prefixlength 0 priority 1000",
        "rule add lookup 77 priority 32999",
    ],
)
def test_a_table_for_some_packets_and_one_behind_main_change_nothing_about_the_order(inside: None, rule: str) -> None:
    assert with_table_77(rule) == {"eth0": 1, "eth1": 2}


def test_a_map_server_in_the_network_of_the_second_uplink_does_not_make_it_the_first(inside: None) -> None:
    assert with_table_77("addr add 198.18.0.2/24 dev eth1") == {"eth0": 1, "eth1": 2}


def test_equal_default_routes_share_a_priority_although_the_kernel_takes_one_of_them(inside: None) -> None:
    second()
    ip(
        "addr add 192.0.2.2/24 dev eth0",
        "addr add 198.51.100.2/24 dev eth1",
        "route add default nexthop via 192.0.2.1 dev eth0 nexthop via 198.51.100.1 dev eth1",
    )

    assert priorities() == {"eth0": 1, "eth1": 1}

"""The monitor against a real kernel, in a namespace of its own."""

from __future__ import annotations

import asyncio
import resource
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from lispmob.iface_monitor import netlink as netlink_module
from lispmob.iface_monitor import rtnetlink
from lispmob.iface_monitor.containers import container_networks
from lispmob.iface_monitor.netlink import CHURN_S, NetlinkMonitor
from lispmob.iface_monitor.snapshot import Link, UplinkPolicy, UplinkRule
from lispmob.netlink import connection
from lispmob.netlink.iproute import AsyncIPRoute
from lispmob.netlink.message import Raw, messages
from tests.iface_monitor.watch import Watch, attach, ip, run, watching

pytestmark = pytest.mark.netns


def test_what_is_there_at_the_start_is_told_by_the_start(inside: None) -> None:
    attach()

    async def body(watch: Watch) -> None:
        assert watch.deltas[0].uplinks[0].name == "eth0"

    run(body)


def test_an_ipv6_address_that_another_host_has_is_told_as_such_and_is_no_locator(inside: None) -> None:
    Path("/proc/sys/net/ipv6/conf/eth0/accept_dad").write_text("1", encoding="ascii")
    ip("addr add 2001:db8::7/64 dev far0 nodad", family="-6")

    async def body(watch: Watch) -> None:
        ip("addr add 2001:db8::7/64 dev eth0", "route add default via 2001:db8::1 dev eth0", family="-6")
        await watch.until(lambda: any(local.is_duplicate for local in watch.monitor.state.addresses))

        (taken,) = (local for local in watch.monitor.state.addresses if local.is_duplicate)
        assert str(taken.address) == "2001:db8::7"
        assert watch.uplinks() == {}
        ip("addr del 2001:db8::7/64 dev eth0", family="-6")
        await watch.until(lambda: watch.kinds()[-1] == "duplicate-gone")

    run(body)


def test_an_address_and_then_its_default_route_make_an_uplink(inside: None) -> None:
    async def body(watch: Watch) -> None:
        attach()
        await watch.until(lambda: watch.uplinks() == {"eth0": ["192.0.2.2"]})

        assert watch.kinds()[-2:] == ["address-added", "default-route-added"]

    run(body)


@pytest.mark.parametrize(
    ("command", "kind"),
    [
        ("addr del 192.0.2.2/24 dev eth0", "address-removed"),
        ("link set eth0 down", "link-down"),
        ("link set far0 down", "carrier-lost"),
        ("route del default", "default-route-removed"),
        ("link del eth0", "link-lost"),
    ],
)
def test_every_way_of_losing_an_uplink_is_told(inside: None, command: str, kind: str) -> None:
    attach()

    async def body(watch: Watch) -> None:
        ip(command)
        await watch.until(lambda: not watch.uplinks())

        assert kind in watch.kinds()

    run(body)


def test_the_ipv4_default_route_that_silently_went_with_the_last_address_is_not_believed_in(inside: None) -> None:
    attach()

    async def body(watch: Watch) -> None:
        ip("addr del 192.0.2.2/24 dev eth0", "addr add 198.51.100.2/24 dev eth0")
        await watch.until(lambda: "renumbered" in watch.kinds())

        assert watch.monitor.state.default_routes == ()

    run(body)


def test_ipv6_default_routes_go_with_their_interface_even_when_the_kernel_says_nothing(inside: None) -> None:
    Path("/proc/sys/net/ipv6/route/skip_notify_on_dev_down").write_text("1", encoding="ascii")
    ip("addr add 2001:db8::2/64 dev eth0 nodad", "route add default via fe80::1 dev eth0", family="-6")

    async def body(watch: Watch) -> None:
        assert watch.uplinks() == {"eth0": ["2001:db8::2"]}
        ip("link set eth0 down")
        await watch.until(lambda: not watch.uplinks())

        assert watch.monitor.state.default_routes == ()

    run(body)


def test_ipv6_routes_are_followed_through_replacement_and_a_second_next_hop(inside: None) -> None:
    async def body(watch: Watch) -> None:
        def gateways() -> list[str]:
            return [str(route.gateway) for route in watch.monitor.state.default_routes]

        ip("addr add 2001:db8::2/64 dev eth0 nodad", "route add default via fe80::1 dev eth0", family="-6")
        await watch.until(lambda: gateways() == ["fe80::1"])
        ip("route replace default via fe80::2 dev eth0", family="-6")
        await watch.until(lambda: gateways() == ["fe80::2"])
        ip("route append default via fe80::3 dev eth0", family="-6")
        await watch.until(lambda: gateways() == ["fe80::2", "fe80::3"])
        ip("route del default via fe80::2 dev eth0", family="-6")
        await watch.until(lambda: gateways() == ["fe80::3"])

    run(body)


def test_the_two_halves_of_a_vpn_count_as_a_default_route(inside: None) -> None:
    ip("addr add 192.0.2.2/24 dev eth0")

    async def body(watch: Watch) -> None:
        ip("route add 0.0.0.0/1 via 192.0.2.1", "route add 128.0.0.0/1 via 192.0.2.1")
        await watch.until(lambda: bool(watch.uplinks()))
        ip("route del 128.0.0.0/1")
        await watch.until(lambda: not watch.uplinks())

    run(body)


def test_a_default_route_of_another_table_counts_once_a_rule_looks_that_table_up(inside: None) -> None:
    ip("addr add 192.0.2.2/24 dev eth0", "route add default via 192.0.2.1 table 77")

    async def body(watch: Watch) -> None:
        assert watch.uplinks() == {}
        ip("rule add from 192.0.2.2 lookup 77")
        await watch.until(lambda: bool(watch.uplinks()))
        ip("rule del from 192.0.2.2 lookup 77")
        await watch.until(lambda: not watch.uplinks())

    run(body)


def test_default_routes_of_our_own_are_no_news(inside: None) -> None:
    async def main() -> None:
        async with watching() as watch:
            attach()
            await watch.until(lambda: "eth0" in watch.uplinks())
            before = watch.monitor.state.default_routes
            ip(
                "rule add pref 32801 oif eth0 lookup 4343 protocol 201",
                "route add default via 192.0.2.1 dev eth0 table 4343 proto 201",
                "route add default via 192.0.2.1 metric 50 proto 201",
                "link set eth0 mtu 1400",
            )
            await watch.until(lambda: "mtu-changed" in watch.kinds())

            assert watch.monitor.state.default_routes == before

    asyncio.run(main())


def test_several_next_hops_of_one_default_route_make_as_many_uplinks(inside: None) -> None:
    ip("link add eth1 type veth peer name far1", "link set far1 up", "link set eth1 up")
    ip("addr add 192.0.2.2/24 dev eth0", "addr add 198.51.100.2/24 dev eth1")
    ip("route add default nexthop via 192.0.2.1 nexthop via 198.51.100.1")

    async def body(watch: Watch) -> None:
        await watch.until(lambda: set(watch.uplinks()) == {"eth0", "eth1"})

    run(body)


def test_a_foreign_change_of_the_routing_rules_is_told(inside: None) -> None:
    async def main() -> None:
        told = asyncio.Event()
        monitor = NetlinkMonitor(UplinkPolicy(), lambda *_: None, told.set)
        await monitor.start()
        ip("rule add from 192.0.2.2 lookup 77")
        await asyncio.wait_for(told.wait(), 5)
        await monitor.stop()

    asyncio.run(main())


def test_a_network_of_containers_is_told_when_its_bridge_gets_its_address_and_when_it_loses_it(inside: None) -> None:
    async def change(watch: Watch, *lines: str) -> int:
        before = len(watch.deltas)
        ip(*lines)
        await watch.until(lambda: len(watch.deltas) > before)
        return len(container_networks(watch.monitor.state))

    async def body(watch: Watch) -> None:
        assert await change(watch, "link add docker0 type bridge", "link set docker0 up") == 0
        assert await change(watch, "addr add 172.17.0.1/16 dev docker0") == 1
        assert await change(watch, "addr del 172.17.0.1/16 dev docker0") == 0

    run(body)


def test_a_renamed_interface_keeps_its_index_and_changes_its_name(inside: None) -> None:
    attach()

    async def body(watch: Watch) -> None:
        ip("link set eth0 name lan0")
        await watch.until(lambda: "lan0" in watch.uplinks())

        assert "renamed" in watch.kinds()

    run(body)


@pytest.mark.parametrize(
    ("lines", "type_"),
    [
        ([], "veth"),
        (["link add x0 type bridge"], "bridge"),
        (["link add link eth0 name x0 type macvlan"], "macvlan"),
        (["tuntap add dev x0 mode tun"], "tun"),
        (["link add x0 type vxlan id 7 dstport 4789 dev eth0"], "tunnel"),
        (["link add link eth0 name x0 type vlan id 7"], "vlan"),
        (["link add x0 type wireguard"], "wireguard"),
        (["link add x0 type dummy"], "other"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_the_kernel_says_of_what_type_an_interface_is(inside: None, lines: list[str], type_: str) -> None:
    try:
        ip(*lines)
    except subprocess.CalledProcessError:
        pytest.skip(f"this kernel makes no interface of the type {type_}")

    async def body(watch: Watch) -> None:
        types = {link.name: link.type for link in watch.monitor.state.links}
        assert types["x0" if lines else "eth0"] == type_

    run(body)


def test_vlan_and_bridge_interfaces_are_uplinks(inside: None) -> None:
    ip("link add br0 type bridge", "link set eth0 master br0", "link set br0 up", "addr add 192.0.2.2/24 dev br0")
    ip("route add default via 192.0.2.1")

    async def body(watch: Watch) -> None:
        await watch.until(lambda: watch.uplinks() == {"br0": ["192.0.2.2"]})

    run(body)


def test_another_policy_is_applied_without_a_change_of_the_network(inside: None) -> None:
    attach()

    async def body(watch: Watch) -> None:
        watch.monitor.set_policy(UplinkPolicy((UplinkRule("eth0", is_allowed=False),)))

        assert watch.deltas[-1].uplinks == ()

    run(body)


def fill(family: str, count: int) -> None:
    prefix = "10.{}.{}.0/24 dev eth0" if family == "-4" else "2001:db8:{:x}:{:x}::/64 dev eth0"
    lines = [f"route add {prefix.format(number >> 8, number & 255)}" for number in range(count)]
    ip(*lines, family=family)


def counting(read: Callable[[bytes], Iterator[Raw]], seen: list[int]) -> Callable[[bytes], Iterator[Raw]]:
    def counted(data: bytes) -> Iterator[Raw]:
        found = list(read(data))
        seen.append(len(found))
        return iter(found)

    return counted


def test_20000_foreign_routes_pass_unseen_and_cost_nothing_when_a_default_route_changes(
    inside: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    attach()

    async def body(watch: Watch) -> None:
        seen: list[int] = []
        monkeypatch.setattr(connection, "messages", counting(messages, seen))

        await asyncio.to_thread(fill, "-4", 20000)
        await asyncio.sleep(0)
        assert seen == []
        assert watch.monitor.resyncs == 0

        ip("route add 0.0.0.0/0 via 192.0.2.9 metric 50")
        await watch.until(lambda: len(watch.monitor.state.default_routes) == 2)
        assert sum(seen) < 2000

    run(body)


def test_the_halves_of_a_vpn_are_found_among_20000_foreign_routes_without_reading_them(
    inside: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    attach()
    ip(
        "link add vpn0 type veth peer name vpn1",
        "link set vpn0 up",
        "link set vpn1 up",
        "addr add 172.16.0.2/24 dev vpn0",
    )
    fill("-4", 20000)

    async def body(watch: Watch) -> None:
        seen: list[int] = []
        monkeypatch.setattr(connection, "messages", counting(messages, seen))

        ip("route add 0.0.0.0/1 via 172.16.0.1 dev vpn0", "route add 128.0.0.0/1 via 172.16.0.1 dev vpn0")
        await watch.until(lambda: "vpn0" in watch.uplinks())
        assert sum(seen) < 4000

    run(body)


def test_lost_events_are_made_up_for_by_looking_at_everything(inside: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(netlink_module, "_RECEIVE_BUFFER_BYTES", 2048)

    async def body(watch: Watch) -> None:
        ip(*(f"link add v{number} type veth peer name w{number}" for number in range(60)))
        attach()
        await watch.until(lambda: watch.uplinks() == {"eth0": ["192.0.2.2"]} and watch.monitor.resyncs > 0)
        assert len(watch.monitor.state.links) == 123

    run(body)


COME_AND_GO = [
    command
    for number in range(40)
    for command in (
        f"link add v{number} type veth peer name w{number}",
        f"link set v{number} up",
        f"addr add 172.16.{number}.1/24 dev v{number}",
        f"link del v{number}",
    )
]


def test_interfaces_of_others_that_come_and_go_are_looked_at_a_few_times(
    inside: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    attach()
    looks: list[float] = []
    dump = rtnetlink.dump_links

    def counting() -> list[Link]:
        looks.append(time.monotonic())
        return dump()

    async def body(watch: Watch) -> None:
        monkeypatch.setattr(rtnetlink, "dump_links", counting)
        await asyncio.to_thread(ip, *COME_AND_GO, "link add last type veth peer name least")
        await watch.until(lambda: any(link.name == "last" for link in watch.monitor.state.links))

        assert all(later - earlier > CHURN_S / 2 for earlier, later in pairwise(looks))

    run(body)


@pytest.mark.parametrize(
    "command",
    ["addr del 192.0.2.2/24 dev eth0", "link set eth0 down", "route del default", "addr add 192.0.2.3/24 dev eth0"],
)
def test_an_uplink_that_changes_in_the_midst_of_them_is_not_kept_waiting(
    inside: None, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.setattr(netlink_module, "CHURN_S", 3600.0)
    attach()

    async def body(watch: Watch) -> None:
        before = watch.uplinks()
        await asyncio.to_thread(ip, *COME_AND_GO, command)

        await watch.until(lambda: watch.uplinks() != before)

    run(body)


def test_an_interface_that_becomes_an_uplink_in_the_midst_of_them_is_not_kept_waiting(
    inside: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(netlink_module, "CHURN_S", 3600.0)

    async def body(watch: Watch) -> None:
        await asyncio.to_thread(ip, *COME_AND_GO)
        attach()

        await watch.until(lambda: watch.uplinks() == {"eth0": ["192.0.2.2"]})

    run(body)


def test_a_burst_ends_in_the_state_that_the_kernel_is_in(inside: None) -> None:
    attach()
    flaps = ["addr del 192.0.2.2/24 dev eth0", "addr add 192.0.2.2/24 dev eth0", "route add default via 192.0.2.1"]

    async def body(watch: Watch) -> None:
        await asyncio.to_thread(ip, *(flaps * 100), "addr add 192.0.2.99/24 dev eth0")
        await watch.until(lambda: watch.uplinks() == {"eth0": ["192.0.2.2", "192.0.2.99"]})
        fresh = Watch()
        await fresh.monitor.start()
        assert fresh.monitor.state == watch.monitor.state
        await fresh.monitor.stop()

    run(body)


def test_how_long_it_takes_from_the_change_to_the_callback(inside: None) -> None:
    attach()
    taken: dict[str, list[float]] = {"address removed": [], "address added": []}

    async def body(watch: Watch) -> None:
        async with AsyncIPRoute() as kernel:
            index = socket.if_nametoindex("eth0")
            for _ in range(10):
                for what, verb in (("address added", "add"), ("address removed", "del")):
                    told = len(watch.told_at)
                    began = time.monotonic()
                    await kernel.addr(verb, index=index, family=2, address="192.0.2.77", prefixlen=24)  # type: ignore[arg-type]
                    await watch.until(lambda told=told: len(watch.told_at) > told)  # type: ignore[misc]
                    taken[what].append((watch.told_at[told] - began) * 1000)

    run(body)
    for what, times in taken.items():
        print(f"{what}: median {sorted(times)[len(times) // 2]:.2f} ms, worst {max(times):.2f} ms, request included")  # noqa: T201


def test_an_idle_network_never_wakes_the_monitor(inside: None) -> None:
    attach()

    async def body(watch: Watch) -> None:
        loop = asyncio.get_running_loop()
        assert not loop._scheduled  # type: ignore[attr-defined]
        before = resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw
        await asyncio.sleep(0.3)
        assert resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw - before < 10

    run(body)

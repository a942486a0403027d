"""Default routes that the host's owner did not write as `default via ...`, followed on a real kernel."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.iface_monitor.watch import Watch, ip, run

pytestmark = pytest.mark.netns

COMPAT = Path("/proc/sys/net/ipv4/nexthop_compat_mode")
NETS = {"-4": ("192.0.2.2/24", "192.0.2.1", "192.0.2.9"), "-6": ("2001:db8::2/64 nodad", "2001:db8::1", "2001:db8::9")}


@pytest.mark.parametrize("compat", ["0", "1"])
@pytest.mark.parametrize("family", ["-4", "-6"])
def test_a_default_route_by_a_nexthop_object_is_followed(inside: None, family: str, compat: str) -> None:
    COMPAT.write_text(compat, encoding="ascii")
    address, gateway, other = NETS[family]
    ip("link add eth1 type veth peer name far1", "link set far1 up", "link set eth1 up")
    ip(f"addr add {address} dev eth0", f"addr add {address.replace('2/', '3/')} dev eth1", family=family)

    async def body(watch: Watch) -> None:
        def hops() -> list[tuple[int, str]]:
            return [(route.ifindex, str(route.gateway)) for route in watch.monitor.state.default_routes]

        numbers = {link.name: link.ifindex for link in watch.monitor.state.links}
        eth0, eth1 = numbers["eth0"], numbers["eth1"]
        ip(f"nexthop add id 1 via {gateway} dev eth0", f"nexthop add id 2 via {other} dev eth1", family=family)
        ip("nexthop add id 10 group 1/2", family="")
        ip("route add default nhid 10", family=family)
        await watch.until(lambda: sorted(hops()) == [(eth0, gateway), (eth1, other)])
        ip("nexthop replace id 10 group 2", family="")
        await watch.until(lambda: hops() == [(eth1, other)])
        ip("nexthop del id 10", family="")
        await watch.until(lambda: not hops())

    run(body)


def test_a_blackhole_as_a_nexthop_object_refuses(inside: None) -> None:
    ip("addr add 192.0.2.2/24 dev eth0", "route add default via 192.0.2.1 metric 100", "nexthop add id 1 blackhole")

    async def body(watch: Watch) -> None:
        (uplink,) = watch.monitor.state.uplinks(watch.monitor.policy)
        ip("route add default nhid 1 metric 5")
        await watch.until(lambda: not watch.uplinks())

        assert watch.monitor.state.refusal_of(uplink.ifindex, 4) == "the route `blackhole default metric 5`"

    run(body)


@pytest.mark.parametrize(
    ("lines", "undo", "said"),
    [
        (["route add blackhole default"], "route del blackhole default", "the route `blackhole default metric 0`"),
        (["rule add unreachable priority 1000"], "rule del priority 1000", "the routing rule `1000: unreachable`"),
        (
            ["rule add not fwmark 0xca6c prohibit priority 1000"],
            "rule del priority 1000",
            "the routing rule `1000: prohibit`",
        ),
        (
            ["route add prohibit 0.0.0.0/1 metric 7", "route add prohibit 128.0.0.0/1 metric 7"],
            "route del prohibit 128.0.0.0/1",
            "the route `prohibit both halves of the default metric 7`",
        ),
        (
            ["route add unreachable default table 77", "rule add iif lo lookup 77 priority 1000"],
            "rule del priority 1000",
            "the route `unreachable default metric 0` in table 77",
        ),
    ],
)
def test_a_kill_switch_ends_an_uplink_and_its_end_brings_it_back(
    inside: None, lines: list[str], undo: str, said: str
) -> None:
    ip("addr add 192.0.2.2/24 dev eth0", "route add default via 192.0.2.1 metric 100")

    async def body(watch: Watch) -> None:
        (uplink,) = watch.monitor.state.uplinks(watch.monitor.policy)
        ip(*lines)
        await watch.until(lambda: not watch.uplinks())
        assert watch.monitor.state.refusal_of(uplink.ifindex, 4) == said

        ip(undo)
        await watch.until(lambda: watch.uplinks() == {"eth0": ["192.0.2.2"]})

    run(body)

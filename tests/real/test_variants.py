"""Other networks of the same kinds as the scenarios: mirrored, with more uplinks, with other failures."""

from __future__ import annotations

import time
from collections.abc import Callable
from ipaddress import ip_address
from pathlib import Path

import pytest

from lispmob.lab.real.scenario import GAP_GOAL_S
from lispmob.lab.real.two_families import HOME_V6, home
from lispmob.lab.real.world import HUB_V4, HUB_V6, A, B, Gap, World

pytestmark = pytest.mark.netns

WATCH_S = GAP_GOAL_S + 0.8  # the last packets may still be in flight
OTHER_V4 = ip_address("198.18.0.77")  # no host has it


def start(world: World, *, hub: tuple[object, ...] = (HUB_V4, HUB_V6), servers: tuple[object, ...] = (HUB_V4,)) -> None:
    world.start_hub(hub)  # type: ignore[arg-type]
    world.start_node(A, servers)  # type: ignore[arg-type]
    world.start_node(B, servers)  # type: ignore[arg-type]
    world.wait_registered()


def two_homes(world: World, *, first: int, second: int) -> None:
    world.home_router("n1", "192.168.8.1/24", "198.51.100.2/24")
    world.home_router("n2", "192.168.9.1/24", "203.0.113.2/24")
    world.behind("a", "eth1", "n1", ["192.168.8.100/24"], metric=first)
    world.behind("a", "eth2", "n2", ["192.168.9.100/24"], metric=second)


# --- a way that died


def nat_first_beside_an_open_one(world: World) -> Callable[[], None]:
    """The mirror of a public uplink that fails: the one behind the NAT is preferred, and fails."""
    world.home_router("n1", "192.168.8.1/24", "198.51.100.2/24")
    world.behind("a", "eth1", "n1", ["192.168.8.100/24"], metric=100)
    world.attach("a", "eth2", ["203.0.113.2/24"], metric=101)
    start(world)
    return lambda: world.ip("n1", "link set wan down")


def three_uplinks_two_die(world: World) -> Callable[[], None]:
    """Two of three providers fail at the same moment."""
    two_homes(world, first=100, second=101)
    world.attach("a", "eth3", ["198.19.7.2/24"], metric=102)
    start(world)

    def both() -> None:
        for router in ("n1", "n2"):
            world.ip(router, "link set wan down")

    return both


def two_open_uplinks(world: World) -> Callable[[], None]:
    """No NAT at all: the first provider loses all packets from now on."""
    world.attach("a", "eth1", ["198.51.100.2/24"], metric=100)
    world.attach("a", "eth2", ["203.0.113.2/24"], metric=101)
    start(world)
    return lambda: world.black_hole("198.51.100.0/24")


def equal_metrics(world: World) -> Callable[[], None]:
    """Two NATs that share the flows; one of them fails."""
    two_homes(world, first=100, second=100)
    world.ip("a", "route append default via 192.168.8.1 dev eth1 metric 100")  # the second one took its place
    start(world)
    return lambda: world.ip("n2", "link set wan down")


def ipv6_dies_later(world: World) -> Callable[[], None]:
    """Dual stack at home, a hub with both families: IPv6 fails while packets flow."""
    home(world, HOME_V6)
    start(world, servers=(HUB_V4, HUB_V6))
    return lambda: world.black_hole(f"{HOME_V6}::/64", "2001:db8:a0::/64")


def renumbered_in_ipv4(world: World) -> Callable[[], None]:
    """Two public IPv4 addresses on one interface; the older one is dead upstream."""
    world.attach("a", "eth0", ["203.0.113.7/24", "198.51.100.7/24"])
    world.ip("a", "route add default via 198.51.100.1 dev eth0 metric 100")
    start(world)
    return lambda: world.black_hole("203.0.113.0/24")


def ipv4_of_a_home_dies(world: World) -> Callable[[], None]:
    """The hub has IPv4 alone, and the home's IPv4, behind a NAT, fails: the peer is left by IPv6."""
    home(world, HOME_V6)
    start(world, hub=(HUB_V4,))
    return lambda: world.black_hole("198.51.100.0/24")


DEATHS = (
    nat_first_beside_an_open_one,
    three_uplinks_two_die,
    two_open_uplinks,
    equal_metrics,
    ipv6_dies_later,
    renumbered_in_ipv4,
    ipv4_of_a_home_dies,
)


@pytest.mark.parametrize("network", DEATHS, ids=lambda network: network.__name__)
def test_packets_flow_both_ways_again_within_seconds_of_a_death(
    network: Callable[[World], Callable[[], None]], tmp_path: Path
) -> None:
    with World(tmp_path, tier="tun") as world:
        gap: Gap = world.gap(network(world), watch_s=WATCH_S)

    assert gap.worst_s is not None
    assert gap.worst_s <= GAP_GOAL_S


def test_a_provider_that_comes_back_costs_no_packet(tmp_path: Path) -> None:
    with World(tmp_path, tier="tun") as world:
        two_homes(world, first=100, second=101)
        start(world)
        world.gap(lambda: world.ip("n1", "link set wan down"), watch_s=6.0)
        with world.stream() as probes:
            time.sleep(1.0)
            began = time.monotonic()
            world.ip("n1", "link set wan up", "route replace default via 198.51.100.1 dev wan metric 100")
            time.sleep(5.0)
            ended = time.monotonic() - 0.3
            out, back = probes.finish()

    assert (out.lost(began, ended), back.lost(began, ended)) == (0, 0)


def test_a_renewal_that_takes_the_address_away_for_a_moment_costs_no_packet(tmp_path: Path) -> None:
    """Some DHCP clients do this every few minutes or hours."""
    with World(tmp_path, tier="tun") as world:
        world.attach("a", "eth0", ["198.51.100.2/24"], metric=100)
        start(world)
        with world.stream() as probes:
            time.sleep(1.5)
            began = time.monotonic()
            for _ in range(4):
                world.ip(
                    "a",
                    "addr del 198.51.100.2/24 dev eth0",
                    "addr add 198.51.100.2/24 dev eth0",
                    "route replace default via 198.51.100.1 dev eth0 metric 100",
                )
                time.sleep(0.8)
            ended = time.monotonic() - 0.3
            out, back = probes.finish()

    assert len(out.between(began, ended)) > 100
    assert (out.lost(began, ended), back.lost(began, ended)) == (0, 0)


def test_a_home_router_that_starts_again_with_another_address_is_followed(tmp_path: Path) -> None:
    """Its table of translations is then empty, and nothing changes on our side of it."""
    with World(tmp_path, tier="tun") as world:
        world.home_router("n1", "192.168.8.1/24", "198.51.100.2/24")
        world.behind("a", "eth1", "n1", ["192.168.8.100/24"])
        start(world)

        def restart() -> None:
            world.ip(
                "n1",
                "addr del 198.51.100.2/24 dev wan",
                "addr add 198.51.100.3/24 dev wan",
                "route replace default via 198.51.100.1 dev wan metric 100",
            )
            world["n1"].run("conntrack", "-F")

        gap = world.gap(restart)

    assert gap.worst_s is not None
    assert gap.worst_s <= GAP_GOAL_S


# --- families


def test_a_home_whose_hub_has_a_dead_address_besides_works(tmp_path: Path) -> None:
    """The first Map-Server of the file does not exist."""
    with World(tmp_path, tier="tun") as world:
        home(world, HOME_V6)
        world.start_hub((HUB_V4, HUB_V6))
        for identity in (A, B):
            world.start_node(identity, (OTHER_V4, HUB_V4))
        time.sleep(5.0)
        sent, out, back = world.lost_both_ways(3.0)

    assert sent > 0
    assert (out, back) == (0, 0)


def test_nodes_without_a_family_in_common_reach_each_other_by_the_hub(tmp_path: Path) -> None:
    with World(tmp_path, tier="tun") as world:
        world.attach("a", "eth0", ["2001:db8:1::2/64"], metric=100)
        world.ip("b", "addr del 2001:db8:b::2/64 dev eth0")
        world.start_hub((HUB_V4, HUB_V6))
        world.start_node(A, (HUB_V6,))
        world.start_node(B, (HUB_V4,))
        world.wait_registered()
        sent, out, back = world.lost_both_ways(3.0, settle_s=3.0)

    assert sent > 0
    assert (out, back) == (0, 0)


def test_an_ipv6_only_network_with_an_ipv4_hub_is_said_to_be_one(tmp_path: Path) -> None:
    with World(tmp_path, tier="tun") as world:
        world.attach("a", "eth0", ["2001:db8:1::2/64"], metric=100)
        world.start_hub((HUB_V4,))
        node = world.start_node(A, (HUB_V4,))

        def keys() -> set[str]:
            status = node.lispctl("status") or {}
            return {problem["key"] for problem in status.get("problems", ())}

        world.wait(lambda: "no-address-of-family" in keys(), "the status names the missing family", 10)

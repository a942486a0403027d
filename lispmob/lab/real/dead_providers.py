"""Uplinks whose provider fails: link, address and route stay, but no packets pass."""

from __future__ import annotations

from typing import Final

from lispmob.lab.real.scenario import Scenario, gap_check
from lispmob.lab.real.world import HUB_V6, A, B, World
from lispmob.lab.report import Check


def nat_provider_died(check: str, world: World) -> Check:
    """Two home routers; the first one's provider fails."""
    world.home_router("n1", "192.168.8.1/24", "198.51.100.2/24")
    world.home_router("n2", "192.168.9.1/24", "203.0.113.2/24")
    world.behind("a", "eth1", "n1", ["192.168.8.100/24"], metric=100)
    world.behind("a", "eth2", "n2", ["192.168.9.100/24"], metric=101)
    _start(world)
    return gap_check(check, world.gap(lambda: world.ip("n1", "link set wan down")))


def open_provider_died(check: str, world: World) -> Check:
    """A public address first, a NAT second; the public one's provider fails."""
    world.home_router("n1", "192.168.8.1/24", "198.51.100.2/24")
    world.attach("a", "eth2", ["203.0.113.2/24"], metric=100)
    world.behind("a", "eth1", "n1", ["192.168.8.100/24"], metric=101)
    _start(world)
    return gap_check(check, world.gap(lambda: world.black_hole("203.0.113.0/24")))


def renumbered(check: str, world: World) -> Check:
    """Two global addresses on one interface; the provider stops routing the older one."""
    world.attach("a", "eth0", ["2001:db8:1::2/64", "2001:db8:2::2/64"])
    world.ip("a", "route add default via 2001:db8:2::1 dev eth0 metric 100")
    world.start_hub((HUB_V6,))
    world.start_node(A, (HUB_V6,))
    world.start_node(B, (HUB_V6,))
    world.wait_registered()
    return gap_check(check, world.gap(lambda: world.black_hole("2001:db8:1::/64")))


def same_address_sticks(check: str, world: World) -> Check:
    """Two modem sticks of the same model, with the same address and gateway; the first one's provider fails."""
    world.home_router("n1", "192.168.8.1/24", "198.51.100.2/24")
    world.home_router("n2", "192.168.8.1/24", "203.0.113.2/24")
    world.behind("a", "eth1", "n1", ["192.168.8.100/24"], metric=100)
    world.behind("a", "eth2", "n2", ["192.168.8.100/24"], metric=101)
    _start(world)
    return gap_check(check, world.gap(lambda: world.ip("n1", "link set wan down")))


def _start(world: World) -> None:
    world.start_hub()
    world.start_node(A)
    world.start_node(B)
    world.wait_registered()


SCENARIOS: Final = (
    Scenario("nat-provider-died.gap", "Two NATs; the first one's provider dies, the link stays up", nat_provider_died),
    Scenario("open-provider-died.gap", "A public uplink dies behind its gateway; a NAT is left", open_provider_died),
    Scenario("renumbered.gap", "Two addresses; the older one is dead upstream", renumbered),
    Scenario(
        "same-address-sticks.gap", "Two sticks with one address; the first one dies upstream", same_address_sticks
    ),
)

"""Two address families, of which only one works: an address of a family does not show that it works."""

from __future__ import annotations

import time
from typing import Final

from lispmob.lab.real.scenario import Scenario, gap_check, lost_check
from lispmob.lab.real.world import HUB_V4, HUB_V6, A, B, World
from lispmob.lab.report import Check

HOME_V6: Final = "2001:db8:a1"
ULA: Final = "fd12:3456:789a"
WATCH_S: Final = 8.0


def home(world: World, prefix: str) -> None:
    """A home: IPv4 behind a NAT, and a /64 of IPv6 that its router forwards unchanged."""
    world.home_router("n1", "192.168.8.1/24", "198.51.100.2/24", more_outside=["2001:db8:a0::2/64"])
    world.ip("n1", f"addr add {prefix}::1/64 dev lan nodad")
    world.ip("inet", f"route add {prefix}::/64 via 2001:db8:a0::2")
    world.behind("a", "eth1", "n1", ["192.168.8.100/24", f"{prefix}::2/64"])
    world.ip("a", f"route add default via {prefix}::1 dev eth1 metric 100")


def dual_stack_home(check: str, world: World) -> Check:
    """The usual home, and a Map-Server with IPv4 only."""
    home(world, HOME_V6)
    return _both_ways(check, world)


def ula_home(check: str, world: World) -> Check:
    """A home whose router announces a local prefix, which the Internet does not route."""
    home(world, ULA)
    world.black_hole("fc00::/7")
    return _both_ways(check, world)


def first_family_dead(check: str, world: World) -> Check:
    """An IPv4 default route without connectivity from the start; the hub and the peer have both families."""
    world.attach("a", "eth0", ["198.51.100.2/24", "2001:db8:1::2/64"], metric=100)
    world.black_hole("198.51.100.0/24")
    world.start_hub((HUB_V4, HUB_V6))
    world.start_node(B, (HUB_V4, HUB_V6))
    world.wait_registered("b")
    return gap_check(check, world.opened(lambda: world.start_node(A, (HUB_V4, HUB_V6)), watch_s=WATCH_S))


def _both_ways(check: str, world: World) -> Check:
    world.start_hub((HUB_V4,))
    world.start_node(A)
    world.start_node(B)
    world.wait_registered()
    time.sleep(2.0)
    sent, out, back = world.lost_both_ways(3.0, settle_s=0.0)
    return lost_check(check, 2 * sent, out + back)


SCENARIOS: Final = (
    Scenario("dual-stack-home.both-ways", "A usual home: IPv4 behind a NAT, IPv6, a hub with IPv4", dual_stack_home),
    Scenario("ula-home.both-ways", "A home whose IPv6 ends at its router", ula_home),
    Scenario("first-family-dead.gap", "An IPv4 default route into nothing, IPv6 works", first_family_dead),
)

"""Lines with a smaller MTU than their ends, without ICMP: PPPoE, LTE, tunnels, hotels."""

from __future__ import annotations

from typing import Final

from lispmob.lab.real.scenario import Scenario
from lispmob.lab.real.world import A, B, World
from lispmob.lab.report import Check, fact
from lispmob.lab.transfer import transfer

NARROW_OCTETS: Final = 1400
FILE_OCTETS: Final = 3_000_000
WITHIN_S: Final = 10.0


def mute(world: World, *names: str) -> None:
    """Make these routers and hosts send no "fragmentation needed" and no "packet too big"."""
    for name in names:
        world.nft(name, "add table inet mute")
        world.nft(name, "add chain inet mute output { type filter hook output priority 0; }")
        world.nft(name, "add rule inet mute output icmp type destination-unreachable icmp code frag-needed drop")
        world.nft(name, "add rule inet mute output icmpv6 type packet-too-big drop")


def narrow(world: World, octets: int = NARROW_OCTETS, *, is_mute: bool = True) -> None:
    """Put a line with this MTU between inet and b, behind a router, so that b does not see it."""
    world.add("far", is_router=True)
    world.ip("inet", "link del b.eth0")
    world.cable(("inet", "far"), ("far", "near"), near_addresses=["10.99.0.1/24", "2001:db8:99f::1/64"])
    world.ip("far", "addr add 10.99.0.2/24 dev near", "addr add 2001:db8:99f::2/64 dev near nodad")
    world.attach("b", "eth0", ["192.0.2.130/25", "2001:db8:b::2/64"], to="far", metric=100)
    world.ip("inet", "route add 192.0.2.128/25 via 10.99.0.2", "route add 2001:db8:b::/64 via 2001:db8:99f::2")
    world.ip("far", "route add default via 10.99.0.1", "route add default via 2001:db8:99f::1")
    squeeze(world, octets)
    if is_mute:
        mute(world, "inet", "far")


def squeeze(world: World, octets: int) -> None:
    """Set the MTU of the line to b's router."""
    world.ip("inet", f"link set far mtu {octets}")
    world.ip("far", f"link set near mtu {octets}")


def tcp(check: str, world: World) -> Check:
    """3 MB in each direction through a line of 1400 octets, whose routers drop the ICMP messages about it."""
    world.attach("a", "eth0", ["198.51.100.2/24", "2001:db8:a::2/64"], metric=100)
    narrow(world)
    world.start_hub()
    world.start_node(A)
    world.start_node(B)
    world.wait_registered()
    there = transfer(world.party(A), world.party(B), FILE_OCTETS, timeout_s=WITHIN_S)
    back = transfer(world.party(B), world.party(A), FILE_OCTETS, timeout_s=WITHIN_S)
    is_ok = there.is_complete and back.is_complete
    return fact(
        check, ok=is_ok, value=round(there.took_s + back.took_s, 3), unit="s for 3 MB each way", goal=2 * WITHIN_S
    )


SCENARIOS: Final = (
    Scenario("pmtu-black-hole.tcp", "A line that takes 1400 octets, and drops ICMP: TCP each way", tcp),
)

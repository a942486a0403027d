"""A hub on a rented machine: it has a private address, and its provider translates a public one."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import ip_address
from typing import Final

from lispmob.lab.ping import ping
from lispmob.lab.real.scenario import Scenario, lost_check
from lispmob.lab.real.world import HUB_V4, A, B, World
from lispmob.lab.report import Check

SERVER_EIDS: Final = (ip_address("10.1.0.254"), ip_address("2001:db8:e::fe"))
PINGS: Final = 2
CLOUD_INSIDE: Final = "10.0.0.4/24"
_RTR: Final = f"rtr: {{enabled: yes}}\npublic-address: [{HUB_V4}]\n"


def behind_one_to_one(world: World, outside: str = f"{HUB_V4}/24", inside: str = CLOUD_INSIDE) -> None:
    """Put the hub behind its provider's 1:1 NAT, which translates all ports of the public address."""
    public, private = outside.split("/")[0], inside.split("/")[0]
    world.ip("hub", "link delete eth0")
    world.add("cloud", is_router=True)
    world.attach("cloud", "wan", [outside], metric=100)
    world.attach("hub", "eth0", [inside], to="cloud", metric=100)
    world.nft("cloud", "add table ip one")
    world.nft("cloud", "add chain ip one pre { type nat hook prerouting priority -100; }")
    world.nft("cloud", "add chain ip one post { type nat hook postrouting priority 100; }")
    world.nft("cloud", f"add rule ip one pre iifname wan ip daddr {public} dnat to {private}")
    world.nft("cloud", f"add rule ip one post oifname wan ip saddr {private} snat to {public}")


def cloud_hub(check: str, world: World) -> Check:
    """a at home behind its router, b without NAT; the hub, their RTR and Map-Server, behind a 1:1 NAT."""
    behind_one_to_one(world)
    world.home_router("home", "192.168.8.1/24", "203.0.113.2/24")
    world.behind("a", "eth0", "home", ["192.168.8.2/24"])
    start(world)
    world.wait_registered()
    sent, out, back = world.lost_both_ways(2.0)
    return lost_check(check, 2 * sent, out + back)


def start(world: World, names: Sequence[str] = ("a", "b"), *, extra: str = _RTR) -> None:
    """Start the hub, and these nodes, which have its public address."""
    world.start_hub((), extra=extra)
    for identity in (A, B):
        if identity.name in names:
            world.start_node(identity)


def server_by_eid(check: str, world: World) -> Check:
    """The rented machine has EIDs itself: a, behind a NAT, and b, without NAT, exchange packets with it."""
    behind_one_to_one(world)
    world.home_router("home", "192.168.8.1/24", "203.0.113.2/24")
    world.behind("a", "eth0", "home", ["192.168.8.2/24"])
    own = ", ".join(f'"{eid}"' for eid in SERVER_EIDS)
    start(world, extra=f"{_RTR}own-eids: [{own}]\n")
    world.wait_registered()
    pairs = [(node, eid) for node in (A, B) for eid in SERVER_EIDS]
    lost = 0
    for node, eid in pairs:
        theirs = node.eid4 if eid.version == 4 else node.eid6
        for _ in range(2):  # the first may wait for a mapping and a handshake
            lost += ping(world[node.name], eid, theirs, count=PINGS, timeout_s=3.0).lost
            lost += ping(world["hub"], theirs, eid, count=PINGS, timeout_s=3.0).lost
    return lost_check(check, 4 * PINGS * len(pairs), lost)


SCENARIOS: Final = (
    Scenario("cloud-hub.both-ways", "A hub on a rented machine, behind a 1:1 NAT", cloud_hub),
    Scenario("server-by-eid.both-ways", "The rented machine itself, reached by an EID of its own", server_by_eid),
)

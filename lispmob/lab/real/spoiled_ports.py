"""Networks that pass UDP port 4342 and spoil 4341: registrations stand, and data would be lost."""

from __future__ import annotations

from typing import Final

from lispmob.lab.real.scenario import Scenario, lost_check
from lispmob.lab.real.world import A, B, World
from lispmob.lab.report import Check

_FILTER: Final = (
    "table ip port { chain out { type filter hook forward priority 0; oifname wan udp dport 4341 drop; }; }"
)
_POOL: Final = (
    "table ip masq { chain post { type nat hook postrouting priority 100;"
    " oifname wan udp dport 4341 snat to 203.0.113.3; oifname wan snat to 203.0.113.2; }; }"
)


def spoiled_port(check: str, world: World) -> Check:
    """The network of a drops what goes to port 4341. The NAT of b gives each destination port another address."""
    world.home_router("n1", "192.168.8.1/24", "198.51.100.2/24")
    world.behind("a", "eth1", "n1", ["192.168.8.100/24"])
    world.nft("n1", _FILTER)
    world.home_router("n2", "192.168.9.1/24", "203.0.113.2/24")
    world.ip("n2", "addr add 203.0.113.3/24 dev wan")
    world.nft("n2", "delete table ip masq")
    world.nft("n2", _POOL)
    world.ip("b", "link del eth0")
    world.behind("b", "eth1", "n2", ["192.168.9.100/24"])
    world.start_hub()
    world.start_node(A)
    world.start_node(B)
    world.wait_registered()
    sent, out, back = world.lost_both_ways(0.8, settle_s=1.8)
    return lost_check(check, 2 * sent, out + back)


SCENARIOS: Final = (
    Scenario("spoiled-port.both-ways", "A network that drops UDP port 4341; a NAT that splits the ports", spoiled_port),
)

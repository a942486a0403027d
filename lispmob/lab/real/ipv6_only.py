"""A network with IPv6 alone and a translator (NAT64), as LTE or a conference's Wi-Fi. The hub has IPv4 alone."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Final

from lispmob.lab.nat64 import Plan
from lispmob.lab.process import Tool
from lispmob.lab.real.scenario import Scenario, lost_check
from lispmob.lab.real.world import HUB_V4, A, B, World
from lispmob.lab.report import Check

PREFIX: Final = "2001:db8:64::/96"
ROUTER: Final = "2001:db8:a6::1"
_PUBLIC: Final = "203.0.113.64"


@contextlib.contextmanager
def translated(world: World, plan: Plan) -> Iterator[Tool]:
    """Put a router with a translator between a's eth0, which has 2001:db8:a6::2 alone, and inet."""
    world.add("nat64", is_router=True)
    world.attach("nat64", "wan", ["198.51.100.2/24"], metric=100)
    world.ip("inet", f"route add {plan.public}/32 via 198.51.100.2")
    world.attach("a", "eth0", ["2001:db8:a6::2/64"], to="nat64", metric=100)
    with Tool(world["nat64"], "lispmob.lab.nat64", asdict(plan)) as translator:
        yield translator


def asking(directory: Path, nameserver: str) -> Sequence[str]:
    """A command that starts another command with this DNS server only, and with no names but those of its files."""
    directory.mkdir(exist_ok=True)
    for name, text in (("resolv.conf", f"nameserver {nameserver}\n"), ("nsswitch.conf", "hosts: files dns\n")):
        (directory / name).write_text(text, encoding="ascii")
    bind = "".join(f"mount --bind {directory}/{name} /etc/{name} && " for name in ("resolv.conf", "nsswitch.conf"))
    return ("unshare", "--mount", "sh", "-c", f'{bind} exec "$0" "$@"')


def nat64(check: str, world: World) -> Check:
    """The node learns the prefix by DNS; packets in both directions, from two seconds after registering."""
    with translated(world, Plan(PREFIX, _PUBLIC, dns=ROUTER)):
        world.start_hub((HUB_V4,))
        world.start_node(A, behind=asking(world.directory / "etc", ROUTER))
        world.start_node(B)
        world.wait_registered()
        time.sleep(2.0)
        sent, out, back = world.lost_both_ways(3.0, settle_s=0.0)
    return lost_check(check, 2 * sent, out + back)


SCENARIOS: Final = (Scenario("nat64.both-ways", "IPv6 alone, a translator, a hub with IPv4", nat64),)

"""Peers that leave and come back, and packets for absent peers."""

from __future__ import annotations

import contextlib
import errno
import json
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Final

from lispmob.lab.demo_service import Identity
from lispmob.lab.link import IpAddress
from lispmob.lab.packet_log import PacketLog
from lispmob.lab.real.scenario import Scenario
from lispmob.lab.real.world import OVERLAY, A, B, Gap, World
from lispmob.lab.report import Check, fact, figure

CAME_BACK_GOAL_S: Final = 2.0
AWAY_S: Final = 6.0
WATCH_S: Final = 5.0
SOON_S: Final = 1.0  # a refused connection fails at once; on a busy machine within this time
DEAD_S: Final = 15.0  # for a peer that did not announce its end
_REFUSED: Final = frozenset({errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EACCES, errno.ECONNREFUSED})
A_ADDRESSES: Final = ("198.51.100.2/24", "2001:db8:a::2/64")
_NOBODY: Final = (ip_address("10.1.0.77"), ip_address("2001:db8:e::77"))
"""EIDs that no site has."""


def came_back(check: str, world: World, *, is_killed: bool = False, elsewhere: str = "") -> Check:
    """b stops while a sends to it, and comes back after a while; how long until packets pass in both directions."""
    two_in_the_open(world)
    gap = gap_of_return(world, is_killed=is_killed, elsewhere=elsewhere)
    return figure(check, gap.worst_s, "s", CAME_BACK_GOAL_S)


def gap_of_return(
    world: World, *, is_killed: bool = False, elsewhere: str = "", version: int = 4, away_s: float = AWAY_S
) -> Gap:
    """From b's registration on: when each direction carried packets steadily again."""
    with world.stream(version) as probes:
        time.sleep(2.0)
        go(world, is_killed=is_killed)
        time.sleep(away_s)
        if elsewhere:
            move_b(world, elsewhere)
        world.start_node(B)
        world.wait_registered("b")
        back_at = time.monotonic()
        time.sleep(WATCH_S)
        ended = time.monotonic() - 0.3
        logs = probes.finish()
    return Gap(*(_reopened(log, back_at, ended) for log in logs))


def go(world: World, *, is_killed: bool) -> None:
    """Stop b's lispd, with or without a withdrawal."""
    daemon = world.nodes["b"].daemon
    if is_killed:
        daemon.kill()
    daemon.stop()


def move_b(world: World, address: str) -> None:
    """Replace b's only address by another one of its network."""
    world.ip("b", "addr flush dev eth0", f"addr add {address} dev eth0")
    world.ip("b", "route add default via 192.0.2.129 dev eth0 metric 100")


def _reopened(log: PacketLog, back_at: float, ended: float) -> float | None:
    inside = PacketLog(log.between(float("-inf"), ended))
    reopened = inside.reopened_at(back_at - WATCH_S, back_at - WATCH_S)
    return None if reopened is None else max(0.0, reopened - back_at)


def nothing_leaks(check: str, world: World) -> Check:
    """Packets for an absent, stopped or killed peer, and without lispd, are refused and never leave in clear."""
    two_in_the_open(world, A_ADDRESSES)
    with leaks(world) as leaked:
        refused = [*refusals(world, _NOBODY)]
        _ = world.lost_both_ways(1.0)
        go(world, is_killed=False)
        time.sleep(1.0)
        refused += refusals(world, _eids(B))
        world.start_node(B)
        world.wait_registered("b")
        _ = world.lost_both_ways(1.0)
        go(world, is_killed=True)
        refused += until_refused(world, _eids(B))
        world.nodes["a"].daemon.kill()
        world.nodes["a"].daemon.stop()
        refused += refusals(world, (*_NOBODY, *_eids(B)))
        count = leaked()
    slow = [str(refusal) for refusal in refused if not refusal.is_refused]
    return fact(
        check,
        ok=bool(refused) and not slow and count == 0,
        value=count,
        unit=f"packets in clear; {len(refused) - len(slow)} of {len(refused)} refused at once",
        goal=0,
    )


@dataclass(frozen=True, slots=True)
class Refusal:
    """The result of a connection: how long it took to fail, and its error number; 0: it did not fail."""

    destination: IpAddress
    after_s: float
    code: int

    @property
    def is_refused(self) -> bool:
        """True when the program got the error at once."""
        return self.code in _REFUSED and self.after_s < SOON_S


def refusals(
    world: World, destinations: Sequence[IpAddress], *, at: str = "a", timeout_s: float = 2.0
) -> list[Refusal]:
    """Connect to port 22 of each destination."""
    found = []
    for destination in destinations:
        family = socket.AF_INET if destination.version == 4 else socket.AF_INET6
        with world[at].socket(family, socket.SOCK_STREAM) as client:
            client.settimeout(timeout_s)
            began = time.monotonic()
            try:
                client.connect((str(destination), 22))
                code = 0
            except TimeoutError:
                code = errno.ETIMEDOUT
            except OSError as error:
                code = error.errno or errno.EIO
            found.append(Refusal(destination, time.monotonic() - began, code))
    return found


def until_refused(world: World, destinations: Sequence[IpAddress]) -> list[Refusal]:
    """Repeat until all are refused at once, or until a dead peer should have been detected."""
    deadline = time.monotonic() + DEAD_S
    while True:
        found = refusals(world, destinations)
        if all(refusal.is_refused for refusal in found) or time.monotonic() > deadline:
            return found


@contextlib.contextmanager
def leaks(world: World, overlay: Sequence[str] = OVERLAY) -> Iterator[Callable[[], int]]:
    """Count, at the central router, packets for the overlay that are not in a tunnel; yields a function that counts."""
    world.nft("inet", "add table inet leak")
    world.nft("inet", "add chain inet leak seen { type filter hook prerouting priority -300; }")
    for prefix in overlay:
        world.nft("inet", f"add rule inet leak seen {'ip6' if ':' in prefix else 'ip'} daddr {prefix} counter")

    def count() -> int:
        listed = json.loads(world["inet"].run("nft", "-j", "list", "table", "inet", "leak"))
        counters = [expression for item in listed["nftables"] for expression in item.get("rule", {}).get("expr", ())]
        return sum(counter["counter"]["packets"] for counter in counters if "counter" in counter)

    yield count


def _eids(identity: Identity) -> tuple[IpAddress, IpAddress]:
    return identity.eid4, identity.eid6


def two_in_the_open(world: World, addresses: Sequence[str] = A_ADDRESSES[:1]) -> None:
    """Start the hub and both nodes; a has these addresses."""
    world.attach("a", "eth0", addresses, metric=100)
    world.start_hub()
    world.start_node(A)
    world.start_node(B)
    world.wait_registered()


SCENARIOS: Final = (
    Scenario("peer-came-back.gap", "A peer stops, and comes back while a node sends to it", came_back),
    Scenario(
        "nothing-leaks.packets", "What is meant for a peer that is not there stays off the network", nothing_leaks
    ),
)

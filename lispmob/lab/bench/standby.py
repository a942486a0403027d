"""The cost of a phone's node that is not in use: wake-ups and messages with ten peers, and behind a NAT.

The node's own counts of messages (`lispctl energy`) are recorded together with the kernel's counts for its
threads, over the same time.
"""

from __future__ import annotations

import contextlib
from ipaddress import ip_address
from pathlib import Path
from typing import Final

from lispmob.closing import Closing
from lispmob.lab.bench import tiers
from lispmob.lab.bench.traffic import Figures
from lispmob.lab.demo_service import Identity, Node
from lispmob.lab.ping import ping
from lispmob.lab.process import ProcessFailed
from lispmob.lab.real.world import HUB_V4, A, World

PEERS: Final = 10
_START_S: Final = 30.0  # ten nodes on a small machine


class Standby(Closing):
    """Two nodes of one tier: in the open, with ten peers that it spoke with a moment ago, and behind a NAT."""

    def __init__(self, directory: Path, tier: str) -> None:
        """Return once both are registered. Raises ProcessFailed, and TierUnavailable where the tier cannot run."""
        self._open = contextlib.ExitStack()
        try:
            open_world, nat_world = (
                self._open.enter_context(World(_made(directory / name), tier=tier, label=f"{tier}{name[0]}"))
                for name in ("open", "nat")
            )
            self.nodes = {"idle-10-peers": _with_peers(open_world), "standby-nat": _behind_nat(nat_world)}
            self._before: dict[str, tuple[float, float, float]] = {}
            for node in self.nodes.values():
                tiers.require(node, tier)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Remove everything. Idempotent."""
        self._open.close()

    def start_counting(self) -> None:
        """Messages from now on are in `figures`; those of the start are not."""
        self._before = {case: _messages(node) for case, node in self.nodes.items()}

    def figures(self, case: str, counted: Figures) -> Figures:
        """What idle.py counted of a node, and what the node says of its messages since `start_counting`, an hour."""
        elapsed_s, messages, octets = (
            now - then for now, then in zip(_messages(self.nodes[case]), self._before[case], strict=True)
        )
        per_hour = 3600 / elapsed_s
        return {
            f"{case}-wakeups": counted["wakeups-per-minute"],
            f"{case}-messages": (messages * per_hour, "1/h"),
            f"{case}-octets": (octets * per_hour / 1000, "kB/h"),
        }


def _messages(node: Node) -> tuple[float, float, float]:
    """How long a node has counted, in seconds, and its messages and octets in that time (`lispctl energy`)."""
    answer = node.lispctl("energy")
    if answer is None:
        raise ProcessFailed("`lispctl energy` gave no answer")
    hours, costs = answer["counted_s"] / 3600, answer["costs"]
    messages = sum(cost["sent_per_hour"] + cost["received_per_hour"] for cost in costs)
    return answer["counted_s"], messages * hours, sum(cost["octets_per_hour"] for cost in costs) * hours


def _made(directory: Path) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    return directory


def _with_peers(world: World) -> Node:
    """A node that has just exchanged packets with ten others, each with a locator of its own."""
    world.attach("a", "eth0", ["198.51.100.2/24"], metric=100)
    peers = [
        Identity(f"p{number}", ip_address(f"10.1.0.{10 + number}"), ip_address(f"2001:db8:e::{10 + number}"))
        for number in range(PEERS)
    ]
    world.start_hub((HUB_V4,), identities=(A, *peers))
    off = "natt: {mode: 'off'}\n"
    node = world.start_node(A, extra=off)
    for number, peer in enumerate(peers):
        world.add(peer.name)
        world.attach(peer.name, "eth0", [f"203.0.113.{4 * number + 2}/30"], metric=100)
        world.start_node(peer, extra=off)
    world.wait_registered(timeout_s=_START_S)
    for peer in peers:
        if ping(world["a"], peer.eid4, A.eid4, count=2, timeout_s=3.0).lost == 2:
            raise ProcessFailed(f"{peer.name}: nothing came back from {peer.eid4}")
    return node


def _behind_nat(world: World) -> Node:
    """A node that is registered through an RTR, and has no traffic."""
    world.home_router("home", "192.168.8.1/24", "198.51.100.2/24")
    world.behind("a", "eth0", "home", ["192.168.8.100/24"])
    world.start_hub((HUB_V4,))
    node = world.start_node(A)
    world.wait_registered(timeout_s=_START_S)
    return node

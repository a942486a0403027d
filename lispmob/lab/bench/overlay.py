"""What a user waits for: start to registered, the first packet to a new destination, a move. A hub and two nodes."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from ipaddress import IPv4Address
from pathlib import Path
from typing import Final

from lispmob.closing import Closing
from lispmob.lab import move as moves
from lispmob.lab.bench import tiers
from lispmob.lab.bench.first_packet import FirstPacket, first_packet
from lispmob.lab.bench.traffic import Figures
from lispmob.lab.build import Lab
from lispmob.lab.control_watch import ControlWatch
from lispmob.lab.demo.stage import OVERLAY, A, B
from lispmob.lab.demo_service import Hub, Node, hub_configuration, node_configuration
from lispmob.lab.handover import Handover
from lispmob.lab.move import Kind, Move
from lispmob.lab.namespace import Namespace
from lispmob.lab.probe import Party, ProbeStream
from lispmob.lab.process import ProcessFailed
from lispmob.lab.topology import roaming

_PATIENCE_S: Final = 20.0
_HOST: Final = 10  # a host's number in its network (topology.py)
_NETWORKS: Final = ("home", "cafe")  # node a moves between them, one move per sample
_RATE_HZ: Final = 500.0
_BEFORE_S: Final = 1.2  # an EID may be asked for once a second (RFC 9301), and the first packet has just done so
_AFTER_S: Final = 1.5


class Overlay(Closing):
    """The hub, and two nodes that start again for each sample.

    They are joined by cables in the kernel, so the figures are ours alone.
    """

    def __init__(self, directory: Path, tier: str) -> None:
        self._directory = directory
        self._tier = tier
        self._open = contextlib.ExitStack()
        self._lab = self._open.enter_context(Lab(roaming(0.0, has_cables=True), f"{tier}-"))
        self._place = 0
        try:
            self._watch = self._open.enter_context(ControlWatch({"a": self._lab["a"]}))
            self._map_server = self._lab.topology.address("hub", "eth0")
            addresses = [address.ip for address in self._lab.topology.addresses("hub", "eth0")]
            hub = Hub(self._lab["hub"], hub_configuration((A, B), addresses, directory / "hub"), directory / "hub")
            self._open.callback(hub.daemon.stop)
            hub.wait_until_listening(_PATIENCE_S)
            moves.perform(self._lab, Move(Kind.ROUTE_REMOVED, "a", "lte0"))  # every move breaks before it makes
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        self._open.close()

    def sample(self, number: int) -> Figures:
        """Start the nodes, send the first packet, move once, stop the nodes. Raises ProcessFailed, TierUnavailable."""
        with contextlib.ExitStack() as stack:
            other = self._start("b", number, stack)
            _wait(other)
            node = self._start("a", number, stack)
            registered_s = self._notified_s(node)
            _wait(node)
            tiers.require(node, self._tier)
            first = self._first_packet(node)
            handover = self._move()
        if not (handover.has_baseline() and handover.has_reopened):
            raise ProcessFailed(f"no packets after a move\n{node.daemon.log_tail()}")
        out, back = (way.gap_s or 0.0 for way in handover.ways())
        return {
            "start-to-registered": (registered_s * 1e3, "ms"),
            "first-packet": (first.answered_s * 1e3, "ms"),
            "first-packet-node": (first.node_s * 1e3, "ms"),
            "handover-gap-out": (out * 1e3, "ms"),
            "handover-gap-in": (back * 1e3, "ms"),
        }

    @property
    def stranger(self) -> Namespace:
        """A host that is no node, no hub and no peer."""
        return self._lab["world"]

    @property
    def places(self) -> tuple[str, ...]:
        """The IPv4 addresses of node a in the two networks that it moves between."""
        networks = (network for network in self._lab.topology.networks if network.name in _NETWORKS)
        return tuple(str(network.v4[_HOST]) for network in networks if network.v4 is not None)

    def ignoring_stranger(self) -> contextlib.AbstractContextManager[None]:
        """Inside the block the stranger's messages are not recorded: copying a flood would take a processor's time."""
        (address,) = (own.ip for own in self._lab.topology.addresses("world", "eth0") if own.version == 4)
        return self._watch.ignoring(IPv4Address(address))

    @contextlib.contextmanager
    def pair(self, label: str) -> Iterator[Node]:
        """Both nodes, registered and in contact; yields the one that moves. Raises ProcessFailed, TierUnavailable."""
        with contextlib.ExitStack() as stack:
            _wait(self._start("b", label, stack))
            node = self._start("a", label, stack)
            _wait(node)
            tiers.require(node, self._tier)
            with contextlib.suppress(ValueError):  # an earlier try has asked for the mapping: the nodes are in contact
                self._first_packet(node)
            yield node

    def move(self) -> Handover:
        """Move once, while probes are sent in both directions. Raises ProcessFailed when none arrive."""
        handover = self._move()
        if not (handover.has_baseline() and handover.has_reopened):
            raise ProcessFailed("no packets after a move")
        return handover

    def _first_packet(self, node: Node) -> FirstPacket:
        """Send a packet to the other node, whose mapping is not cached yet. Raises ProcessFailed without an answer."""
        here, there = Party(self._lab["a"], A.eid4), Party(self._lab["b"], B.eid4)
        deadline = time.monotonic() + _PATIENCE_S
        while time.monotonic() < deadline:
            try:
                first = first_packet(self._watch, "a", here, there, timeout_s=3.0)
            except OSError:  # registered, but the device has no address yet
                time.sleep(0.005)
                continue
            except ValueError as error:
                raise ProcessFailed(str(error)) from error
            if first is not None:
                return first
        raise ProcessFailed(f"the first packet did not come back\n{node.daemon.log_tail()}")

    def _move(self) -> Handover:
        """Move the only uplink of node a to the other network, while probes are sent in both directions."""
        left, there = _NETWORKS[self._place], _NETWORKS[1 - self._place]
        move = Move(Kind.NETWORK_CHANGED, "a", "wlan0", network=there, leaves=left)
        with ProbeStream(Party(self._lab["a"], A.eid4), Party(self._lab["b"], B.eid4), rate_hz=_RATE_HZ) as probes:
            time.sleep(_BEFORE_S)
            moment = moves.perform(self._lab, move)
            self._place = 1 - self._place
            time.sleep(_AFTER_S)
            seen_until = time.monotonic()
            out, back = probes.finish()
        return Handover("move", move.title, moment.began_at, moment.ended_at, seen_until, _RATE_HZ, out, back)

    def _start(self, name: str, number: int | str, stack: contextlib.ExitStack) -> Node:
        directory = self._directory / f"{name}{number}"
        identity = A if name == "a" else B
        text = node_configuration(identity, self._map_server, OVERLAY, directory) + tiers.chosen(self._tier)
        node = Node(identity, self._lab[name], text, directory)
        stack.callback(node.daemon.stop)
        return node

    def _notified_s(self, node: Node) -> float:
        """Seconds from the start of the process to the first Map-Notify that it receives, seen on the wire."""
        started_at = node.daemon.started_at
        deadline = started_at + _PATIENCE_S
        while time.monotonic() < deadline:
            node.daemon.check()
            if notify := self._watch.first("a", "map-notify", is_out=False, after=started_at):
                return notify.at - started_at
            time.sleep(0.02)
        raise ProcessFailed(f"no Map-Notify came\n{node.daemon.log_tail()}")


def _wait(node: Node) -> None:
    """Return when the node reports that it is registered. Raises ProcessFailed."""
    deadline = time.monotonic() + _PATIENCE_S
    while not node.is_registered():
        node.daemon.check()
        if time.monotonic() > deadline:
            raise ProcessFailed(f"{node.identity.name} is not registered\n{node.daemon.log_tail()}")
        time.sleep(0.05)

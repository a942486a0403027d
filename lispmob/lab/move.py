"""Moves: changes of an uplink at one known moment, and what restores the uplink."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final

from lispmob.lab import link
from lispmob.lab.build import Lab


class Kind(Enum):
    """How an uplink is lost or changed."""

    ROUTE_REMOVED = "default route removed"
    ADDRESS_REMOVED = "address removed"
    LINK_DOWN = "link down"
    NETWORK_CHANGED = "moved to another network"
    RESTORED = "uplink came back"


LEAVES_ROOM: Final = frozenset({Kind.ROUTE_REMOVED, Kind.ADDRESS_REMOVED, Kind.RESTORED})
"""Moves after which the old link still carries packets: with a second uplink, packets in flight can arrive."""


@dataclass(frozen=True, slots=True)
class Move:
    """A change of an uplink; `network` is its destination, None for the network that it starts in."""

    kind: Kind
    host: str
    interface: str
    network: str | None = None
    leaves: str | None = None  # the network that NETWORK_CHANGED leaves, None for the initial one

    @property
    def title(self) -> str:
        where = f" ({self.network})" if self.network else ""
        return f"{self.host} {self.interface}: {self.kind.value}{where}"


def perform(lab: Lab, move: Move) -> link.Moment:
    """Perform the move; the host's addresses and routes changed within the returned moment. Raises KernelRefused.

    A host that changes its network has left the old one a few milliseconds before, because the kernel takes some time
    to remove a port from a bridge. Packets lost meanwhile count as lost; gaps count from the loss of the address.
    """
    in_host, in_air = batch_lines(lab, move)
    batches = [(link.Batch(lab["air"]), in_air)] if in_air else []
    return link.run_in_turn([*batches, (link.Batch(lab[move.host]), in_host)])


def batch_lines(lab: Lab, move: Move) -> tuple[list[str], list[str]]:
    """The lines for the host's batch, and for the batch of the namespace "air"."""
    topology = lab.topology
    uplink = topology.host(move.host).uplink(move.interface)
    left = topology.network(move.leaves or uplink.network)
    old_addresses: Sequence[link.IpInterface] = left.interfaces(uplink.host_number)
    match move.kind:
        case Kind.ROUTE_REMOVED:
            return [link.no_default_route(move.interface, gateway, uplink.metric) for gateway in left.gateways], []
        case Kind.ADDRESS_REMOVED:
            return [f"addr del {own} dev {move.interface}" for own in old_addresses], []
        case Kind.LINK_DOWN:
            return [f"link set {move.interface} down"], []
        case Kind.RESTORED:
            return lab.attach_lines(move.host, move.interface, move.network), []
        case Kind.NETWORK_CHANGED:
            there = move.network or uplink.network
            lines = [f"addr del {own} dev {move.interface}" for own in old_addresses]
            plug = lab.plug_line(move.host, move.interface, there)
            return lines + lab.attach_lines(move.host, move.interface, there), [plug]

"""What happens when an address, a route or a link comes or goes, and in which order. Pure.

The steps are a value, which the daemon carries out. Packets use the new uplinks first. Map-Registers and SMRs follow in
the same turn of the event loop, before marks and before the kernel's tables: only new connections need those.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import msgspec

from lispmob.iface_monitor.delta import NetworkDelta
from lispmob.iface_monitor.snapshot import Uplink


class ReportChange(msgspec.Struct, frozen=True):
    """Publish this event."""

    text: str


class BeginMove(msgspec.Struct, frozen=True):
    """The journal opens a handover; the datapath reports the next packet in each direction."""

    reasons: tuple[str, ...]


class UseUplinks(msgspec.Struct, frozen=True):
    """The datapath sends by these uplinks from now on."""

    uplinks: tuple[Uplink, ...]


class RefreshUplinks(msgspec.Struct, frozen=True):
    """The uplinks are the same; another address came or went."""


class EndMove(msgspec.Struct, frozen=True):
    """Packets leave by the new uplinks: the journal notes when."""


class UpdateNode(msgspec.Struct, frozen=True):
    """Report the traffic so far, and then the new locators, to the core: Map-Registers and SMRs leave in this step.

    Then the last packets of flows are repeated: a peer takes packets from a new locator once it has the SMR.
    """


class Steer(msgspec.Struct, frozen=True):
    """Lead marks to the new uplinks. Until then a mark of a lost uplink takes the default way."""


class Linger(msgspec.Struct, frozen=True):
    """Packets in flight to the former uplinks are received for a while."""

    former: tuple[Uplink, ...]


class KeepKernel(msgspec.Struct, frozen=True):
    """Update the kernel's addresses, routes and rules, in the background."""


class UpdateDesktop(msgspec.Struct, frozen=True):
    """Update D-Bus, and resolve host names of servers, which may differ in another network."""


def ways(uplinks: Sequence[Uplink]) -> tuple[str, ...]:
    """The uplinks of the best priority, as "wifi wlan0": type and name."""
    best = min((uplink.priority for uplink in uplinks), default=0)
    return tuple(f"{uplink.type} {uplink.name}" for uplink in uplinks if uplink.priority == best)


Step: TypeAlias = (
    ReportChange
    | BeginMove
    | UseUplinks
    | RefreshUplinks
    | EndMove
    | UpdateNode
    | Steer
    | Linger
    | KeepKernel
    | UpdateDesktop
)


def steps_of(delta: NetworkDelta, *, is_first: bool) -> tuple[Step, ...]:
    """The steps for one difference between two network states. `is_first`: there was no former state."""
    told = tuple(ReportChange(reason.text) for reason in delta.reasons)
    if not delta.has_changed:
        return (*told, RefreshUplinks(), Linger(()), KeepKernel())
    use: tuple[Step, ...] = (UseUplinks(delta.uplinks),)
    if not is_first:
        use = (BeginMove(tuple(reason.text for reason in delta.reasons)), *use, EndMove())
    return (*told, *use, UpdateNode(), Steer(), Linger(delta.former_uplinks), KeepKernel(), UpdateDesktop())

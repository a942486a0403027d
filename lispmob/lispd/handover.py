"""What happens when an address, a route or a link comes or goes, and in which order. Pure.

The daemon carries each step out before it takes the next one. Packets use the new uplinks first. Map-Registers and SMRs
follow in the same turn of the event loop, before the move is put into words for people, and before marks and the
kernel's tables: only new connections need those.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeAlias

import msgspec

from lispmob.iface_monitor.delta import NetworkDelta
from lispmob.iface_monitor.snapshot import Uplink


class ReportChanges(msgspec.Struct, frozen=True):
    """Log these sentences, before what the core has reported of the move meanwhile."""

    texts: tuple[str, ...]


class BeginMove(msgspec.Struct, frozen=True):
    """The datapath reports the next packet in each direction; what it has not sent so far does not count."""


class UseUplinks(msgspec.Struct, frozen=True):
    """The datapath sends by these uplinks from now on."""

    uplinks: tuple[Uplink, ...]


class RefreshUplinks(msgspec.Struct, frozen=True):
    """The uplinks are the same; another address came or went."""


class EndMove(msgspec.Struct, frozen=True):
    """Packets leave by the new uplinks: note when."""


class UpdateNode(msgspec.Struct, frozen=True):
    """Report the new locators to the core: announcements and Map-Registers leave; then, with the traffic so far, SMRs.

    Then the last packets of flows are repeated: a peer takes packets from a new locator once it has the SMR.
    """


class NoteMove(msgspec.Struct, frozen=True):
    """The journal gets the handover that has just been made."""

    reasons: tuple[str, ...]


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
    ReportChanges
    | BeginMove
    | UseUplinks
    | RefreshUplinks
    | EndMove
    | UpdateNode
    | NoteMove
    | Steer
    | Linger
    | KeepKernel
    | UpdateDesktop
)


def steps_of(delta: NetworkDelta, *, is_first: bool) -> Iterator[Step]:
    """The steps for one difference between two network states. `is_first`: there was no former state."""
    if delta.has_changed:
        if not is_first:
            yield BeginMove()
        yield UseUplinks(delta.uplinks)
        if not is_first:
            yield EndMove()
        yield UpdateNode()
    texts = tuple(reason.text for reason in delta.reasons)
    yield ReportChanges(texts)
    if delta.has_changed and not is_first:
        yield NoteMove(texts)
    if not delta.has_changed:
        yield from (RefreshUplinks(), Linger(()), KeepKernel())
        return
    yield from (Steer(), Linger(delta.former_uplinks), KeepKernel(), UpdateDesktop())

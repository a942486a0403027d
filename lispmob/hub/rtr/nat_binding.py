"""What an RTR knows of a node behind a NAT: where its uplinks appear on this side, and for how long that holds."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec
from msgspec.structs import replace

from lispmob.wire.address import EidPrefix, IpAddress
from lispmob.wire.record import Locator

BINDINGS_PER_NODE: Final = 16  # ours: uplinks of one node
MAX_PRIORITY: Final = 254


class Binding(msgspec.Struct, frozen=True):
    """One uplink: its address behind the NAT, and the translated address and port that lead to it.

    `rtr` is the address of ours that the NAT lets answers in from; `source_port` the port of ours, likewise.
    """

    rloc: IpAddress
    address: IpAddress
    port: int
    rtr: IpAddress
    source_port: int
    expires_at: float
    priority: int = 1
    weight: int = 100


class NatEntry(msgspec.Struct):
    """One EID-Prefix of one node. Two nodes that register the same EID-Prefix take turns; the last one has it."""

    prefix: EidPrefix
    xtr_id: bytes
    bindings: dict[IpAddress, Binding]

    def take(self, binding: Binding, policies: Iterable[Locator]) -> None:
        """A verified register came by this uplink: its place is fresh, and what it says of the others holds.

        `policies` are the R=0 locators of the record: priority and weight for every uplink; one that is missing is
        gone. A record without any says nothing about the others.
        """
        listed = {locator.ip: locator for locator in policies if locator.ip is not None}
        if listed:
            self.bindings = {rloc: one for rloc, one in self.bindings.items() if rloc in listed}
        self.bindings.pop(binding.rloc, None)
        self.bindings[binding.rloc] = binding
        while len(self.bindings) > BINDINGS_PER_NODE:
            del self.bindings[next(iter(self.bindings))]
        for rloc, one in self.bindings.items():
            if (locator := listed.get(rloc)) is not None:
                self.bindings[rloc] = replace(one, priority=locator.priority, weight=locator.weight)

    def expire(self, now: float) -> bool:
        """Forget what is too old; True when something was."""
        kept = {rloc: one for rloc, one in self.bindings.items() if one.expires_at > now}
        has_changed = len(kept) < len(self.bindings)
        self.bindings = kept
        return has_changed

    def usable(self) -> tuple[Binding, ...]:
        """The uplinks that may be sent to, best priority first."""
        found = [binding for binding in self.bindings.values() if binding.priority <= MAX_PRIORITY]
        return tuple(sorted(found, key=lambda one: (one.priority, int(one.rloc))))

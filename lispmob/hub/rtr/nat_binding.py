"""An RTR's state of a node behind a NAT: the outside places of its uplinks, and their lifetimes."""

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

    `rtr` is our address that the NAT admits answers from; `source_port` is our port likewise. `is_former`: the uplink
    had failed at this place, and registers from another one, which has not answered yet.
    """

    rloc: IpAddress
    address: IpAddress
    port: int
    rtr: IpAddress
    source_port: int
    expires_at: float
    priority: int = 1
    weight: int = 100
    is_former: bool = False

    @property
    def has_failed(self) -> bool:
        """True when the node says that nothing may be sent to it (priority 255)."""
        return self.priority > MAX_PRIORITY


class NatEntry(msgspec.Struct):
    """One EID-Prefix of one node. If two nodes register the same EID-Prefix, the last one has it."""

    prefix: EidPrefix
    xtr_id: bytes
    bindings: dict[IpAddress, Binding]

    def take(self, binding: Binding, policies: Iterable[Locator]) -> None:
        """A verified register arrived from this uplink: its binding is fresh, and its record applies to the others.

        `policies` are the R=0 locators of the record: priority and weight for every uplink; a missing uplink is gone. A
        record without any says nothing about the others.
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
        """Remove expired bindings; True if there were any."""
        kept = {rloc: one for rloc, one in self.bindings.items() if one.expires_at > now}
        has_changed = len(kept) < len(self.bindings)
        self.bindings = kept
        return has_changed

    def usable(self) -> tuple[Binding, ...]:
        """The usable uplinks, best priority first. One at a former place is better than none."""
        found = [binding for binding in self.bindings.values() if not binding.has_failed]
        present = [binding for binding in found if not binding.is_former]
        return tuple(sorted(present or found, key=lambda one: (one.priority, int(one.rloc))))

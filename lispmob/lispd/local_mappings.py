"""Local mappings that clients added: EIDs that are not in lispd.conf. A reload keeps them.

An uplink that was named by one of its addresses has the given rank; all others come after those, so that the EID stays
reachable after a move to an unnamed network.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from glob import escape
from typing import Final

import msgspec

from lispmob.api.mapping.backend import StaticLocator
from lispmob.config.eid import EidUplinkSection, OwnEid
from lispmob.config.node import NodeFile
from lispmob.iface_monitor.snapshot import Uplink
from lispmob.protocol.locator_set import NEVER
from lispmob.wire.address import EidPrefix

LAST: Final = NEVER - 1


class LocalMappings:
    """The added mappings, by prefix."""

    def __init__(self) -> None:
        self._added: dict[EidPrefix, OwnEid] = {}
        self._placed: frozenset[EidPrefix] = frozenset()  # those that are part of the configuration in use

    @property
    def prefixes(self) -> tuple[EidPrefix, ...]:
        """The prefixes of added mappings."""
        return tuple(self._added)

    def add(self, prefix: EidPrefix, locators: Sequence[StaticLocator], uplinks: Iterable[Uplink]) -> None:
        """Add or replace one."""
        said = {locator.address: locator for locator in locators}
        rules = []
        for uplink in uplinks:
            named = [said[address] for address in uplink.addresses if address in said]
            if named:
                best = min(named, key=lambda one: one.priority if one.is_reachable else NEVER)
                priority = best.priority if best.is_reachable else NEVER
                rules.append(EidUplinkSection(name=escape(uplink.name), priority=priority, weight=best.weight))
        self._added[prefix] = OwnEid(prefix, (*rules, EidUplinkSection(name="*", priority=LAST)))

    def get(self, prefix: EidPrefix) -> OwnEid | None:
        """One added mapping."""
        return self._added.get(prefix)

    def restore(self, prefix: EidPrefix, former: OwnEid | None) -> None:
        """Undo an addition that failed."""
        self._added.pop(prefix, None)
        if former is not None:
            self._added[prefix] = former

    def remove(self, prefix: EidPrefix) -> bool:
        """Remove one. False if it was not added."""
        return self._added.pop(prefix, None) is not None

    def onto(self, file: NodeFile) -> NodeFile:
        """The configuration with these mappings; its own entries win. Raises FieldError if that is impossible."""
        for prefix in self._added.keys() & {own.prefix for own in file.own_eids}:
            del self._added[prefix]
        whole = msgspec.structs.replace(file, own_eids=(*file.own_eids, *self._added.values()))
        self._placed = frozenset(self._added)
        return whole

    def without(self, file: NodeFile) -> NodeFile:
        """The configuration in use, without them."""
        own = tuple(eid for eid in file.own_eids if eid.prefix not in self._placed)
        return msgspec.structs.replace(file, own_eids=own)

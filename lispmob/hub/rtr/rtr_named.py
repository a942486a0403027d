"""The destinations of an EID at an RTR of lispers.net's dialect: the locators of its record, at the known ports. Pure.

The record comes from a registration in this hub, or from a Map-Server elsewhere, which shows an RTR the node's places.
"""

from __future__ import annotations

from collections import Counter
from typing import Final

from msgspec.structs import replace

from lispmob.hub.rtr.nat_binding import Binding
from lispmob.hub.rtr.rtr_effect import InData, InstallRelay, RemoveRelay, RtrEffect
from lispmob.hub.rtr.rtr_lispers import NatCache
from lispmob.protocol.effect import Event
from lispmob.wire.address import EidPrefix, IpAddress
from lispmob.wire.info import InfoRequest
from lispmob.wire.named_locator import Place, place_of
from lispmob.wire.record import MappingRecord

PREFIXES_PER_PLACE: Final = 64  # ours: each is installed again when the place changes its port


class NamedNodes:
    """Nodes that are identified by host name and translated address."""

    def __init__(self) -> None:
        self.cache = NatCache()
        self._records: dict[EidPrefix, MappingRecord] = {}
        self._at: dict[Place, set[EidPrefix]] = {}
        self._installed: dict[EidPrefix, tuple[Binding, ...]] = {}

    @property
    def counters(self) -> Counter[str]:
        """Counts of accepted and refused input."""
        return self.cache.counters

    def is_at(self, address: IpAddress) -> bool:
        """True when some host keeps a place open at this address."""
        return self.cache.is_at(address)

    def wake_at(self) -> float | None:
        """When to call on_timer."""
        return self.cache.wake_at()

    def on_timer(self, now: float) -> list[RtrEffect]:
        """Time has passed: remove places that are not kept open."""
        return [effect for place in self.cache.expire(now) for effect in self._settle_all(place, now)]

    def on_punch(self, request: InfoRequest, punch: InData, now: float) -> list[RtrEffect]:
        """An Info-Request came in the data plane; its changes come before the answer."""
        moved, answers = self.cache.on_punch(request, punch, now, is_known=self._is_known)
        return [*(self._settle_all(moved, now) if moved is not None else ()), *answers]

    def on_record(self, prefix: EidPrefix, record: MappingRecord | None, now: float) -> list[RtrEffect]:
        """The mapping of a prefix has changed; None: there is none."""
        for place in self._places(prefix):
            self._at[place].discard(prefix)
            if not self._at[place]:
                del self._at[place]
        self._records.pop(prefix, None)
        if record is not None and any(place_of(locator) for locator in record.locators):
            self._records[prefix] = record
            if any(len(self._at.get(place, ())) >= PREFIXES_PER_PLACE for place in self._places(prefix)):
                del self._records[prefix]
                self.counters["rx_limit"] += 1
            for place in self._places(prefix):
                self._at.setdefault(place, set()).add(prefix)
        return self._settle(prefix, now)

    def _is_known(self, place: Place) -> bool:
        """True for a place in an authenticated registration."""
        return place in self._at

    def _places(self, prefix: EidPrefix) -> set[Place]:
        record = self._records.get(prefix)
        return {place for locator in record.locators if (place := place_of(locator))} if record is not None else set()

    def _settle_all(self, place: Place, now: float) -> list[RtrEffect]:
        return [effect for prefix in sorted(self._at.get(place, ()), key=str) for effect in self._settle(prefix, now)]

    def _settle(self, prefix: EidPrefix, now: float) -> list[RtrEffect]:
        record = self._records.get(prefix)
        # The expiry of a binding is no reason to install it again: every Info-Request extends it.
        found = self.cache.bindings(record, now) if record is not None else ()
        found = tuple(replace(binding, expires_at=0.0) for binding in found)
        if found == self._installed.get(prefix, ()):
            return []
        event = Event(
            "relay", {"eid": str(prefix), "places": [f"{binding.address}:{binding.port}" for binding in found]}
        )
        if found:
            self._installed[prefix] = found
            return [InstallRelay(prefix, found), event]
        del self._installed[prefix]
        return [RemoveRelay(prefix), event]

"""Which locators to probe: those of mappings that carry traffic, collected now and then and not per packet."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from msgspec.structs import replace

from lispmob.control.forwarding import ForwardingPolicy, possible_locators
from lispmob.control.map_cache import MapCache, MapCacheEntry
from lispmob.protocol.locator_set import NEVER, LocatorSet
from lispmob.wire.address import EidPrefix, IpAddress

SOONEST_S: Final = 1.0  # ours: a scan that fills the cache must not cause a walk for each entry
AGAIN_S: Final = 15.0  # ours: probing ends at most a quarter of a minute after a mapping has been idle for a minute
TARGETS_MAX: Final = 1024  # ours: the prober's limit of paths


class ProbeTargets:
    """When to walk through the map-cache again."""

    def __init__(self) -> None:
        self._at: float | None = None
        self._last = float("-inf")

    def wake_at(self) -> float | None:
        """When to call `due`, in monotonic seconds; None while no mapping is in use."""
        return self._at

    def on_traffic(self, now: float) -> None:
        """A mapping was learned, or has carried packets."""
        at = max(now, self._last + SOONEST_S)
        self._at = at if self._at is None else min(self._at, at)

    def on_loss(self, now: float) -> None:
        """No locator of a mapping in use answers any more: the last resorts are wanted at once."""
        self._at = now

    def due(self, now: float) -> bool:
        """True when a walk is due."""
        return self._at is not None and self._at <= now

    def find(
        self,
        cache: MapCache,
        own: LocatorSet,
        own_eids: tuple[EidPrefix, ...],
        now: float,
        is_dead: Callable[[MapCacheEntry], bool] = lambda _: False,
    ) -> dict[IpAddress, EidPrefix]:
        """The locators that packets may go to, each with the most recently used prefix that it serves.

        `is_dead`: no locator of this mapping answers. Then those of priority 255 are probed as well. They get no data
        (RFC 9300, 5.5), but they may work: a node announces its IPv6 address so while no Map-Resolver has IPv6.
        """
        used = [entry for entry in cache if entry.locators and entry.is_used(now)]
        used.sort(key=lambda entry: -entry.last_used)
        policy = ForwardingPolicy(own_eids=own_eids)
        found: dict[IpAddress, EidPrefix] = {}
        for entry in used:
            locators = entry.locators
            if is_dead(entry):
                locators = tuple(replace(one, priority=NEVER - 1) if one.priority == NEVER else one for one in locators)
            for locator in possible_locators(locators, policy, own):
                found.setdefault(locator.address, entry.prefix)
            if len(found) >= TARGETS_MAX:
                break
        self._last = now
        self._at = now + AGAIN_S if used else None
        return found

"""The peers that must get an SMR after a move (RFC 9301, 6.1: sites of the last minute, and proxy ITRs)."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable

from lispmob.control.forwarding import ForwardingPolicy, usable_locators
from lispmob.control.map_cache import LATELY_S, MapCache, MapCacheEntry
from lispmob.control.node_config import NodeConfig
from lispmob.control.smr import SmrTarget
from lispmob.protocol.locator_set import NEVER, LocatorSet
from lispmob.wire.address import IpAddress
from lispmob.wire.address_class import may_be_rloc

MAX_TOLD = 1024  # ours: mappings whose RLOCs get an SMR, most recently used first
MAX_HEARD = 1024  # ours: outer sources kept in addition to mappings in use
MAX_STRANGERS = 64  # ours: and those that may be forged, which evict only each other


class Peers:
    """Keeps the outer sources of decapsulated traffic, and lists the targets of SMRs."""

    def __init__(self) -> None:
        self._heard: OrderedDict[IpAddress, float] = OrderedDict()
        self._strangers: OrderedDict[IpAddress, float] = OrderedDict()

    def on_heard(self, sources: Iterable[IpAddress], strangers: Iterable[IpAddress], now: float) -> None:
        """Traffic from these outer sources was decapsulated. Nothing has authenticated those in `strangers`."""
        unproven = frozenset(strangers)
        for source in sources:
            of_its_kind = self._strangers if source in unproven else self._heard
            of_its_kind[source] = now
            of_its_kind.move_to_end(source)
        for kept, most in ((self._heard, MAX_HEARD), (self._strangers, MAX_STRANGERS)):
            while len(kept) > most:
                kept.popitem(last=False)

    def targets(self, cache: MapCache, config: NodeConfig, own: LocatorSet, lately: float) -> list[SmrTarget]:
        """All peers of the minute before `lately`: those that we sent to (latest first), proxy ITRs, those heard."""
        used = [entry for entry in cache if entry.locators and entry.is_used(lately)]
        used.sort(key=lambda entry: -entry.last_used)
        found = [target for entry in used[:MAX_TOLD] for target in entry_targets(entry, config, own)]
        known = {target.rloc for target in found}
        latest = (*reversed(self._heard.items()), *reversed(self._strangers.items()))
        heard = (source for source, at in latest if lately - at <= LATELY_S)
        for rloc in dict.fromkeys((*config.proxy_itrs, *heard)):
            if rloc not in known and rloc not in own.addresses and may_be_rloc(rloc):
                # Their EIDs are unknown: our EID stands in both places.
                found += [SmrTarget(rloc, eid, eid) for eid in config.eids]
        return found


def entry_targets(entry: MapCacheEntry, config: NodeConfig, own: LocatorSet) -> list[SmrTarget]:
    """The RLOCs of one mapping, each with our EID that they know."""
    eid = config.eid_for(entry.prefix.family, entry.prefix.instance_id)
    if eid is None or entry.source == "placeholder":
        return []
    usable = usable_locators(entry.locators, ForwardingPolicy(own_eids=config.eids), own)
    places = [locator.address for locator in usable] or _beyond_translator(entry, own)
    return [SmrTarget(place, eid, entry.prefix) for place in places]


def _beyond_translator(entry: MapCacheEntry, own: LocatorSet) -> list[IpAddress]:
    """Where no locator has a family of ours: those that a translator leads to. Data goes by the RTR, words need not."""
    used = (locator for locator in entry.locators if locator.is_reachable and locator.priority != NEVER)
    return [address for locator in used for address in locator.ips[:1] if own.ways_to(address) and may_be_rloc(address)]

"""Who sends to us: the ones that must hear of a move (RFC 9301, 6.1: sites of the last minute, and proxy ITRs)."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable

from lispmob.control.forwarding import ForwardingPolicy, usable_locators
from lispmob.control.map_cache import LATELY_S, MapCache, MapCacheEntry
from lispmob.control.node_config import NodeConfig
from lispmob.control.smr import SmrTarget
from lispmob.protocol.locator_set import LocatorSet
from lispmob.wire.address import IpAddress
from lispmob.wire.address_class import may_be_rloc

MAX_TOLD = 1024  # ours: mappings whose RLOCs are told of a move, the latest used first
MAX_HEARD = 1024  # ours: outer sources that are remembered, beside mappings in use
MAX_STRANGERS = 64  # ours: and those that may be forged, which push out each other and nobody else


class Peers:
    """Remembers the outer sources of decapsulated traffic, and lists whom to solicit."""

    def __init__(self) -> None:
        self._heard: OrderedDict[IpAddress, float] = OrderedDict()
        self._strangers: OrderedDict[IpAddress, float] = OrderedDict()

    def on_heard(self, sources: Iterable[IpAddress], strangers: Iterable[IpAddress], now: float) -> None:
        """Traffic from these outer sources was decapsulated lately. Nothing has proved those who are `strangers`."""
        unproven = frozenset(strangers)
        for source in sources:
            of_its_kind = self._strangers if source in unproven else self._heard
            of_its_kind[source] = now
            of_its_kind.move_to_end(source)
        for kept, most in ((self._heard, MAX_HEARD), (self._strangers, MAX_STRANGERS)):
            while len(kept) > most:
                kept.popitem(last=False)

    def targets(self, cache: MapCache, config: NodeConfig, own: LocatorSet, lately: float) -> list[SmrTarget]:
        """Everyone of the minute before `lately`: those we sent to (latest first), proxy ITRs, those we heard."""
        used = [entry for entry in cache if entry.locators and entry.is_used(lately)]
        used.sort(key=lambda entry: -entry.last_used)
        found = [target for entry in used[:MAX_TOLD] for target in entry_targets(entry, config, own)]
        known = {target.rloc for target in found}
        latest = (*reversed(self._heard.items()), *reversed(self._strangers.items()))
        heard = (source for source, at in latest if lately - at <= LATELY_S)
        for rloc in dict.fromkeys((*config.proxy_itrs, *heard)):
            if rloc not in known and rloc not in own.addresses and may_be_rloc(rloc):
                # Their own EIDs are not known: ours stands in both places.
                found += [SmrTarget(rloc, eid, eid) for eid in config.eids]
        return found


def entry_targets(entry: MapCacheEntry, config: NodeConfig, own: LocatorSet) -> list[SmrTarget]:
    """The RLOCs that serve one mapping, with the EID of ours that they know us by."""
    eid = config.eid_for(entry.prefix.family, entry.prefix.instance_id)
    if eid is None or entry.source == "placeholder":
        return []
    usable = usable_locators(entry.locators, ForwardingPolicy(own_eids=config.eids), own)
    return [SmrTarget(locator.address, eid, entry.prefix) for locator in usable]

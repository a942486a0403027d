"""The map-cache and our own mappings in one table, with the columns of OpenLISP's mapstat."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import groupby
from typing import Final

from lispmob.api.mapping.schema import MapstatEntry, MapstatLocator
from lispmob.control.map_cache import MapCacheEntry
from lispmob.lispd.parts import Parts
from lispmob.lispd.report.evidence import is_relayed
from lispmob.lispd.views.in_order import in_pages
from lispmob.protocol.locator_set import NEVER
from lispmob.wire.address import EidPrefix, IpAddress
from lispmob.wire.record import Locator

_SENT: Final = ("ENCAPSULATE", "ENCAPSULATE_AND_REPORT", "DOUBT")


def pages(parts: Parts) -> Iterator[list[MapstatEntry]]:
    """Every mapping, family by family, our own first and then in the order of the prefixes."""
    # A single snapshot, read once.
    liveness = parts.engine.liveness
    sent, mtus = {to: with_it.sent for to, with_it in liveness.traffic().items()}, liveness.path_mtus()
    asked = Counter(
        entry.prefix for lookup in parts.node.lookups for entry in parts.node.map_cache.covering(lookup.asked)
    )
    own = {family: [eid for eid in parts.file.eids if eid.family == family] for family in (4, 6)}
    for entries in in_pages(parts.node.map_cache):
        for family, of_family in groupby(entries, key=lambda entry: entry.prefix.family):
            for earlier in [known for known in own if known <= family]:
                yield [_own(parts, eid) for eid in own.pop(earlier)]
            yield [_cached(parts, entry, asked[entry.prefix], sent, mtus) for entry in of_family]
    for eids in own.values():
        yield [_own(parts, eid) for eid in eids]


def _own(parts: Parts, eid: EidPrefix) -> MapstatEntry:
    node = parts.node
    told = [locator.announced_for(eid) for locator in node.locators.locators]
    usable = [locator for locator in told if locator.priority != NEVER and not node.is_silent(locator.address)]
    held = [
        registration
        for registration in node.registrations
        if registration.eid == eid and (registration.is_confirmed or is_relayed(registration, parts))
    ]
    return MapstatEntry(
        table="database",
        prefix=str(eid),
        flags=("U" if usable else "") + "LS",  # our own mappings come from the user, so they are static
        refs=len(held),
        locators=[
            MapstatLocator(
                address=str(locator.address),
                priority=locator.priority,
                weight=locator.weight,
                flags=("" if node.is_silent(locator.address) else "R") + "i",
                mtu_bytes=locator.mtu_bytes,
            )
            for locator in told
        ],
    )


def _cached(
    parts: Parts, entry: MapCacheEntry, asked: int, sent: Mapping[IpAddress, int], mtus: Mapping[IpAddress, int]
) -> MapstatEntry:
    node = parts.node
    known = node.disposition(entry.prefix)
    is_up = known is not None and known.disposition in _SENT
    return MapstatEntry(
        table="cache",
        prefix=str(entry.prefix),
        flags=("U" if is_up else "") + ("S" if entry.source == "static" else ""),
        refs=entry.is_used(parts.now()) + asked,
        locators=[_remote(parts, locator, sent, mtus) for locator in entry.locators],
    )


def _remote(
    parts: Parts, locator: Locator, sent: Mapping[IpAddress, int], mtus: Mapping[IpAddress, int]
) -> MapstatLocator:
    is_reachable = locator.is_reachable and all(map(parts.node.is_reachable, locator.ips))
    return MapstatLocator(
        address=str(locator.ip if locator.ip is not None else locator.address),
        priority=locator.priority,
        weight=locator.weight,
        flags="R" if is_reachable else "",
        mtu_bytes=min((mtus[ip] for ip in locator.ips if ip in mtus), default=None),
        chosen=sum(sent.get(ip, 0) for ip in locator.ips),
    )

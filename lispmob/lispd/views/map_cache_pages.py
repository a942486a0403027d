"""The map-cache for people and programs, in the order of its prefixes, some entries at a time.

100,000 entries take seconds to show. Sorting and translating them goes in pieces, between which the daemon does its
work; what is added or removed meanwhile may or may not be shown.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping
from typing import Final, TypeAlias

from lispmob.api import schema
from lispmob.control.map_cache import MapCacheEntry, State
from lispmob.lispd.parts import Parts
from lispmob.lispd.views.path_view import in_ms
from lispmob.natt.shortcut import Shortcut
from lispmob.wire.address import EidPrefix, IpAddress
from lispmob.wire.record import Locator

SORTED_AT_ONCE: Final = 1000  # ours: about a millisecond
SHOWN_AT_ONCE: Final = 100  # ours: about three milliseconds

_Key: TypeAlias = tuple[int, int, int, int, bool]
_Item: TypeAlias = MapCacheEntry | Shortcut


def pages(parts: Parts) -> Iterator[list[schema.MapCacheEntry]]:
    """Every mapping once, those that are gone meanwhile left out; empty pages while it is being sorted."""
    runs: list[list[_Item]] = [sorted(parts.node.traversal.shortcuts.open_ways, key=_order)]
    for bucket in parts.node.map_cache.buckets():
        for start in range(0, len(bucket), SORTED_AT_ONCE):
            runs.append(sorted(bucket[start : start + SORTED_AT_ONCE], key=_order))
            yield []
    page: list[_Item] = []
    # Nothing is made that stays, but these lists: a hundred thousand new objects would have all others looked through.
    for item in heapq.merge(*runs, key=_order):
        page.append(item)
        if len(page) == SHOWN_AT_ONCE:
            yield _shown(parts, page)
            page = []
    yield _shown(parts, page)


def entry_view(parts: Parts, entry: MapCacheEntry) -> schema.MapCacheEntry:
    """One mapping."""
    return _entry(parts, entry, _round_trips(parts))


def _order(item: _Item) -> _Key:
    """By number; a short way stands before the mapping of the same prefix."""
    prefix = item.eid if isinstance(item, Shortcut) else item.prefix
    return prefix.family, prefix.instance_id, int(prefix.address), prefix.mask_len, not isinstance(item, Shortcut)


def _shown(parts: Parts, page: list[_Item]) -> list[schema.MapCacheEntry]:
    round_trips = _round_trips(parts)
    return [
        _short_way(parts, item) if isinstance(item, Shortcut) else _entry(parts, item, round_trips)
        for item in page
        if isinstance(item, Shortcut) or item.state is not State.GONE
    ]


def _round_trips(parts: Parts) -> Mapping[IpAddress, float]:
    """The shortest round trip to each remote locator, by whichever uplink."""
    found: dict[IpAddress, float] = {}
    for path in parts.node.paths:
        rtt_s, remote = path.quality.rtt_s, path.pair.remote
        if rtt_s is not None:
            found[remote] = min(rtt_s, found.get(remote, rtt_s))
    return found


def _short_way(parts: Parts, way: Shortcut) -> schema.MapCacheEntry:
    now = parts.now()
    return schema.MapCacheEntry(
        prefix=str(way.eid),
        source="short-way",
        action="encapsulate",
        locators=[schema.RemoteLocator(address=str(way.rloc), rtt_ms=in_ms(way.rtt_s))],
        age_s=round(now - way.opened_at, 3),
        unused_s=round(now - way.used_at, 3),
    )


def _entry(parts: Parts, entry: MapCacheEntry, round_trips: Mapping[IpAddress, float]) -> schema.MapCacheEntry:
    now = parts.now()
    return schema.MapCacheEntry(
        prefix=str(entry.prefix),
        source=entry.source,
        is_genuine=entry.is_genuine,
        told_by=entry.told_by,
        is_subscribed=parts.node.is_subscribed(entry.prefix),
        action=_action(parts, entry.prefix),
        locators=[_locator(parts, locator, round_trips) for locator in entry.locators],
        age_s=round(now - entry.created_at, 3),
        expires_in_s=None if entry.expires_at is None else round(max(0.0, entry.expires_at - now), 3),
        unused_s=round(now - entry.last_used, 3) if entry.last_used > float("-inf") else None,
        map_version=entry.map_version,
    )


def _locator(parts: Parts, locator: Locator, round_trips: Mapping[IpAddress, float]) -> schema.RemoteLocator:
    known = [round_trips[ip] for ip in locator.ips if ip in round_trips]
    return schema.RemoteLocator(
        address=str(locator.ip if locator.ip is not None else locator.address),
        priority=locator.priority,
        weight=locator.weight,
        is_reachable=locator.is_reachable and all(map(parts.node.is_reachable, locator.ips)),
        rtt_ms=in_ms(min(known, default=None)),
    )


def _action(parts: Parts, prefix: EidPrefix) -> str:
    """What the forwarding table was told to do with its packets."""
    known = parts.node.disposition(prefix)
    if known is None or known.disposition == "MISS":
        return "ask"
    if known.disposition in ("ENCAPSULATE", "TELL"):
        return "encapsulate"
    return "native" if known.disposition == "NATIVE" else "drop"

"""The map-cache for people and programs, in the order of its prefixes, with the direct paths among them."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from typing import TypeAlias

from lispmob.api import schema
from lispmob.control.map_cache import MapCacheEntry
from lispmob.lispd.parts import Parts
from lispmob.lispd.views.in_order import in_pages
from lispmob.lispd.views.path_view import in_ms
from lispmob.natt.shortcut import Shortcut
from lispmob.wire.address import EidPrefix, IpAddress
from lispmob.wire.record import Locator

_Key: TypeAlias = tuple[int, int, int, int, bool]
_Item: TypeAlias = MapCacheEntry | Shortcut


def pages(parts: Parts) -> Iterator[list[schema.MapCacheEntry]]:
    """Every mapping once. A direct path is in the page of the first mapping after it."""
    ways = deque(sorted(parts.node.traversal.shortcuts.open_ways, key=_order))
    for entries in in_pages(parts.node.map_cache):
        items: list[_Item] = []
        for entry in entries:
            while ways and _order(ways[0]) < _order(entry):
                items.append(ways.popleft())
            items.append(entry)
        yield _shown(parts, items)
    yield _shown(parts, list(ways))


def entry_view(parts: Parts, entry: MapCacheEntry) -> schema.MapCacheEntry:
    """One mapping."""
    return _entry(parts, entry, _round_trips(parts))


def _order(item: _Item) -> _Key:
    """By number; a direct path comes before the mapping of the same prefix."""
    prefix = item.eid if isinstance(item, Shortcut) else item.prefix
    return prefix.family, prefix.instance_id, int(prefix.address), prefix.mask_len, not isinstance(item, Shortcut)


def _shown(parts: Parts, page: Sequence[_Item]) -> list[schema.MapCacheEntry]:
    round_trips = _round_trips(parts)
    return [
        _short_way(parts, item) if isinstance(item, Shortcut) else _entry(parts, item, round_trips) for item in page
    ]


def _round_trips(parts: Parts) -> Mapping[IpAddress, float]:
    """The shortest round trip to each remote locator, on any uplink."""
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
    """The disposition of its forwarding entry."""
    known = parts.node.disposition(prefix)
    if known is None or known.disposition == "MISS":
        return "ask"
    if known.disposition in ("ENCAPSULATE", "ENCAPSULATE_AND_REPORT"):
        return "encapsulate"
    return "native" if known.disposition == "NATIVE" else "drop"

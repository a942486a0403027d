"""The map-cache in the order of its prefixes, some entries at a time.

100,000 entries take seconds to show, and a mapping may have 32 locators. Between two pages the daemon works. Only the
last prefix is kept from one page to the next: changes after it are included.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from lispmob.control.map_cache import MapCache, MapCacheEntry
from lispmob.wire.address import EidPrefix

ENTRIES_AT_ONCE: Final = 40  # ours: showing them takes about a millisecond
LOCATORS_AT_ONCE: Final = 80  # ours: as does this number of locators


def in_pages(cache: MapCache) -> Iterator[list[MapCacheEntry]]:
    """Every entry once, in pages of at most ENTRIES_AT_ONCE; a page also ends once it has LOCATORS_AT_ONCE."""
    last: EidPrefix | None = None
    while found := cache.following(last, ENTRIES_AT_ONCE):
        page = _within_bounds(found)
        last = page[-1].prefix
        yield page


def _within_bounds(entries: list[MapCacheEntry]) -> list[MapCacheEntry]:
    locators = 0
    for place, entry in enumerate(entries, 1):
        locators += len(entry.locators)
        if locators >= LOCATORS_AT_ONCE:
            return entries[:place]
    return entries

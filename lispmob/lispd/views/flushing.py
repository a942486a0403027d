"""Deletes many mappings, some at a time, so that the daemon can work in between."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from lispmob.control.map_cache import MapCacheEntry
from lispmob.lispd.parts import Parts
from lispmob.lispd.views.in_order import in_pages


async def flush(parts: Parts, is_wanted: Callable[[MapCacheEntry], bool]) -> int:
    """Delete the wanted mappings; returns how many. Mappings that come meanwhile, after the current place, go too."""
    count = 0
    for entries in in_pages(parts.node.map_cache):
        gone = [entry.prefix for entry in entries if is_wanted(entry)]
        now = parts.now()
        parts.perform([effect for prefix in gone for effect in parts.node.on_mapping_deleted(prefix, now)])
        count += len(gone)
        await asyncio.sleep(0)
    return count

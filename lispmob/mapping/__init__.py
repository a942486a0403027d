"""Mappings for programs: follow what lispd misses and learns, and tell it where EIDs are (docs/mappings.md).

    from lispmob import mapping

    with mapping.connect() as mappings:
        mappings.follow("miss", echo=False)
        for event in mappings:
            mappings.put(event.eid, [mapping.Locator("203.0.113.5")], ttl_s=600)

`lispmob.mapping.aio` is the same for asyncio. Nothing here needs more than the standard library.
"""

from __future__ import annotations

from lispmob.mapping.mappings import Mappings
from lispmob.mapping.messages import DEFAULT_SOCKET, Event, Locator, Mapping, MappingError, NoDaemon

__all__ = ["DEFAULT_SOCKET", "Event", "Locator", "Mapping", "MappingError", "Mappings", "NoDaemon", "connect"]


def connect(path: str = DEFAULT_SOCKET, *, timeout_s: float = 10.0) -> Mappings:
    """A connection to lispd; `timeout_s` is how long it may take to answer. Raises NoDaemon."""
    return Mappings(path, timeout_s=timeout_s)

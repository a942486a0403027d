"""Default routes, maintained without listing all routes.

IPv4 routes vanish without an event when their interface goes down, when its last address is removed, or when their
source address is. They are read again each time, which is cheap (see `rtnetlink.peek_ipv4_default_routes`). IPv6 routes
cannot be read cheaply, but each removal is an event, except (by sysctl) those of an interface that went down.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from typing import Final, NamedTuple

import msgspec

from lispmob.iface_monitor.snapshot import DefaultRoute
from lispmob.wire.address import IpAddress, IpNetwork

ROUTE_PROTOCOL: Final = 201
"""Marks our routes and rules (rtm_protocol, FRA_PROTOCOL); unassigned in iproute2's rt_protos."""

WHOLE: Final = 0
LOW_HALF: Final = 1
HIGH_HALF: Final = 2

FOR_SOME: Final = 1 << 16
"""The order of a table that only some packets use: after all others."""


class TableLookup(NamedTuple):
    """A table that a routing rule looks up, for packets from `source` or for all.

    `order`: 0 for the main table, smaller for one that is looked up before it, larger for one after it.
    """

    family: int
    table: int
    source: IpNetwork | None = None
    order: int = 0


_Slot = tuple[int, int, int, int, IpNetwork | None]


class Candidate(msgspec.Struct, frozen=True):
    """One next hop of a default route, or of half of one. `part` is WHOLE, LOW_HALF or HIGH_HALF.

    `source`: the route is only for packets from there.
    """

    family: int
    table: int
    part: int
    ifindex: int
    gateway: IpAddress | None
    metric: int
    preferred_source: IpAddress | None = None
    source: IpNetwork | None = None

    @property
    def slot(self) -> _Slot:
        """The key by which routes replace each other. Routes for two sources are two routes."""
        return (self.family, self.table, self.part, self.metric, self.source)


class Ipv6DefaultRoutes:
    """The IPv6 default routes, from one listing and the later events, in order."""

    def __init__(self) -> None:
        self._held: dict[tuple[_Slot, int, IpAddress | None], Candidate] = {}

    def reset(self, listed: Iterable[Candidate]) -> None:
        """Start over from a complete listing."""
        self._held = {_key(candidate): candidate for candidate in listed}

    def on_added(self, routes: Iterable[Candidate], is_replacing: bool) -> None:
        """A route was added or replaced; replacing removes the other next hops of the same metric."""
        added = list(routes)
        if is_replacing:
            slots = {candidate.slot for candidate in added}
            self._held = {key: each for key, each in self._held.items() if each.slot not in slots}
        self._held.update({_key(candidate): candidate for candidate in added})

    def on_removed(self, routes: Iterable[Candidate]) -> None:
        """A route, or one next hop of it, was removed."""
        for route in routes:
            self._held.pop(_key(route), None)

    def on_link_down(self, ifindex: int) -> None:
        """The kernel removes all IPv6 routes of an interface that is set down or removed."""
        self._held = {key: each for key, each in self._held.items() if each.ifindex != ifindex}

    def __iter__(self) -> Iterator[Candidate]:
        return iter(self._held.values())


def merge(candidates: Iterable[Candidate], tables: Collection[TableLookup]) -> list[DefaultRoute]:
    """The default routes in the tables that are looked up; two halves make one."""
    lookups: dict[tuple[int, int], list[TableLookup]] = {}
    for lookup in tables:
        lookups.setdefault((lookup.family, lookup.table), []).append(lookup)
    found: list[DefaultRoute] = []
    halves: dict[tuple[int, int, int, IpNetwork | None], dict[int, Candidate]] = {}
    for candidate in candidates:
        if (candidate.family, candidate.table) not in lookups:
            continue
        if candidate.part == WHOLE:
            found += _routes(candidate, candidate.metric, lookups)
            continue
        pair = halves.setdefault((candidate.family, candidate.table, candidate.ifindex, candidate.source), {})
        if candidate.part not in pair or candidate.metric < pair[candidate.part].metric:
            pair[candidate.part] = candidate
    for pair in halves.values():
        if len(pair) == 2:
            found += _routes(pair[LOW_HALF], max(route.metric for route in pair.values()), lookups)
    return found


def _key(each: Candidate) -> tuple[_Slot, int, IpAddress | None]:
    return (each.slot, each.ifindex, each.gateway)


def _routes(each: Candidate, metric: int, lookups: dict[tuple[int, int], list[TableLookup]]) -> Iterator[DefaultRoute]:
    """One route for each source that may use it: by the route itself, and by the rules that look its table up."""
    for lookup in lookups[each.family, each.table]:
        sources = [source for source in (each.source, lookup.source) if source is not None]
        narrow = max(sources, key=lambda source: source.prefixlen, default=None)
        if narrow is not None and not all(narrow.network_address in source for source in sources):
            continue
        yield DefaultRoute(
            each.family, each.ifindex, each.gateway, metric, each.preferred_source, each.table, narrow, lookup.order
        )

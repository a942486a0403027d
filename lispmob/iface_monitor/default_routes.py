"""Default routes, maintained without listing all routes.

IPv4 routes vanish without an event when their interface goes down, when its last address is removed, or when their
source address is. They are read again each time, which is cheap (see `rtnetlink.peek_ipv4_default_routes`). IPv6 routes
cannot be read cheaply, but each removal is an event, except (by sysctl) those of an interface that went down.

A default route may refuse instead of leading somewhere (blackhole, unreachable, prohibit), and so may a routing rule:
that is how kill switches of VPNs work. What the kernel would look at after it counts for nothing. A `throw` route ends
the search in its own table only.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from typing import Final, NamedTuple

import msgspec

from lispmob.iface_monitor.snapshot import MAIN_TABLE, DefaultRoute
from lispmob.wire.address import IpAddress, IpNetwork

ROUTE_PROTOCOL: Final = 201
"""Marks our routes and rules (rtm_protocol, FRA_PROTOCOL); unassigned in iproute2's rt_protos."""

WHOLE: Final = 0
LOW_HALF: Final = 1
HIGH_HALF: Final = 2

THROW: Final = "throw"

FOR_SOME: Final = 1 << 32
"""The order of a table that only some packets use: after all others, whose rules have priorities of 32 bits."""


class TableLookup(NamedTuple):
    """A table that a routing rule looks up, for packets from `source` or for all.

    `order`: 0 for the main table, smaller for one that is looked up before it, larger for one after it; FOR_SOME if
    only some packets use it. `place`: the same, whatever packets use it. `is_partial`: the rule selects by more than
    the source. `refusal`: no table is looked up, the rule refuses; the text names it.
    """

    family: int
    table: int
    source: IpNetwork | None = None
    order: int = 0
    place: int = 0
    is_partial: bool = False
    refusal: str = ""


_Slot = tuple[int, int, int, int, IpNetwork | None]


class Candidate(msgspec.Struct, frozen=True):
    """One next hop of a default route, or of half of one. `part` is WHOLE, LOW_HALF or HIGH_HALF.

    `source`: the route is only for packets from there. `refusal`: the kind of a route that leads nowhere ("blackhole").
    `nexthop`: the number of the nexthop object that the route names; 0: none.
    """

    family: int
    table: int
    part: int
    ifindex: int
    gateway: IpAddress | None
    metric: int
    preferred_source: IpAddress | None = None
    source: IpNetwork | None = None
    refusal: str = ""
    nexthop: int = 0

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

    @property
    def has_nexthops(self) -> bool:
        """True when routes name nexthop objects, whose changes are not reported as changes of the routes."""
        return any(candidate.nexthop for candidate in self._held.values())


def merge(candidates: Iterable[Candidate], tables: Collection[TableLookup]) -> list[DefaultRoute]:
    """The default routes in the tables that are looked up; two halves make one.

    Those that packets do not get to have `refused_by`.
    """
    lookups: dict[tuple[int, int], list[TableLookup]] = {}
    for lookup in tables:
        lookups.setdefault((lookup.family, lookup.table), []).append(lookup)
    routes = [route for route in whole_routes(candidates) if (route.each.family, route.each.table) in lookups]
    refusals = [_by_rule(lookup) for lookup in tables if lookup.refusal]
    refusals += [
        _by_route(route, lookup)
        for route in routes
        if route.each.refusal and not _is_behind_throw(route, routes)
        for lookup in lookups[route.each.family, route.each.table]
    ]
    return [
        found
        for route in routes
        if not route.each.refusal
        for lookup in lookups[route.each.family, route.each.table]
        if (found := _default_route(route, lookup, refusals)) is not None
    ]


class WholeRoute(NamedTuple):
    """A default route, or two halves that make one; `length`: of the prefix, in bits."""

    each: Candidate
    length: int
    metric: int

    @property
    def rank(self) -> tuple[int, int]:
        """Within a table, smaller is taken: the longer prefix, then the metric."""
        return (-self.length, self.metric)


def whole_routes(candidates: Iterable[Candidate]) -> Iterator[WholeRoute]:
    """The default routes of all tables; two halves make one."""
    halves: dict[tuple[int, int, int, IpNetwork | None, str], dict[int, Candidate]] = {}
    for candidate in candidates:
        if candidate.part == WHOLE:
            yield WholeRoute(candidate, 0, candidate.metric)
            continue
        key = (candidate.family, candidate.table, candidate.ifindex, candidate.source, candidate.refusal)
        pair = halves.setdefault(key, {})
        if candidate.part not in pair or candidate.metric < pair[candidate.part].metric:
            pair[candidate.part] = candidate
    for pair in halves.values():
        if len(pair) == 2:
            yield WholeRoute(pair[LOW_HALF], 1, max(half.metric for half in pair.values()))


class _Refusal(NamedTuple):
    """Where packets end: at a rule, or at a route. `route` None: at a rule.

    `source`: for packets from there only. `is_final`: no later table is looked up.
    """

    lookup: TableLookup
    route: WholeRoute | None
    source: IpNetwork | None
    is_final: bool
    text: str


def _by_rule(lookup: TableLookup) -> _Refusal:
    return _Refusal(lookup, None, lookup.source, not lookup.is_partial, lookup.refusal)


def _by_route(route: WholeRoute, lookup: TableLookup) -> _Refusal:
    each = route.each
    what = "default" if each.part == WHOLE else "both halves of the default"
    where = "" if each.table == MAIN_TABLE else f" in table {each.table}"
    text = f"the route `{each.refusal} {what} metric {route.metric}`{where}"
    is_final = each.refusal != THROW and not lookup.is_partial
    return _Refusal(lookup, route, _narrower(each.source, lookup.source), is_final, text)


def _is_behind_throw(route: WholeRoute, routes: Iterable[WholeRoute]) -> bool:
    """True when packets leave the table before they come to the route."""
    where = (route.each.family, route.each.table, route.each.source)
    return any(
        other.each.refusal == THROW
        and (other.each.family, other.each.table, other.each.source) == where
        and other.rank < route.rank
        for other in routes
    )


def _default_route(route: WholeRoute, lookup: TableLookup, refusals: Iterable[_Refusal]) -> DefaultRoute | None:
    """The route as packets come to it by this rule; None if no packet does, by the two sources."""
    each = route.each
    if _is_apart(each.source, lookup.source):
        return None
    source = _narrower(each.source, lookup.source)
    refused_by, exceptions = "", []
    for refusal in refusals:
        if refusal.lookup.family != each.family or not _comes_first(refusal, route, lookup):
            continue
        if refusal.source is None or (source is not None and _covers(refusal.source, source)):
            refused_by = refused_by or refusal.text
        elif not _is_apart(refusal.source, source):
            exceptions.append(refusal.source)
    return DefaultRoute(
        each.family,
        each.ifindex,
        each.gateway,
        route.metric,
        each.preferred_source,
        each.table,
        source,
        lookup.order,
        tuple(sorted(set(exceptions), key=str)),
        refused_by,
    )


def _comes_first(refusal: _Refusal, route: WholeRoute, lookup: TableLookup) -> bool:
    """True when the kernel looks at the refusal before the route. IPv6 compares sources before metrics."""
    if refusal.route is None or refusal.lookup != lookup:
        return refusal.is_final and refusal.lookup.place < lookup.place
    theirs, ours = refusal.route.each.source, route.each.source
    if theirs == ours:
        return refusal.route.rank <= route.rank
    return theirs is not None and (ours is None or _covers(ours, theirs))


def _key(each: Candidate) -> tuple[_Slot, int, IpAddress | None]:
    return (each.slot, each.ifindex, each.gateway)


def _narrower(one: IpNetwork | None, other: IpNetwork | None) -> IpNetwork | None:
    """The narrower of two sources that overlap; None is everywhere."""
    sources = [source for source in (one, other) if source is not None]
    return max(sources, key=lambda source: source.prefixlen, default=None)


def _is_apart(one: IpNetwork | None, other: IpNetwork | None) -> bool:
    return one is not None and other is not None and not one.overlaps(other)


def _covers(outer: IpNetwork, inner: IpNetwork) -> bool:
    return outer.prefixlen <= inner.prefixlen and inner.network_address in outer

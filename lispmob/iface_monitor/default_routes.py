"""Default routes, kept without listing all routes.

IPv4 routes vanish without an event when their interface goes down, when its last address is removed, or when the
address that they name as source is: they are read anew each time, which is cheap (see
`rtnetlink.peek_ipv4_default_routes`). IPv6 routes cannot be read cheaply, but each removal is an event, except (by
sysctl) those of an interface that went down.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from lispmob.iface_monitor.snapshot import DefaultRoute
from lispmob.values import dataclass
from lispmob.wire.address import IpAddress

ROUTE_PROTOCOL: Final = 201
"""Marks routes and rules as ours (rtm_protocol, FRA_PROTOCOL); unassigned in iproute2's rt_protos."""

WHOLE: Final = 0
LOW_HALF: Final = 1
HIGH_HALF: Final = 2


@dataclass(frozen=True, slots=True)
class Candidate:
    """One next hop of a default route, or of half of one. `part` is WHOLE, LOW_HALF or HIGH_HALF."""

    family: int
    table: int
    part: int
    ifindex: int
    gateway: IpAddress | None
    metric: int
    preferred_source: IpAddress | None = None

    @property
    def slot(self) -> tuple[int, int, int, int]:
        """What a replacing route replaces."""
        return (self.family, self.table, self.part, self.metric)


class Ipv6DefaultRoutes:
    """The IPv6 default routes, from one listing and the events after it, in their order."""

    def __init__(self) -> None:
        self._held: dict[tuple[tuple[int, int, int, int], int, IpAddress | None], Candidate] = {}

    def reset(self, listed: Iterable[Candidate]) -> None:
        """Start over from a complete listing."""
        self._held = {_key(each): each for each in listed}

    def on_added(self, routes: Iterable[Candidate], is_replacing: bool) -> None:
        """A route was added or replaced; replacing drops the other next hops of the same metric."""
        added = list(routes)
        if is_replacing:
            slots = {each.slot for each in added}
            self._held = {key: each for key, each in self._held.items() if each.slot not in slots}
        self._held.update({_key(each): each for each in added})

    def on_removed(self, routes: Iterable[Candidate]) -> None:
        """A route, or one next hop of it, was removed."""
        for each in routes:
            self._held.pop(_key(each), None)

    def on_link_down(self, ifindex: int) -> None:
        """The kernel drops all IPv6 routes of an interface that is set down or goes away."""
        self._held = {key: each for key, each in self._held.items() if each.ifindex != ifindex}

    def __iter__(self) -> Iterator[Candidate]:
        return iter(self._held.values())


def merge(candidates: Iterable[Candidate], tables: set[tuple[int, int]]) -> list[DefaultRoute]:
    """The default routes that they amount to, in the (family, table) pairs given; two halves make one."""
    whole: list[DefaultRoute] = []
    halves: dict[tuple[int, int, int], dict[int, Candidate]] = {}
    for each in candidates:
        if (each.family, each.table) not in tables:
            continue
        if each.part == WHOLE:
            whole.append(_route(each, each.metric))
            continue
        pair = halves.setdefault((each.family, each.table, each.ifindex), {})
        if each.part not in pair or each.metric < pair[each.part].metric:
            pair[each.part] = each
    complete = [pair for pair in halves.values() if len(pair) == 2]
    return whole + [_route(pair[LOW_HALF], max(each.metric for each in pair.values())) for pair in complete]


def _key(each: Candidate) -> tuple[tuple[int, int, int, int], int, IpAddress | None]:
    return (each.slot, each.ifindex, each.gateway)


def _route(each: Candidate, metric: int) -> DefaultRoute:
    return DefaultRoute(each.family, each.ifindex, each.gateway, metric, each.preferred_source, each.table)

"""Reads our items in the kernel, and those of others that affect us."""

from __future__ import annotations

import logging
import socket
from collections.abc import Collection, Iterable, Iterator
from ipaddress import ip_network
from typing import Final

from lispmob.errors import KernelRefused
from lispmob.iface_monitor import rtnetlink
from lispmob.iface_monitor.default_routes import ROUTE_PROTOCOL, THROW, WholeRoute, whole_routes
from lispmob.iface_monitor.route_message import candidates
from lispmob.iface_monitor.snapshot import Link
from lispmob.mh import common_marks, nft_marks, nft_text
from lispmob.mh.chain_text import TABLE
from lispmob.mh.kernel import mark_listing
from lispmob.mh.plan import MARK_TABLES, OUR_TABLES, ROUTER_TABLES, Route, RouteKind
from lispmob.mh.rule import DEFAULT_TABLE, LOCAL_TABLE, MAIN_TABLE, MARK, MARK_MASK, Rule
from lispmob.mh.rule_order import RefusingTable
from lispmob.netlink.decoders import decode
from lispmob.netlink.message import Raw
from lispmob.wire.address import IpAddress, IpNetwork, parse_ip

log = logging.getLogger(__name__)

_FAMILIES: Final = {4: int(socket.AF_INET), 6: int(socket.AF_INET6)}
_KINDS: Final[dict[int, RouteKind]] = {
    1: "unicast",
    2: "local",
    7: "unreachable",
    9: "throw",
}  # linux/rtnetlink.h, RTN_*
_NO_DEFAULTS: Final = frozenset({0, LOCAL_TABLE, DEFAULT_TABLE})
_ANYWHERE: Final = {4: "0.0.0.0", 6: "::"}


class KernelListing:
    """Reads our routes and addresses. Decoded routes are cached: throw routes may be thousands."""

    def __init__(self) -> None:
        self._names: dict[int, str] = {}
        self._decoded: dict[bytes, Route | None] = {}
        self._tables: set[int] = {*OUR_TABLES, *ROUTER_TABLES, *MARK_TABLES}

    def links(self) -> dict[str, Link]:
        """Interfaces by name. Raises OSError."""
        links = rtnetlink.dump_links()
        names = {link.ifindex: link.name for link in links}
        if names != self._names:
            self._names = names
            self._decoded.clear()
        return {link.name: link for link in links}

    def addresses(self, devices: Collection[str]) -> set[tuple[str, IpAddress]]:
        """Host addresses of these interfaces, the kernel's own link-local ones left out. Raises OSError."""
        return {
            (name, local.address)
            for local in rtnetlink.dump_addresses()
            if (name := self._names.get(local.ifindex, "")) in devices
            and local.prefix_len == local.address.max_prefixlen
            and not local.address.is_link_local
        }

    def routes(self, expected: Iterable[Route], more_tables: Iterable[int] = ()) -> set[Route]:
        """Routes with our protocol in our tables; call `links()` first. Raises OSError.

        Of the many tables for marks, only those are read that may hold routes: expected ones, those with routes the
        last time, and all of them the first time.
        """
        known: dict[bytes, Route | None] = {}
        for version, family in _FAMILIES.items():
            for table in {*self._tables, *more_tables, *(route.table for route in expected)}:
                for raw in rtnetlink.dump_table(family, table):
                    data = raw.data[16:]  # the header names the requesting socket
                    known[data] = self._decoded[data] if data in self._decoded else self._route(raw, version)
        self._decoded = known
        found = {route for route in known.values() if route is not None}
        self._tables = {*OUR_TABLES, *(route.table for route in (*found, *expected))}
        return found

    @staticmethod
    def has_default_table() -> bool:
        """True when the table `default` has IPv4 routes. Raises OSError."""
        return bool(rtnetlink.dump_table(_FAMILIES[4], DEFAULT_TABLE))

    @staticmethod
    def wide_tables(tables: Iterable[tuple[int, int]]) -> frozenset[tuple[int, int]]:
        """Of these (family, table), the main tables and those with a default route. Raises OSError."""
        return frozenset(
            (family, table)
            for family, table in tables
            if table == MAIN_TABLE or (table not in _NO_DEFAULTS and _has_default_route(family, table))
        )

    @staticmethod
    def refusing_tables(tables: Iterable[tuple[int, int]]) -> tuple[RefusingTable, ...]:
        """Of these (family, table), those whose default route refuses. Raises OSError."""
        return tuple(
            RefusingTable(family, table, tuple(_destinations(family, table)))
            for family, table in sorted(tables)
            if table not in _NO_DEFAULTS and _refuses(family, table)
        )

    def _route(self, raw: Raw, version: int) -> Route | None:
        message = decode(raw)
        kind = _KINDS.get(message["type"])
        if message["proto"] != ROUTE_PROTOCOL or kind is None:
            return None
        source = message.get("prefsrc")
        gateway = message.get("gateway") or (message.get("via") or {}).get("addr")
        hops = [int(hop["oif"]) for hop in message.get("multipath") or ()] or [int(message.get("oif") or 0)]
        return Route(
            table=int(message.get("table")),
            kind=kind,
            destination=_network(message.get("dst"), message["dst_len"], version),
            # IPv6 lists routes that lead nowhere as those of lo.
            devices=()
            if kind in ("throw", "unreachable")
            else tuple(sorted(self._names.get(hop, "?") for hop in hops)),
            source=parse_ip(source) if source else None,
            gateway=parse_ip(gateway) if gateway else None,
            metric=int(message.get("priority") or 0) if version == 4 else 0,
        )


class CommonMarks:
    """Caches its result as long as the rules are the same: reading runs a process for each family."""

    def __init__(self) -> None:
        self._rules: tuple[Rule, ...] = ()
        self._met: frozenset[tuple[int, int]] = frozenset()

    async def met_by_all(self, rules: tuple[Rule, ...]) -> frozenset[tuple[int, int]]:
        """(family, priority) of rules that select by marks which all packets have."""
        marked = tuple(rule for rule in rules if rule.selector(MARK) or rule.selector(MARK_MASK))
        if marked != self._rules:
            self._met = frozenset([rule for family in (4, 6) for rule in await self._of(family, marked)])
            self._rules = marked
        return self._met

    def forget(self) -> None:
        """Chains may have changed."""
        self._rules = ()

    async def _of(self, family: int, rules: tuple[Rule, ...]) -> list[tuple[int, int]]:
        wanted = [rule for rule in rules if rule.family == family]
        if not wanted:
            return []
        marks: list[tuple[int, int]] = []
        for read in (_by_iptables_nft, _by_iptables_legacy, _by_nft):
            try:
                marks += await read(family)
            except KernelRefused as refused:
                log.debug("marks of others are not known family=%d why=%s", family, refused)
        return [(family, rule.priority) for rule in wanted if common_marks.is_met(rule, marks)]


async def _by_iptables_nft(family: int) -> tuple[tuple[int, int], ...]:
    has_some = mark_listing.has_nft_tables()
    return common_marks.given_to_all(await mark_listing.iptables(family, "nft", TABLE) if has_some else ())


async def _by_iptables_legacy(family: int) -> tuple[tuple[int, int], ...]:
    has_some = mark_listing.has_legacy_tables(family)
    return common_marks.given_to_all(await mark_listing.iptables(family, "legacy", TABLE) if has_some else ())


async def _by_nft(family: int) -> tuple[tuple[int, int], ...]:
    ruleset = await mark_listing.nftables() if mark_listing.has_nft_tables() else None
    return nft_marks.given_to_all(ruleset, family, (nft_text.table_name(TABLE),))


def _has_default_route(family: int, table: int) -> bool:
    return any(route.each.refusal != THROW for route in _default_routes(family, table))


def _refuses(family: int, table: int) -> bool:
    """True when the default route that the kernel takes is one that refuses."""
    best = min(_default_routes(family, table), key=lambda route: route.rank, default=None)
    return best is not None and best.each.refusal not in ("", THROW)


def _default_routes(family: int, table: int) -> list[WholeRoute]:
    """Those for packets from anywhere."""
    if family == 4:
        listed = rtnetlink.peek_ipv4_default_routes(table)
    else:
        raws = rtnetlink.dump_table(_FAMILIES[family], table)
        listed = [route for raw in raws if raw.is_default_route for route in candidates(raw)]
    return [route for route in whole_routes(listed) if route.each.source is None]


def _destinations(family: int, table: int) -> Iterator[IpNetwork]:
    """Of the routes that are no default routes."""
    for raw in rtnetlink.dump_table(_FAMILIES[family], table):
        if not raw.is_default_route:
            message = decode(raw)
            yield _network(message.get("dst"), message["dst_len"], family)


def _network(address: str | None, prefix_len: int, version: int) -> IpNetwork:
    return ip_network((address or _ANYWHERE[version], prefix_len))

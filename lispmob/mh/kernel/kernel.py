"""Keeps the kernel's addresses, routes, rules and NAT chain in the desired state: read, compare, change what differs.

Each item is independent: what the kernel refuses is left out, reported, and tried again at the next call; the rest is
done, and unwanted items are removed.
"""

from __future__ import annotations

import asyncio
import errno
import logging
from collections.abc import Iterable, Iterator
from typing import Final

from msgspec.structs import replace

from lispmob.errors import KernelRefused
from lispmob.iface_monitor.snapshot import Link
from lispmob.mh import mark_bits, mark_uses
from lispmob.mh.guard import left_behind
from lispmob.mh.kernel import mark_listing, rule_message
from lispmob.mh.kernel.kernel_changes import KernelChanges, refused
from lispmob.mh.kernel.kernel_listing import CommonMarks, KernelListing
from lispmob.mh.kernel.kernel_problems import foreign_rule, mark_in_use, refusals
from lispmob.mh.kernel.nat_chain import NatChain
from lispmob.mh.kernel.rule_message import Form
from lispmob.mh.plan import (
    GATEWAY_TABLE,
    LINGER_TABLE,
    NOTHING,
    ROUTER_TABLES,
    KernelState,
    KernelUplink,
    LostAddress,
    Plan,
    Route,
    is_ours,
    plan,
)
from lispmob.mh.rule import DEFAULT_TABLE, LOCAL_TABLE, MAIN_TABLE
from lispmob.mh.rule_order import Others, arrange
from lispmob.netlink.iproute import AsyncIPRoute
from lispmob.problems.problem import Problem, Severity
from lispmob.wire.address import IpAddress, IpNetwork

__all__ = ["KernelRouter", "KernelState", "KernelUplink", "LostAddress"]

log = logging.getLogger(__name__)

_HANDED_OUT: Final = frozenset({0, LOCAL_TABLE, MAIN_TABLE, DEFAULT_TABLE})
HOLD_S: Final = 1.0  # ours: wg-quick(8) deletes rules until none is listed, and aborts if one is gone


class KernelRouter:
    """Brings the kernel to a desired state, and removes all of it again.

    Every call reads the kernel's actual state, so it also repairs what others have flushed.
    """

    def __init__(self, nat: NatChain | None = None) -> None:
        self._listing = KernelListing()
        self._lock = asyncio.Lock()
        self._nat = nat or NatChain()
        self._common_marks = CommonMarks()
        self._devices: tuple[str, ...] = ()
        self._held: dict[Form, float] = {}  # copies of rules that are gone, and since when
        self._translated: tuple[frozenset[IpNetwork], frozenset[IpNetwork]] | None = None
        self.has_lost_device = False
        """The last call did not find the datapath's device."""

    @property
    def is_settled(self) -> bool:
        """False while copies of rules that others removed wait for HOLD_S to be removed too."""
        return not self._held

    async def apply(self, desired: KernelState, *, is_repair: bool = False) -> tuple[Problem, ...]:
        """Make it so; does nothing if it already is. Returns what the kernel refused."""
        return (*await self.route(desired), *await self.translate(desired, is_repair=is_repair))

    async def route(self, desired: KernelState) -> tuple[Problem, ...]:
        """Addresses, routes and rules: compared with the kernel each time."""
        async with self._lock:
            self._devices = desired.devices
            try:
                return await self._change(plan(desired), desired)
            except KernelRefused as error:  # nothing could be read, or the datapath's device is gone
                return refusals([(0, True, str(error))], desired)

    async def translate(self, desired: KernelState, *, is_repair: bool = False) -> tuple[Problem, ...]:
        """The NAT chain. Checking it runs processes: done the first time, on changes, and for `is_repair`."""
        async with self._lock:
            wanted = plan(desired).masqueraded, frozenset(eid.network for eid in desired.eids)
            if is_repair:
                self._common_marks.forget()
            if not is_repair and wanted == self._translated:
                return ()
            self._translated = None
            prefix = desired.marks.prefix if desired.marks else None
            # In split mode hardly any packets from an EID leave natively.
            severity = Severity.DEGRADED if desired.mode == "full" else Severity.NOTICE
            masqueraded, kept = wanted
            problems = await self._nat.apply(
                masqueraded, desired.tun, prefix, kept=kept, is_repair=is_repair, severity=severity
            )
            self._translated = None if problems else wanted
            return problems

    async def look_at_marks(self, desired: KernelState) -> tuple[Problem, ...]:
        """Rules of other programs' packet filters about bits of our marks. Runs processes, and holds nothing up.

        What such rules give to all packets is read again by the next `route`.
        """
        self._common_marks.forget()
        uses = mark_bits.used_by(await mark_listing.uses(), desired.mark_mask)
        return mark_in_use(uses, desired.mark_mask)

    async def clean_up_routes(self, leaving: KernelState | None = None) -> None:
        """Remove every address, rule and route that is recognisably ours. Raises KernelRefused.

        With `leaving`, the guard of the overlay stays, or is installed (guard.py).
        """
        async with self._lock:
            self._held.clear()
            kept = NOTHING if leaving is None else left_behind(leaving)
            state = leaving or KernelState(self._devices[0] if self._devices else "")
            problems = await self._change(kept, replace(state, mtu_bytes=None))
            if problems:
                raise KernelRefused("; ".join(problem.sentence for problem in problems))

    async def clean_up_chains(self) -> None:
        """Remove the NAT chain. Raises KernelRefused."""
        async with self._lock:
            self._translated = None
            await self._nat.clean_up()
            self._translated = frozenset(), frozenset()

    async def clean_up(self, leaving: KernelState | None = None) -> None:
        """Remove all of it, except for the guard with `leaving`. Raises KernelRefused at the end.

        That is if not everything could be removed.
        """
        said: list[str] = []
        for removal in (self.clean_up_routes(leaving), self.clean_up_chains()):
            try:
                await removal
            except KernelRefused as error:
                said.append(str(error))
        if said:
            raise KernelRefused("; ".join(said))

    async def _change(self, wanted: Plan, desired: KernelState) -> tuple[Problem, ...]:
        """Compare and change; additions come before removals, so that no packet falls between."""
        devices = self._devices
        try:
            links = self._listing.links()
            present = self._listing.addresses(devices)
            ours, theirs = rule_message.own_forms(), rule_message.foreign_rules()
            routes = self._listing.routes(wanted.routes, _tables(ours, {rule.table for rule in theirs}))
            tables = {(rule.family, rule.table) for rule in theirs}
            wide, refusing = self._listing.wide_tables(tables), self._listing.refusing_tables(tables)
            has_default_table = self._listing.has_default_table()
        except OSError as error:
            raise refused("reading addresses, routes and rules", error.errno or errno.EIO) from error
        met = await self._common_marks.met_by_all(theirs) if desired.mode == "full" else frozenset()
        others = Others(theirs, met, has_default_table, wide, refusing)
        needed = {name for name, _ in wanted.addresses}.union(*(route.devices for route in wanted.routes))
        self.has_lost_device = any(name in needed and name not in links for name in devices[:1])
        for name in devices[:1]:
            if name in needed and name not in links:
                raise KernelRefused(f"{name}: no such interface: the datapath has to make it first")
        arrangement = arrange(wanted.rules, others, desired.last_priority)
        addresses = {placed for placed in wanted.addresses if placed[0] in links}
        wanted_routes = set(_possible(wanted.routes, links, desired.first_table))
        rules = {rule_message.form(rule) for rule in arrangement.rules}
        if wanted.rules:
            rules |= self._hold(ours - rules, desired.first_table)
        unready = [
            links[name]
            for name in devices
            if name in needed and name in links
            if not (links[name].is_up and desired.mtu_bytes in (None, links[name].mtu_bytes))
        ]
        ahead = (
            *(foreign_rule(rule, desired) for rule in arrangement.ahead),
            *mark_in_use(mark_bits.used_by(mark_uses.of_rules(theirs), desired.mark_mask), desired.mark_mask),
        )
        if not unready and (present, routes, ours) == (addresses, wanted_routes, rules):
            return ahead
        with rule_message.open_kernel() as rule_socket:
            async with AsyncIPRoute(strict_check=True) as kernel:
                changes = KernelChanges(kernel, rule_socket, links)
                for link in unready:
                    await changes.set_up(link, desired.mtu_bytes)
                for device, address in sorted(addresses - present, key=_by_family):
                    await changes.add_address(address, device)
                # One destination has one route in a table: in IPv6 the old one must be removed before the new one fits.
                fresh = wanted_routes - routes
                taken = {_place(route) for route in fresh if route.destination.version == 4}
                for route in routes - wanted_routes:
                    if _place(route) not in taken:
                        await changes.remove_route(route)
                # Exceptions before the routes that they are excepted from; an interface may have gone meanwhile.
                for route in sorted(fresh, key=lambda each: (each.kind == "unicast", str(each))):
                    await changes.put_route(route)
                # From the last to the first: the rule that leads into a section comes when the section is complete.
                for rule in sorted(rules - ours, key=rule_message.priority_of, reverse=True):
                    changes.add_rule(rule)
                for rule in sorted(ours - rules, key=rule_message.priority_of):
                    changes.remove_rule(rule)
                for device, address in present - addresses:
                    await changes.remove_address(address, device)
        log.debug("kernel routing changed devices=%s changes=%d", ",".join(devices), changes.count)
        return (*refusals(changes.refusals, desired), *ahead)

    def _hold(self, stale: set[Form], first_table: int) -> set[Form]:
        """The copies among them that stay for HOLD_S."""
        now = asyncio.get_running_loop().time()
        copies = {form for form in stale if not _is_own(rule_message.table_of(form), first_table)}
        self._held = {copy: self._held.get(copy, now) for copy in copies if now - self._held.get(copy, now) < HOLD_S}
        return set(self._held)


def _is_own(table: int, first_table: int) -> bool:
    return table in _HANDED_OUT or is_ours(table, first_table)


def _tables(ours: Iterable[Form], theirs: set[int]) -> set[int]:
    """Tables that an earlier lispd may have used with another configuration, and no other rule looks up."""
    return {rule_message.table_of(our) for our in ours} - theirs - _HANDED_OUT


def _possible(routes: frozenset[Route], links: dict[str, Link], first_table: int) -> Iterator[Route]:
    """The routes without next hops through missing interfaces, and through uplinks that are down."""
    for route in routes:
        if not route.devices:
            yield route
            continue
        table = route.table - first_table + LINGER_TABLE
        may_be_down = table not in (LINGER_TABLE, GATEWAY_TABLE, *ROUTER_TABLES)
        found = [link for device in route.devices if (link := links.get(device)) is not None]
        devices = tuple(link.name for link in found if link.is_up or may_be_down)
        if devices:
            yield replace(route, devices=devices)


def _place(route: Route) -> tuple[int, IpNetwork, int]:
    """Routes with the same key replace one another."""
    return (route.table, route.destination, route.metric)


def _by_family(placed: tuple[str, IpAddress]) -> tuple[str, int, int]:
    device, address = placed
    return (device, address.version, int(address))

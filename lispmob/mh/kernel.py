"""Keeps the kernel's addresses, routes, rules and NAT chain as they are wanted: read, compare, change what differs."""

from __future__ import annotations

import asyncio
import errno
import logging
import shutil
from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from lispmob.errors import KernelRefused
from lispmob.iface_monitor.snapshot import Link
from lispmob.mh import nat_chain
from lispmob.mh.iproute import AsyncIPRoute
from lispmob.mh.kernel_changes import KernelChanges, refused
from lispmob.mh.kernel_listing import KernelListing
from lispmob.mh.plan import (
    GATEWAY_TABLE,
    LINGER_TABLE,
    NOTHING,
    KernelState,
    KernelUplink,
    LostAddress,
    Plan,
    Route,
    ahead_of,
    plan,
)
from lispmob.wire.address import IpAddress, IpNetwork

__all__ = ["KernelRouter", "KernelState", "KernelUplink", "LostAddress"]

log = logging.getLogger(__name__)

FAMILIES: Final = (4, 6)


class KernelRouter:
    """Brings the kernel to a desired state, and takes everything of ours out of it again.

    Every `apply` reads what the kernel really holds, so it also repairs what others have flushed.
    """

    def __init__(self) -> None:
        self._listing = KernelListing()
        self._lock = asyncio.Lock()
        self._devices: tuple[str, ...] = ()
        self._translated: frozenset[IpNetwork] | None = None

    async def apply(self, desired: KernelState, *, is_repair: bool = False) -> None:
        """Make it so; does nothing when it is so. Raises KernelRefused, leaving done what could be done before it.

        Addresses, routes and rules are compared with the kernel each time. The NAT chain, which takes two processes to
        look at, is looked at the first time, when it has to change, and when `is_repair` says so.
        """
        async with self._lock:
            wanted = plan(desired)
            self._devices = desired.devices
            await self._change(wanted, desired.devices, desired.mtu_bytes)
            if is_repair or wanted.masqueraded != self._translated:
                self._translated = None
                await self._translate(wanted, desired)
                self._translated = wanted.masqueraded

    async def clean_up(self, kept: Plan = NOTHING) -> None:
        """Remove every rule, route and chain that is recognisably ours, whoever left it, but what is to be kept.

        What is to be kept is added, too, where it is not there. Raises KernelRefused.
        """
        async with self._lock:
            await self._change(kept, self._devices, None)
            self._translated = None
            await asyncio.gather(*(nat_chain.remove_chain(family) for family in FAMILIES))
            self._translated = frozenset()

    async def _change(self, wanted: Plan, devices: tuple[str, ...], mtu_bytes: int | None) -> None:
        """Compare and change; what is wanted comes before the removal of what is not: no packet falls between."""
        try:
            links = self._listing.links()
            present = self._listing.addresses(devices)
            rules, routes = self._listing.rules(), self._listing.routes(wanted.routes)
            others = self._listing.other_priorities()
        except OSError as error:
            raise refused("reading addresses, routes and rules", error.errno or errno.EIO) from error
        needed = {name for name, _ in wanted.addresses}.union(*(route.devices for route in wanted.routes))
        for name in devices[:1]:
            if name in needed and name not in links:
                raise KernelRefused(f"{name}: no such interface: the datapath has to make it first")
        wanted = replace(
            wanted,
            addresses=frozenset(placed for placed in wanted.addresses if placed[0] in links),
            routes=frozenset(_possible(wanted.routes, links)),
            rules=ahead_of(wanted.rules, others),
        )
        ours = [links[name] for name in devices if name in needed and name in links]
        unready = [link for link in ours if not (link.is_up and mtu_bytes in (None, link.mtu_bytes))]
        if not unready and Plan(frozenset(present), frozenset(routes), frozenset(rules), wanted.masqueraded) == wanted:
            return
        async with AsyncIPRoute(strict_check=True) as kernel:
            changes = KernelChanges(kernel, links)
            for link in unready:
                await changes.set_up(link, mtu_bytes)
            for device, address in sorted(wanted.addresses - present, key=_by_family):
                await changes.add_address(address, device)
            # One destination has one route in a table: in IPv6 the former must make way before the new one fits.
            fresh = wanted.routes - routes
            taken = {_place(route) for route in fresh if route.destination.version == 4}
            for route in routes - wanted.routes:
                if _place(route) not in taken:
                    await changes.remove_route(route)
            # Exceptions before the routes that they are excepted from; an interface may have gone meanwhile.
            for route in sorted(fresh, key=lambda each: (each.kind == "unicast", str(each))):
                await changes.put_route(route)
            for rule in sorted(wanted.rules - rules, key=str):
                await changes.add_rule(rule)
            for rule in rules - wanted.rules:
                await changes.remove_rule(rule)
            for device, address in present - wanted.addresses:
                await changes.remove_address(address, device)
        log.debug("kernel routing changed devices=%s changes=%d", ",".join(devices), changes.count)

    async def _translate(self, wanted: Plan, desired: KernelState) -> None:
        for family, tool in ((4, "iptables"), (6, "ip6tables")):
            eids = [eid for eid in wanted.masqueraded if eid.version == family]
            if not eids:
                await nat_chain.remove_chain(family)
                continue
            if shutil.which(f"{tool}-restore") is None:
                raise KernelRefused(
                    f"{tool}-restore: not found: destinations outside LISP cannot be reached from an EID without "
                    "source translation: install iptables, or set `routing: {fallback: proxy}` (or drop)"
                )
            await nat_chain.apply_chain(family, eids, desired.tun, desired.marks.prefix if desired.marks else None)


def _possible(routes: frozenset[Route], links: dict[str, Link]) -> Iterator[Route]:
    """The routes without what they have through interfaces that are gone, and through uplinks that are down."""
    for route in routes:
        if not route.devices:
            yield route
            continue
        may_be_down = route.table not in (LINGER_TABLE, GATEWAY_TABLE)
        found = [link for each in route.devices if (link := links.get(each)) is not None]
        devices = tuple(link.name for link in found if link.is_up or may_be_down)
        if devices:
            yield replace(route, devices=devices)


def _place(route: Route) -> tuple[int, IpNetwork, int]:
    """Two routes of one place replace one another."""
    return (route.table, route.destination, route.metric)


def _by_family(placed: tuple[str, IpAddress]) -> tuple[str, int, int]:
    device, address = placed
    return (device, address.version, int(address))

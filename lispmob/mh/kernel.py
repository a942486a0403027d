"""Keeps the kernel's addresses, routes, rules and NAT chain as they are wanted: read, compare, change what differs."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import shutil
import socket
from collections.abc import Awaitable
from dataclasses import replace
from typing import Final

from lispmob.errors import KernelRefused
from lispmob.iface_monitor.rtnetlink import AsyncIPRoute, NetlinkError
from lispmob.iface_monitor.snapshot import Link
from lispmob.mh import nat_chain
from lispmob.mh.kernel_listing import KernelListing
from lispmob.mh.plan import LINGER_TABLE, NOTHING, ROUTE_PROTOCOL, KernelState, LostAddress, Plan, Route, Rule, plan
from lispmob.wire.address import IpAddress, IpNetwork

__all__ = ["KernelRouter", "KernelState", "LostAddress"]

log = logging.getLogger(__name__)

_FAMILIES: Final = {4: int(socket.AF_INET), 6: int(socket.AF_INET6)}
_IFA_F_NODAD: Final = 0x02
_FIB_RULE_FIND_SADDR: Final = 0x00010000  # linux/fib_rules.h
_SCOPE_LINK: Final = 253
_SCOPE_HOST: Final = 254
_SCOPE_ANY: Final = 255
_LISP_DATA: Final = "4341:4341"
_NO_LINK_LOCAL: Final = {"attrs": [("AF_INET6", {"attrs": [("IFLA_INET6_ADDR_GEN_MODE", 1)]})]}  # linux/if_link.h
_IS_GONE: Final = frozenset({errno.ENOENT, errno.ESRCH, errno.EADDRNOTAVAIL, errno.ENODEV})

_REMEDIES: Final = {
    errno.EPERM: "needs CAP_NET_ADMIN",
    errno.EACCES: "needs CAP_NET_ADMIN; is IPv6 disabled by sysctl (net.ipv6.conf.*.disable_ipv6)?",
    errno.EOPNOTSUPP: "the kernel lacks policy routing (CONFIG_IP_MULTIPLE_TABLES) or this family is disabled",
    errno.EAFNOSUPPORT: "the kernel has this address family disabled",
    errno.ENODEV: "the interface is gone: is the datapath running?",
    errno.ENETDOWN: "the interface was set down by someone else",
    errno.EEXIST: "someone else holds the same: look at `ip rule` and `ip route show table all`",
}


class KernelRouter:
    """Brings the kernel to a desired state, and takes everything of ours out of it again.

    Every `apply` reads what the kernel really holds, so it also repairs what others have flushed.
    """

    def __init__(self) -> None:
        self._listing = KernelListing()
        self._lock = asyncio.Lock()
        self._tun: str | None = None
        self._translated: frozenset[IpNetwork] | None = None

    async def apply(self, desired: KernelState, *, is_repair: bool = False) -> None:
        """Make it so; does nothing when it is so. Raises KernelRefused, leaving done what could be done before it.

        Addresses, routes and rules are compared with the kernel each time. The NAT chain, which takes two processes to
        look at, is looked at the first time, when it has to change, and when `is_repair` says so.
        """
        async with self._lock:
            wanted = plan(desired)
            self._tun = desired.tun
            await self._change(wanted, desired.tun, desired.mtu_bytes)
            if is_repair or wanted.masqueraded != self._translated:
                self._translated = None
                await self._translate(wanted, desired.tun)
                self._translated = wanted.masqueraded

    async def clean_up(self) -> None:
        """Remove every rule, route and chain that is recognisably ours, whoever left it. Raises KernelRefused."""
        async with self._lock:
            await self._change(NOTHING, self._tun, None)
            self._translated = None
            await asyncio.gather(*(nat_chain.remove_chain(family) for family in _FAMILIES))
            self._translated = frozenset()

    async def _change(self, wanted: Plan, tun: str | None, mtu_bytes: int | None) -> None:
        """Compare and change; what is wanted comes before the removal of what is not: no packet falls between."""
        try:
            links = self._listing.links()
            link = links.get(tun or "")
            present = self._listing.addresses(link.ifindex) if link else set()
            rules, routes = self._listing.rules(), self._listing.routes()
        except OSError as error:
            raise _refused("reading addresses, routes and rules", error.errno or errno.EIO) from error
        wanted = replace(wanted, routes=frozenset(each for each in wanted.routes if _is_possible(each, links)))
        needs_link = wanted.addresses or any(route.device == tun for route in wanted.routes)
        if needs_link and link is None:
            raise KernelRefused(f"{tun}: no such interface: the datapath has to make it first")
        is_ready = not needs_link or link is None or (link.is_up and mtu_bytes in (None, link.mtu_bytes))
        if is_ready and Plan(frozenset(present), frozenset(routes), frozenset(rules), wanted.masqueraded) == wanted:
            return
        async with AsyncIPRoute(strict_check=True) as kernel:
            changes = _Changes(kernel, links)
            if link and not is_ready:
                await changes.set_up(link, mtu_bytes)
            for address in sorted(wanted.addresses - present, key=_by_family):
                await changes.add_address(address, str(tun))
            # One destination has one route in a table: the former must make way before the new one fits.
            for route in routes - wanted.routes:
                await changes.remove_route(route)
            # Exceptions before the routes that they are excepted from; an interface may have gone meanwhile.
            for route in sorted(wanted.routes - routes, key=lambda each: (each.kind == "unicast", str(each))):
                await changes.add_route(route)
            for rule in sorted(wanted.rules - rules, key=str):
                await changes.add_rule(rule)
            for rule in rules - wanted.rules:
                await changes.remove_rule(rule)
            for address in present - wanted.addresses:
                await changes.remove_address(address, str(tun))
        log.debug("kernel routing changed tun=%s changes=%d", tun, changes.count)

    async def _translate(self, wanted: Plan, tun: str) -> None:
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
            await nat_chain.apply_chain(family, eids, tun)


class _Changes:
    """The single changes, each with its error told; what is gone already needs no removing."""

    def __init__(self, kernel: AsyncIPRoute, links: dict[str, Link]) -> None:
        self._kernel = kernel
        self._links = links
        self.count = 0

    async def set_up(self, tun: Link, mtu_bytes: int | None) -> None:
        """Set the TUN up, and its MTU, where that is not so already."""
        if mtu_bytes not in (None, tun.mtu_bytes):
            request = self._kernel.link("set", index=tun.ifindex, mtu=mtu_bytes)
            await self._do(f"{tun.name}: setting the MTU {mtu_bytes}", request)
        if not tun.is_up:
            # A link-local address would send router solicitations into the tunnel. Without IPv6 there is none to stop.
            with contextlib.suppress(NetlinkError):
                await self._kernel.link("set", index=tun.ifindex, af_spec=_NO_LINK_LOCAL)
            request = self._kernel.link("set", index=tun.ifindex, state="up")
            await self._do(f"{tun.name}: setting it up", request)

    async def add_address(self, address: IpAddress, tun: str) -> None:
        """A host address, without duplicate detection: nobody else is on a TUN."""
        fields = self._address(address, tun)
        if address.version == 6:
            fields["flags"] = _IFA_F_NODAD
        await self._do(f"{tun}: adding the address {address}", self._kernel.addr("add", **fields))

    async def remove_address(self, address: IpAddress, tun: str) -> None:
        """Take one of our addresses away."""
        request = self._kernel.addr("del", **self._address(address, tun))
        await self._do(f"{tun}: removing the address {address}", request, is_removal=True)

    async def add_route(self, route: Route) -> None:
        """One route into a table of ours."""
        fields = _route(route)
        if route.device:
            fields["oif"] = self._links[route.device].ifindex
        if route.source is not None:
            fields["prefsrc"] = str(route.source)
        if route.kind != "throw" and route.destination.version == 4:
            fields["scope"] = _SCOPE_HOST if route.kind == "local" else _SCOPE_LINK
        await self._do(f"adding the route {_text(route)}", self._kernel.route("add", **fields))

    async def remove_route(self, route: Route) -> None:
        """One route out of a table of ours, whatever its scope."""
        fields = _route(route)
        if route.destination.version == 4:
            fields["scope"] = _SCOPE_ANY
        request = self._kernel.route("del", **fields)
        await self._do(f"removing the route {_text(route)}", request, is_removal=True)

    async def add_rule(self, rule: Rule) -> None:
        """One rule of ours."""
        request = self._kernel.rule("add", **_rule(rule))
        await self._do(f"adding the rule of priority {rule.priority}", request)

    async def remove_rule(self, rule: Rule) -> None:
        """One rule of ours away."""
        request = self._kernel.rule("del", **_rule(rule))
        await self._do(f"removing the rule of priority {rule.priority}", request, is_removal=True)

    def _address(self, address: IpAddress, tun: str) -> dict[str, int | str]:
        return {
            "index": self._links[tun].ifindex,
            "family": _FAMILIES[address.version],
            "address": str(address),
            "prefixlen": address.max_prefixlen,
        }

    async def _do(self, what: str, request: Awaitable[object], *, is_removal: bool = False) -> None:
        try:
            await request
        except NetlinkError as error:
            if is_removal and error.code in _IS_GONE:
                return
            raise _refused(what, error.code) from error
        self.count += 1


def _is_possible(route: Route, links: dict[str, Link]) -> bool:
    """False where an address was to linger on an interface that is gone or down: nothing comes in there any more."""
    link = links.get(route.device)
    return route.table != LINGER_TABLE or (link is not None and link.is_up)


def _route(route: Route) -> dict[str, int | str]:
    return {
        "family": _FAMILIES[route.destination.version],
        "dst": str(route.destination),
        "table": route.table,
        "type": route.kind,
        "proto": ROUTE_PROTOCOL,
    }


def _rule(rule: Rule) -> dict[str, int | str]:
    fields: dict[str, int | str] = {
        "family": _FAMILIES[rule.family],
        "priority": rule.priority,
        "table": rule.table,
        "protocol": ROUTE_PROTOCOL,
    }
    if rule.finds_source:
        fields["flags"] = _FIB_RULE_FIND_SADDR
    if rule.source is not None:
        fields |= {"src": str(rule.source.network_address), "src_len": rule.source.prefixlen}
    if rule.destination is not None:
        fields |= {"dst": str(rule.destination.network_address), "dst_len": rule.destination.prefixlen}
    if rule.suppressed_prefix_len is not None:
        fields["suppress_prefixlen"] = rule.suppressed_prefix_len
    if rule.is_lisp_data:
        fields |= {"ip_proto": int(socket.IPPROTO_UDP), "dport_range": _LISP_DATA}
    return fields


def _text(route: Route) -> str:
    device = f" dev {route.device}" if route.device else ""
    return f"{route.kind} {route.destination}{device} table {route.table}"


def _by_family(address: IpAddress) -> tuple[int, int]:
    return (address.version, int(address))


def _refused(what: str, code: int) -> KernelRefused:
    name = errno.errorcode.get(code, str(code))
    remedy = _REMEDIES.get(code, os.strerror(code))
    return KernelRefused(f"{what} refused ({name}): {remedy}")

"""The single changes to addresses, routes and rules; each is independent of the others' success."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Final, Literal

from lispmob.errors import KernelRefused
from lispmob.iface_monitor.default_routes import ROUTE_PROTOCOL
from lispmob.iface_monitor.snapshot import Link
from lispmob.mh.kernel import rule_message
from lispmob.mh.kernel.kernel_problems import Refusal
from lispmob.mh.kernel.rule_message import Form
from lispmob.mh.plan import DEVICE_GROUP, GATEWAY_PRIORITY, Route
from lispmob.netlink.iproute import AsyncIPRoute, NetlinkError
from lispmob.wire.address import IpAddress

_FAMILIES: Final = {4: int(socket.AF_INET), 6: int(socket.AF_INET6)}
_IFA_F_NODAD: Final = 0x02
_RTNH_F_ONLINK: Final = 4  # the former gateway: its network may be gone from the interface
_SCOPE_LINK: Final = 253
_SCOPE_HOST: Final = 254
_SCOPE_ANY: Final = 255
_NO_LINK_LOCAL: Final = {"attrs": [("AF_INET6", {"attrs": [("IFLA_INET6_ADDR_GEN_MODE", 1)]})]}  # linux/if_link.h
_IS_GONE: Final = frozenset({errno.ENOENT, errno.ESRCH, errno.EADDRNOTAVAIL, errno.ENODEV})

_REMEDIES: Final = {
    errno.EPERM: "needs CAP_NET_ADMIN",
    errno.EACCES: "needs CAP_NET_ADMIN; is IPv6 disabled by sysctl (net.ipv6.conf.*.disable_ipv6)?",
    errno.EOPNOTSUPP: "the kernel lacks policy routing (CONFIG_IP_MULTIPLE_TABLES) or this family is disabled",
    errno.EAFNOSUPPORT: "the kernel has this address family disabled",
    errno.ENODEV: "the interface is gone: is the datapath running?",
    errno.ENETDOWN: "another program set the interface down",
    errno.EEXIST: "another program has made the same: see `ip rule` and `ip route show table all`",
}


class KernelChanges:
    """The single changes. `refusals`: what the kernel refused; removing a missing item succeeds."""

    def __init__(self, kernel: AsyncIPRoute, rules: socket.socket, links: dict[str, Link]) -> None:
        self._kernel = kernel
        self._rules = rules
        self._links = links
        self.count = 0
        self.refusals: list[Refusal] = []

    async def set_up(self, tun: Link, mtu_bytes: int | None) -> None:
        """Set a TUN up, its MTU and its group, unless already so."""
        if mtu_bytes not in (None, tun.mtu_bytes):
            request = partial(self._kernel.link, "set", index=tun.ifindex, mtu=mtu_bytes)
            await self._do(0, f"{tun.name}: setting the MTU {mtu_bytes}", request, is_vital=False)
        if tun.group != DEVICE_GROUP:
            request = partial(self._kernel.link, "set", index=tun.ifindex, group=DEVICE_GROUP)
            await self._do(0, f"{tun.name}: setting its group {DEVICE_GROUP}", request, is_vital=False)
        if not tun.is_up:
            # A link-local address would send router solicitations into the tunnel. Without IPv6 there is none.
            with contextlib.suppress(NetlinkError):
                await self._kernel.link("set", index=tun.ifindex, af_spec=_NO_LINK_LOCAL)
            await self._do(
                0, f"{tun.name}: setting it up", partial(self._kernel.link, "set", index=tun.ifindex, state="up")
            )

    async def add_address(self, address: IpAddress, tun: str) -> None:
        """A host address, without duplicate detection: a TUN has no other hosts."""
        fields = self._address(address, tun)
        if address.version == 6:
            fields["flags"] = _IFA_F_NODAD
        request = partial(self._kernel.addr, "add", **fields)
        await self._do(address.version, f"{tun}: adding the address {address}", request)

    async def remove_address(self, address: IpAddress, tun: str) -> None:
        """Remove one of our addresses."""
        request = partial(self._kernel.addr, "del", **self._address(address, tun))
        await self._do(address.version, f"{tun}: removing the address {address}", request, is_removal=True)

    async def put_route(self, route: Route) -> None:
        """Put one route into our table; in IPv4 it replaces a route to the same destination atomically."""
        fields: dict[str, Any] = _route(route)
        indexes = [self._links[device].ifindex for device in route.devices]
        if len(indexes) > 1:
            fields["multipath"] = [{"oif": index} for index in indexes]
        elif indexes:
            fields["oif"] = indexes[0]
        if route.source is not None:
            fields["prefsrc"] = str(route.source)
        if route.gateway is not None:
            gateway = str(route.gateway)
            is_other = route.gateway.version != route.destination.version  # IPv4 through an IPv6 router (RFC 8950)
            via = {"via": {"family": _FAMILIES[route.gateway.version], "addr": gateway}}
            fields |= {"flags": _RTNH_F_ONLINK, **(via if is_other else {"gateway": gateway})}
        elif route.kind in ("unicast", "local") and route.destination.version == 4:
            fields["scope"] = _SCOPE_HOST if route.kind == "local" else _SCOPE_LINK
        command: Literal["replace", "add"] = "replace" if route.destination.version == 4 else "add"
        request = partial(self._kernel.route, command, **fields)
        is_vital = route.kind == "unicast" and route.gateway is None and route.metric == 0
        await self._do(route.destination.version, f"adding the route {_text(route)}", request, is_vital=is_vital)

    async def remove_route(self, route: Route) -> None:
        """Remove one route from our table, whatever its scope."""
        fields = _route(route)
        if route.destination.version == 4:
            fields["scope"] = _SCOPE_ANY
        request = partial(self._kernel.route, "del", **fields)
        await self._do(route.destination.version, f"removing the route {_text(route)}", request, is_removal=True)

    def add_rule(self, rule: Form) -> None:
        """Add one of our rules."""
        self._change_rule("adding", rule_message.add, rule)

    def remove_rule(self, rule: Form) -> None:
        """Remove one of our rules."""
        self._change_rule("removing", rule_message.remove, rule)

    def _change_rule(self, what: str, change: Callable[[socket.socket, Form], None], rule: Form) -> None:
        try:
            change(self._rules, rule)
        except OSError as error:
            text = f"{what} the rule of priority {rule_message.priority_of(rule)}"
            is_vital = what == "adding" and rule_message.priority_of(rule) < GATEWAY_PRIORITY
            self._note(rule_message.family_of(rule), text, error.errno or errno.EIO, is_vital=is_vital)
        else:
            self.count += 1

    def _address(self, address: IpAddress, tun: str) -> dict[str, int | str]:
        return {
            "index": self._links[tun].ifindex,
            "family": _FAMILIES[address.version],
            "address": str(address),
            "prefixlen": address.max_prefixlen,
        }

    async def _do(
        self,
        family: int,
        what: str,
        request: Callable[[], Awaitable[object]],
        *,
        is_vital: bool = True,
        is_removal: bool = False,
    ) -> None:
        """Request one change. A refusal is recorded, and the next change is made all the same."""
        try:
            await request()
        except NetlinkError as error:
            if not (is_removal and error.code in _IS_GONE):
                self._note(family, what, error.code, is_vital=is_vital and not is_removal)
        except OSError as error:
            self._note(family, what, error.errno or errno.EIO, is_vital=is_vital and not is_removal)
        else:
            self.count += 1

    def _note(self, family: int, what: str, code: int, *, is_vital: bool) -> None:
        self.refusals.append((family, is_vital, str(refused(what, code))))


def _route(route: Route) -> dict[str, int | str]:
    fields: dict[str, int | str] = {
        "family": _FAMILIES[route.destination.version],
        "dst": str(route.destination),
        "table": route.table,
        "type": route.kind,
        "proto": ROUTE_PROTOCOL,
    }
    if route.metric:
        fields["priority"] = route.metric
    return fields


def _text(route: Route) -> str:
    devices = "".join(f" dev {device}" for device in route.devices)
    return f"{route.kind} {route.destination}{devices} table {route.table}"


def is_ready(tun: Link, mtu_bytes: int | None) -> bool:
    """True when `set_up` has nothing to do."""
    return tun.is_up and tun.group == DEVICE_GROUP and mtu_bytes in (None, tun.mtu_bytes)


def refused(what: str, code: int) -> KernelRefused:
    """The error for display: what was tried, what the kernel said, and what helps."""
    name = errno.errorcode.get(code, str(code))
    remedy = _REMEDIES.get(code, os.strerror(code))
    return KernelRefused(f"{what} refused ({name}): {remedy}")

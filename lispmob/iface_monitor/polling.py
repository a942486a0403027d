"""Watches the network where netlink cannot be bound, as in some containers and on Android: by polling.

The possible sources differ; the best working one is used, and chosen again after every failure:

1. netlink dumps without a bound socket. A sandbox that refuses bind() mostly allows them, and they are complete.
2. addresses by netifaces (getifaddrs), links by ioctl, default routes from /proc/net. Android's getifaddrs works
   without bind(); glibc's does not.
3. without netlink at all, addresses by ioctl and from /proc/net/if_inet6 replace netifaces.

If /proc/net/route is closed as well, a UDP socket is asked for its source address: that gives only the best uplink.

A look costs a millisecond or two. For an idle machine to sleep, the interval is a second in the ten seconds after a
change, five seconds otherwise, and a minute while the kernel reports changes. For such reports, a socket that the
kernel bound itself, at its first message, may join the groups that were refused to bind().
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import socket
from collections.abc import Callable
from ipaddress import IPv4Address, ip_address, ip_network
from typing import Final

try:
    import netifaces
except ModuleNotFoundError:  # not built for every system that polls: way 3
    netifaces = None  # type: ignore[assignment]

from lispmob.iface_monitor import proc_net, rtnetlink
from lispmob.iface_monitor.default_routes import TableLookup, merge
from lispmob.iface_monitor.delta import OnChange
from lispmob.iface_monitor.monitor import Monitor
from lispmob.iface_monitor.netlink import GROUPS
from lispmob.iface_monitor.snapshot import MAIN_TABLE, Link, LocalAddress, NetworkState, UplinkPolicy
from lispmob.iface_monitor.table_lookups import dump_tables
from lispmob.netlink.connection import DumpInterrupted, subscribe_unbound
from lispmob.netlink.message import IFINFOMSG, RTM_GETLINK, request

LIVELY_S: Final = 1.0
CALM_S: Final = 5.0
NUDGED_S: Final = 60.0
CALM_AFTER_S: Final = 10.0
SHORTEST_S: Final = 0.05
"""Between two looks, however many changes the kernel reports."""

_BYTES_PER_TURN: Final = 1 << 20
_MAIN_TABLES: Final = {TableLookup(4, MAIN_TABLE), TableLookup(6, MAIN_TABLE)}

log = logging.getLogger(__name__)


class PollingMonitor(Monitor):
    """NetlinkMonitor's replacement: the same interface and callback, later by up to the interval."""

    def __init__(
        self, policy: UplinkPolicy, on_change: OnChange, on_rules_changed: Callable[[], None] | None = None
    ) -> None:
        super().__init__(policy, on_change, on_rules_changed)
        self._timer: asyncio.TimerHandle | None = None
        self._nudges: socket.socket | None = None
        self._looked_at = float("-inf")
        self._changed_at = float("-inf")
        self.source = ""
        """The way that was used last: "netlink", "netifaces" or "proc"."""
        self.looks = 0

    @property
    def interval_s(self) -> float:
        """How long until the next look, without a nudge."""
        if self._nudges is not None:
            return NUDGED_S
        is_lively = asyncio.get_running_loop().time() - self._changed_at < CALM_AFTER_S
        return LIVELY_S if is_lively else CALM_S

    async def start(self) -> None:
        """Look, report, and begin to watch."""
        self._nudges = _open_nudges()
        if self._nudges is not None:
            asyncio.get_running_loop().add_reader(self._nudges.fileno(), self._on_nudged)
        self._look()
        log.warning(
            "netlink cannot be bound: polling every %g to %g s instead source=%s told-of-changes=%s",
            LIVELY_S, NUDGED_S if self._nudges else CALM_S, self.source, "yes" if self._nudges else "no",
        )  # fmt: skip

    async def stop(self) -> None:
        """Stop watching; calling it again does nothing."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._nudges is not None:
            asyncio.get_running_loop().remove_reader(self._nudges.fileno())
            self._nudges.close()
            self._nudges = None

    def nudge(self) -> None:
        """The network may have changed: look now, or shortly if the last look was just now."""
        loop = asyncio.get_running_loop()
        due = max(loop.time(), self._looked_at + SHORTEST_S)
        if self._timer is None or self._timer.when() > due:
            self._arm(due)

    def _on_nudged(self) -> None:
        assert self._nudges is not None
        taken = 0
        with contextlib.suppress(BlockingIOError, OSError):  # OSError: events were lost, which is a nudge as well
            while taken < _BYTES_PER_TURN:
                taken += len(self._nudges.recv(1 << 16))
        self.nudge()

    def _arm(self, at: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_at(at, self._look)

    def _look(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer = None
        self._looked_at = now = loop.time()
        self.looks += 1
        try:
            self.source, seen = look()
        except OSError as error:  # in the middle of a change; or no source works
            log.debug("no look at the network why=%s", error)
            seen = self._state
        if seen != self._state:
            self._changed_at = now
        self._publish(seen, now)
        if self._on_rules_changed is not None:
            self._on_rules_changed()  # there are no events for rules here: the callback compares
        if self._timer is None:
            self._arm(now + self.interval_s)


def look() -> tuple[str, NetworkState]:
    """The host's attachment, and the way that found it. Raises OSError if none works."""
    with contextlib.suppress(OSError, DumpInterrupted):
        return "netlink", _by_netlink()
    found = proc_net.links(proc_net.interface_names())
    source, addresses = _addresses(found)
    try:
        routes = merge(proc_net.default_routes(found), _MAIN_TABLES)
    except OSError:
        routes = proc_net.probed_routes(addresses)
    return source, NetworkState.of(found, addresses, routes)


def _by_netlink() -> NetworkState:
    tables = dump_tables()
    candidates = rtnetlink.dump_ipv6_default_routes()
    for table in sorted({lookup.table for lookup in tables if lookup.family == 4}):
        candidates += rtnetlink.peek_ipv4_default_routes(table)
    return NetworkState.of(rtnetlink.dump_links(), rtnetlink.dump_addresses(), merge(candidates, tables))


def _addresses(links: list[Link]) -> tuple[str, list[LocalAddress]]:
    """Addresses with their flags as far as they are known."""
    try:
        flagged = {
            (ipv6_address.ifindex, ipv6_address.address): ipv6_address for ipv6_address in proc_net.ipv6_addresses()
        }
    except OSError:
        flagged = {}
    try:
        listed = [local for link in links for local in _by_netifaces(link)]
    except (OSError, ValueError):
        return "proc", [*proc_net.ipv4_addresses(links), *flagged.values()]
    return "netifaces", [
        flagged.get((local_address.ifindex, local_address.address), local_address) for local_address in listed
    ]


def _by_netifaces(link: Link) -> list[LocalAddress]:
    """The addresses of one interface, flags unknown."""
    found = []
    if netifaces is None:
        raise OSError(errno.ENOSYS, "netifaces is not installed")
    by_family = netifaces.ifaddresses(link.name)
    for family in (netifaces.AF_INET, netifaces.AF_INET6):
        for entry in by_family.get(family, []):
            address = ip_address(entry["addr"].partition("%")[0])
            prefix_len = _prefix_len(entry.get("netmask", ""))
            if isinstance(address, IPv4Address):
                found.append(proc_net.ipv4_address(address, prefix_len, link.ifindex))
            else:
                scope = 254 if address.is_loopback else 253 if address.is_link_local else 0
                found.append(LocalAddress(address, prefix_len, link.ifindex, scope))
    return found


def _prefix_len(netmask: str) -> int:
    """netifaces writes 255.255.255.0, and ffff:ffff:ffff:ffff::/64."""
    if "/" in netmask:
        return int(netmask.partition("/")[2])
    try:
        return ip_network(f"0.0.0.0/{netmask}").prefixlen if netmask else 32
    except ValueError:
        return 128


def _open_nudges() -> socket.socket | None:
    """A socket that becomes readable when something changes; None if that is not possible."""
    try:
        return subscribe_unbound(GROUPS, request(RTM_GETLINK, 0, IFINFOMSG.pack(0, 0, 1, 0, 0)))
    except OSError:
        return None

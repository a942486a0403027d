"""Watches links, addresses and default routes over netlink. No timer runs while nothing changes.

A move begins here:

1. `_on_readable` reads all pending events. An event about links or addresses only says that these have to be read
   again; IPv6 default routes are kept by their events. Interfaces without a default route, such as those of
   containers, may come and go all day: events about them alone are looked at once in CHURN_S.
2. `_look` reads what has changed, and makes a `NetworkState` (`snapshot.py`) of links, addresses and routes. If more
   events have come meanwhile, both are repeated: a network that is changed step by step is one move, not several.
3. `_publish_seen` compares it with the last state (`delta.py`), and publishes one difference with its reasons. The
   daemon turns it into the steps of a handover (`lispd/handover.py`).

Lost events (ENOBUFS) and errors lead to `_resync`, which reads everything again.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
import struct
from collections.abc import Callable
from typing import Final

from msgspec.structs import replace

from lispmob.errors import KernelRefused
from lispmob.iface_monitor import neighbours, rtnetlink
from lispmob.iface_monitor.default_routes import ROUTE_PROTOCOL, Candidate, Ipv6DefaultRoutes, TableLookup, merge
from lispmob.iface_monitor.delta import OnChange
from lispmob.iface_monitor.gateway_trials import Gateway, GatewayTrials, gateways_of
from lispmob.iface_monitor.kernel_choice import choices
from lispmob.iface_monitor.monitor import Monitor
from lispmob.iface_monitor.route_message import REFUSALS, candidates
from lispmob.iface_monitor.router_options import Translators, pref64_in
from lispmob.iface_monitor.snapshot import Link, LocalAddress, NetworkState, Uplink, UplinkPolicy
from lispmob.iface_monitor.table_lookups import dump_tables
from lispmob.netlink.connection import events, subscribe
from lispmob.netlink.message import (
    NETLINK_ROUTE,
    REPLACE,
    RTM_DELADDR,
    RTM_DELLINK,
    RTM_DELNEXTHOP,
    RTM_DELROUTE,
    RTM_DELRULE,
    RTM_NEWADDR,
    RTM_NEWLINK,
    RTM_NEWNDUSEROPT,
    RTM_NEWNEXTHOP,
    RTM_NEWROUTE,
    RTM_NEWRULE,
    Raw,
)

log = logging.getLogger(__name__)

# linux/rtnetlink.h: LINK, IPV4_IFADDR, IPV4_ROUTE, IPV4_RULE, IPV6_IFADDR, IPV6_ROUTE, IPV6_RULE, ND_USEROPT; not
# NEIGH, which is never quiet.
GROUPS: Final = (1, 5, 7, 8, 9, 11, 19, 20)
_NEXTHOP: Final = 32  # unknown before Linux 5.3, which does not mind in bind()
_RECEIVE_BUFFER_BYTES: Final = 1 << 20
_EVENTS_PER_TURN: Final = 4096  # ours: more than a full buffer of what passes the filter
_MORE_LOOKS: Final = 3  # ours: a network that changes without a pause must not keep a move back
_AT_DST_LEN: Final = 17  # octets of a route message: nlmsghdr, then struct rtmsg
_AT_PROTOCOL: Final = 21
_AT_KIND: Final = 23
_AT_IFINDEX: Final = 20  # octets of a message about a link or an address
CHURN_S: Final = 0.2  # ours: a look costs some milliseconds, and containers may start by the dozen
_RETRY_S: Final = 0.2  # ours: only after the kernel refused a listing, which is not expected


class NetlinkMonitor(Monitor):
    """A Monitor with events from the kernel."""

    def __init__(
        self, policy: UplinkPolicy, on_change: OnChange, on_rules_changed: Callable[[], None] | None = None
    ) -> None:
        super().__init__(policy, on_change, on_rules_changed)
        self._has_new_rules = False
        self._has_lost_routes = False
        self._has_new_nexthops = False
        self._seen = self._state
        self._links: list[Link] | None = None  # None: must be listed again
        self._addresses: list[LocalAddress] | None = None
        self._trials = GatewayTrials()
        self._trial: asyncio.TimerHandle | None = None
        self._ipv6_routes = Ipv6DefaultRoutes()
        self._translators = Translators()
        self._tables: set[TableLookup] = set()
        self._socket: socket.socket | None = None
        self._retry: asyncio.TimerHandle | None = None
        self._later: asyncio.TimerHandle | None = None
        self._looked_at = float("-inf")
        self.resyncs = 0

    async def start(self) -> None:
        """Subscribe, then look. Raises KernelRefused if netlink is not allowed."""
        try:
            self._open()
            self._look_at_everything()
        except OSError as error:
            await self.stop()
            raise KernelRefused(
                f"netlink: watching links, addresses and routes refused ({_name(error)}): needs AF_NETLINK sockets, "
                "which a sandbox may forbid (RestrictAddressFamilies= in systemd)"
            ) from error
        self._publish_seen(asyncio.get_running_loop().time())

    async def stop(self) -> None:
        """Stop watching; calling it again does nothing."""
        self._close()
        self._disarm()
        for timer in (self._retry, self._later):
            if timer is not None:
                timer.cancel()
        self._retry = self._later = None

    @property
    def waiting(self) -> frozenset[str]:
        """Interfaces that would be uplinks if their gateways answered."""
        return self._trials.waiting

    def nudge(self) -> None:
        """Read everything again, as after a suspend; publishes only differences."""
        self._resync(asyncio.get_running_loop().time())

    def _open(self) -> None:
        self._socket = subscribe(
            NETLINK_ROUTE, (*GROUPS, _NEXTHOP), receive_octets=_RECEIVE_BUFFER_BYTES, program=_FILTER
        )
        asyncio.get_running_loop().add_reader(self._socket.fileno(), self._on_readable)

    def _close(self) -> None:
        if self._socket is not None:
            asyncio.get_running_loop().remove_reader(self._socket.fileno())
            self._socket.close()
            self._socket = None

    def _on_readable(self) -> None:
        loop = asyncio.get_running_loop()
        since = loop.time()
        try:
            is_urgent = self._read_events()
        except OSError as error:
            self._start_over(error, since)
            return
        if is_urgent or since - self._looked_at >= CHURN_S:
            self._look_after_events(since)
        elif self._later is None:
            self._later = loop.call_at(self._looked_at + CHURN_S, self._look_after_events, since)

    def _look_after_events(self, since: float) -> None:
        try:
            self._look_at_changes()
            for _ in range(_MORE_LOOKS):
                if not self._read_events():
                    break
                self._look_at_changes()
        except OSError as error:
            self._start_over(error, since)
            return
        if self._later is None and (self._links is None or self._addresses is None):
            loop = asyncio.get_running_loop()
            self._later = loop.call_at(loop.time() + CHURN_S, self._look_after_events, since)
        self._publish_seen(since)

    def _look_at_changes(self) -> None:
        if self._has_new_rules:
            self._tables = dump_tables()
        if self._has_new_nexthops and self._ipv6_routes.has_nexthops:
            self._ipv6_routes.reset(rtnetlink.dump_ipv6_default_routes())
        self._has_new_nexthops = False
        self._look()

    def _start_over(self, error: OSError, since: float) -> None:
        if error.errno != errno.ENOBUFS:
            log.warning("netlink failed, starting over why=%s", _name(error))
        self._resync(since)

    def _read_events(self) -> bool:
        """Read the available events; True when some may be about an uplink, or about what is ours.

        Raises OSError: ENOBUFS when the kernel had to drop events.
        """
        assert self._socket is not None
        is_urgent = False
        for _ in range(_EVENTS_PER_TURN):
            if (told := events(self._socket)) is None:
                break
            for message in told:
                self._on_event(message)
                is_urgent |= self._is_urgent(message)
        return is_urgent

    def _is_urgent(self, message: Raw) -> bool:
        """False for links and addresses of others' interfaces that have no default route, nor had one before."""
        if message.type not in (RTM_NEWLINK, RTM_DELLINK, RTM_NEWADDR, RTM_DELADDR):
            return True
        (ifindex,) = struct.unpack_from("=i", message.data, _AT_IFINDEX)
        link = self._seen.link(ifindex)
        if link is not None and not link.is_loopback and not self._policy.is_watched(link):
            # Ours. With an address the kernel removes IPv4 routes that prefer it as source, and says nothing of them.
            self._has_lost_routes = True
            return True
        return any(
            route.ifindex == ifindex
            for state in (self._seen, self._state)
            for route in (*state.default_routes, *state.refused_routes)
        )

    def _on_event(self, message: Raw) -> None:
        if message.type == RTM_DELROUTE and message.data[_AT_PROTOCOL] == ROUTE_PROTOCOL:
            self._has_lost_routes = True
            return
        if message.type in (RTM_NEWROUTE, RTM_DELROUTE) and message.data[_AT_KIND] in REFUSALS:
            self._has_lost_routes = True  # our rules make way for it
        if message.type in (RTM_NEWADDR, RTM_DELADDR):
            self._addresses = None
        elif message.type in (RTM_NEWLINK, RTM_DELLINK):
            self._links = self._addresses = None
            ifindex, flags = struct.unpack_from("=iI", message.data, _AT_IFINDEX)
            if message.family == socket.AF_UNSPEC and (message.type == RTM_DELLINK or not flags & rtnetlink.IFF_UP):
                self._ipv6_routes.on_link_down(ifindex)
                self._translators.on_link_down(ifindex)
        elif message.type in (RTM_NEWRULE, RTM_DELRULE):
            self._has_new_rules = True
        elif message.type in (RTM_NEWNEXTHOP, RTM_DELNEXTHOP):
            self._has_new_nexthops = True
        elif message.type == RTM_NEWNDUSEROPT:
            if (said := pref64_in(message)) is not None:
                self._translators.on_said(*said, asyncio.get_running_loop().time())
        elif message.family == socket.AF_INET6 and message.type == RTM_NEWROUTE:
            is_replacing = bool(message.flags & REPLACE)
            self._ipv6_routes.on_added(candidates(message), is_replacing)
        elif message.family == socket.AF_INET6 and message.type == RTM_DELROUTE:
            self._ipv6_routes.on_removed(candidates(message))

    def _resync(self, since: float) -> None:
        """Events were lost: subscribe again, list everything, and publish the differences."""
        self.resyncs += 1
        self._retry = None
        self._has_new_rules = True
        self._close()
        try:
            self._open()
            self._look_at_everything()
        except OSError as error:
            log.warning("netlink listing refused, trying again why=%s", _name(error))
            self._close()
            loop = asyncio.get_running_loop()
            self._retry = loop.call_later(_RETRY_S, self._resync, since)
            return
        self._publish_seen(since)

    def _look_at_everything(self) -> None:
        self._tables = dump_tables()
        self._ipv6_routes.reset(rtnetlink.dump_ipv6_default_routes())
        self._links = self._addresses = None
        self._look()

    def _look(self) -> None:
        """List what an event was about, and what changes without one. In a move each listing delays the registers."""
        self._looked_at = asyncio.get_running_loop().time()
        if self._later is not None:
            self._later.cancel()
            self._later = None
        if self._links is None:
            self._links = rtnetlink.dump_links()
        if self._addresses is None:
            self._addresses = rtnetlink.dump_addresses()
        routes = merge([*self._ipv6_routes, *self._ipv4_routes()], self._tables)
        seen = NetworkState.of(self._links, self._addresses, routes)
        translators = self._translators.at(asyncio.get_running_loop().time())
        self._seen = replace(seen, choices=choices(seen, self._policy), translators=translators)

    def _ipv4_routes(self) -> list[Candidate]:
        tables = sorted({lookup.table for lookup in self._tables if lookup.family == 4})
        return [route for table in tables for route in rtnetlink.peek_ipv4_default_routes(table)]

    def _publish_seen(self, since: float) -> None:
        self._publish(self._seen, since)
        if self._has_new_rules or self._has_lost_routes:
            self._has_new_rules = self._has_lost_routes = False
            if self._on_rules_changed is not None:
                self._on_rules_changed()

    def _judge(self) -> tuple[tuple[str, ...], tuple[Uplink, ...]]:
        """Make new uplinks wait for their gateways, until a gateway has answered."""
        loop, uplinks = asyncio.get_running_loop(), self._state.uplinks(self._policy)
        unproven = self._trials.on_uplinks(gateways_of(self._state, uplinks))
        news = self._trials.on_known([gateway for gateway in unproven if _answers(gateway)], loop.time())
        self._judged_by = self._policy
        if waiting := self._trials.waiting:
            self._judged_by = replace(self._policy, held_back=self._policy.held_back | waiting)
            uplinks = self._state.uplinks(self._judged_by)
        self._disarm()
        if (at := self._trials.wake_at()) is not None:
            self._trial = loop.call_at(at, self._on_trial)
        return news, uplinks

    def _on_trial(self) -> None:
        self._trial = None
        self._tell(self._state, asyncio.get_running_loop().time())

    def _disarm(self) -> None:
        if self._trial is not None:
            self._trial.cancel()
            self._trial = None


def _answers(gateway: Gateway) -> bool:
    try:
        return neighbours.is_known(gateway)
    except OSError as error:
        log.debug("neighbour not asked gateway=%s why=%s", gateway.address, _name(error))
        return True  # without neighbour tables no uplink waits


def _name(error: OSError) -> str:
    return errno.errorcode.get(error.errno or 0, str(error))


def _only_default_routes() -> bytes:
    """A classic BPF filter: route messages pass only if their prefix is at most one bit long, or if a route of ours was
    lost.

    Others' 60,000 routes then never reach the socket, whose buffer they would overflow. The filter would drop answers
    to route requests too, so a socket with it sends no requests.
    """
    ldh, ldb, jeq, jgt, ret = 0x28, 0x30, 0x15, 0x25, 0x06  # BPF_LD|H|ABS, ..B|ABS, BPF_JMP|JEQ|K, ..JGT|K, BPF_RET|K

    def as_loaded(kind: int) -> int:
        """nlmsg_type is in host order, and BPF loads in network order."""
        return int.from_bytes(struct.pack("=H", kind), "big")

    program = (
        (ldh, 0, 0, 4),  # nlmsg_type
        (jeq, 3, 0, as_loaded(RTM_NEWROUTE)),
        (jeq, 0, 4, as_loaded(RTM_DELROUTE)),
        (ldb, 0, 0, _AT_PROTOCOL),
        (jeq, 2, 0, ROUTE_PROTOCOL),
        (ldb, 0, 0, _AT_DST_LEN),
        (jgt, 1, 0, 1),
        (ret, 0, 0, 0xFFFFFFFF),
        (ret, 0, 0, 0),
    )
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in program)


_FILTER: Final = _only_default_routes()

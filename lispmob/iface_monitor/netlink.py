"""Watch links, addresses and default routes over netlink: every event is a nudge to look anew, and no timer runs.

One turn of the loop reads all events that are there, takes one snapshot, and publishes one difference.
"""

from __future__ import annotations

import asyncio
import ctypes
import errno
import logging
import socket
import struct
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

from lispmob.errors import KernelRefused
from lispmob.iface_monitor import neighbours, rtnetlink
from lispmob.iface_monitor.default_routes import Candidate, Ipv6DefaultRoutes, merge
from lispmob.iface_monitor.delta import OnChange, diff
from lispmob.iface_monitor.gateway_trials import Gateway, GatewayTrials, gateways_of
from lispmob.iface_monitor.rtnetlink import (
    RTM_DELADDR,
    RTM_DELLINK,
    RTM_DELROUTE,
    RTM_NEWADDR,
    RTM_NEWLINK,
    RTM_NEWROUTE,
)
from lispmob.iface_monitor.snapshot import Link, LocalAddress, NetworkState, UplinkPolicy

log = logging.getLogger(__name__)

# linux/rtnetlink.h: LINK, IPV4_IFADDR, IPV4_ROUTE, IPV4_RULE, IPV6_IFADDR, IPV6_ROUTE, IPV6_RULE; not NEIGH, which
# never rests.
_GROUPS: Final = sum(1 << (group - 1) for group in (1, 5, 7, 8, 9, 11, 19))
_RTM_NEWRULE: Final = 32
_RTM_DELRULE: Final = 33
_SO_ATTACH_FILTER: Final = 26
_SO_RCVBUFFORCE: Final = 33
_RECEIVE_BUFFER_BYTES: Final = 1 << 20
_EVENTS_PER_TURN: Final = 4096  # ours: more than a full buffer of what passes the filter
_RETRY_S: Final = 0.2  # ours: only after the kernel refused a listing, which is not expected to happen at all


class NetlinkMonitor:
    """Keeps a `NetworkState` current and tells `on_change(state, delta, since)` of every difference.

    `since` is the loop's time at which the first event behind the difference was read. The callback runs inside the
    loop, first from within `start()` with everything that is already there. `on_rules_changed()` tells that somebody,
    perhaps we ourselves, changed routing rules: the moment to look whether ours are still there.
    """

    def __init__(
        self, policy: UplinkPolicy, on_change: OnChange, on_rules_changed: Callable[[], None] | None = None
    ) -> None:
        self._policy = policy
        self._on_change = on_change
        self._on_rules_changed = on_rules_changed
        self._has_new_rules = False
        self._judged_by = policy  # the policy, and less the uplinks that wait for their gateways
        self._state = self._seen = NetworkState()
        self._links: list[Link] | None = None  # None: to be listed anew
        self._addresses: list[LocalAddress] | None = None
        self._trials = GatewayTrials()
        self._trial: asyncio.TimerHandle | None = None
        self._ipv6_routes = Ipv6DefaultRoutes()
        self._tables: set[tuple[int, int]] = set()
        self._socket: socket.socket | None = None
        self._retry: asyncio.TimerHandle | None = None
        self.resyncs = 0

    @property
    def state(self) -> NetworkState:
        """The last snapshot."""
        return self._state

    async def start(self) -> None:
        """Subscribe, then look. Raises KernelRefused where netlink is not allowed."""
        try:
            self._open()
            self._look_at_everything()
        except OSError as error:
            await self.stop()
            raise KernelRefused(
                f"netlink: watching links, addresses and routes refused ({_name(error)}): needs AF_NETLINK sockets, "
                "which a sandbox may forbid (RestrictAddressFamilies= in systemd)"
            ) from error
        self._publish(asyncio.get_running_loop().time())

    async def stop(self) -> None:
        """Stop watching; calling it again does nothing."""
        self._close()
        self._disarm()
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None

    @property
    def waiting(self) -> frozenset[str]:
        """Interfaces that would be uplinks if their gateways answered."""
        return self._trials.waiting

    @property
    def policy(self) -> UplinkPolicy:
        """What the uplinks are judged by."""
        return self._policy

    def set_policy(self, policy: UplinkPolicy, why: Sequence[str] = (), since: float | None = None) -> None:
        """Judge the present state by another policy, and tell what that changes.

        `why` and `since` (the loop's time) tell of the event behind it when no user changed the configuration.
        """
        former, self._policy = self._policy, policy
        if former != policy:
            self._tell(self._state, asyncio.get_running_loop().time() if since is None else since, why)

    def nudge(self) -> None:
        """Look at everything anew, as after a sleep of the machine; publishes only what differs."""
        self._resync(asyncio.get_running_loop().time())

    def _open(self) -> None:
        flags = socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
        sock = socket.socket(socket.AF_NETLINK, flags, socket.NETLINK_ROUTE)
        self._socket = sock
        try:
            sock.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _RECEIVE_BUFFER_BYTES)
        except PermissionError:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER_BYTES)
        program = ctypes.create_string_buffer(_FILTER)
        count = len(_FILTER) // 8
        sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("@HP", count, ctypes.addressof(program)))
        sock.bind((0, _GROUPS))
        asyncio.get_running_loop().add_reader(sock.fileno(), self._on_readable)

    def _close(self) -> None:
        if self._socket is not None:
            asyncio.get_running_loop().remove_reader(self._socket.fileno())
            self._socket.close()
            self._socket = None

    def _on_readable(self) -> None:
        since = asyncio.get_running_loop().time()
        try:
            self._read_events()
            if self._has_new_rules:
                self._tables = rtnetlink.dump_tables()
            self._look()
        except OSError as error:
            if error.errno != errno.ENOBUFS:
                log.warning("netlink failed, starting over why=%s", _name(error))
            self._resync(since)
            return
        self._publish(since)

    def _read_events(self) -> None:
        """Take what is readable now. Raises OSError: ENOBUFS when the kernel had to drop events."""
        assert self._socket is not None
        for _ in range(_EVENTS_PER_TURN):
            try:
                data, sender = self._socket.recvfrom(1 << 16)
            except BlockingIOError:
                return
            if sender[0]:  # netlink carries datagrams of processes too; the kernel's port is 0
                continue
            for message in rtnetlink.messages(data):
                self._on_event(message)

    def _on_event(self, message: rtnetlink.Raw) -> None:
        if message.type in (RTM_NEWADDR, RTM_DELADDR):
            self._addresses = None
        elif message.type in (RTM_NEWLINK, RTM_DELLINK):
            self._links = self._addresses = None
            ifindex, flags = struct.unpack_from("=iI", message.data, 20)
            if message.family == socket.AF_UNSPEC and (message.type == RTM_DELLINK or not flags & rtnetlink.IFF_UP):
                self._ipv6_routes.on_link_down(ifindex)
        elif message.type in (_RTM_NEWRULE, _RTM_DELRULE):
            self._has_new_rules = True
        elif message.family == socket.AF_INET6 and message.type == RTM_NEWROUTE:
            is_replacing = bool(message.flags & rtnetlink.NLM_F_REPLACE)
            self._ipv6_routes.on_added(rtnetlink.candidates(message), is_replacing)
        elif message.family == socket.AF_INET6 and message.type == RTM_DELROUTE:
            self._ipv6_routes.on_removed(rtnetlink.candidates(message))

    def _resync(self, since: float) -> None:
        """Events were lost: subscribe anew, list everything, and publish what differs from what was known."""
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
        self._publish(since)

    def _look_at_everything(self) -> None:
        self._tables = rtnetlink.dump_tables()
        self._ipv6_routes.reset(rtnetlink.dump_ipv6_default_routes())
        self._links = self._addresses = None
        self._look()

    def _look(self) -> None:
        """List what an event told of, and what may change without one. In a move each listing delays the registers."""
        if self._links is None:
            self._links = rtnetlink.dump_links()
        if self._addresses is None:
            self._addresses = rtnetlink.dump_addresses()
        routes = merge([*self._ipv6_routes, *self._ipv4_routes()], self._tables)
        self._seen = NetworkState.of(self._links, self._addresses, routes)

    def _ipv4_routes(self) -> list[Candidate]:
        tables = sorted(table for family, table in self._tables if family == 4)
        return [route for table in tables for route in rtnetlink.peek_ipv4_default_routes(table)]

    def _publish(self, since: float) -> None:
        old, self._state = self._state, self._seen
        if old != self._state:
            self._tell(old, since)
        if self._has_new_rules:
            self._has_new_rules = False
            if self._on_rules_changed is not None:
                self._on_rules_changed()

    def _tell(self, old: NetworkState, since: float, why: Sequence[str] = ()) -> None:
        """Publish what is new since `old` and since the uplinks were last judged."""
        former, news = self._judged_by, self._try_gateways()
        delta = diff(old, self._state, self._judged_by, former, (*why, *news))
        if delta.reasons or delta.has_changed:
            self._on_change(self._state, delta, since)

    def _try_gateways(self) -> tuple[str, ...]:
        """Let new uplinks wait for their gateways, and those whose gateway has answered no longer."""
        loop = asyncio.get_running_loop()
        unproven = self._trials.on_uplinks(gateways_of(self._state, self._state.uplinks(self._policy)))
        news = self._trials.on_known([one for one in unproven if _answers(one)], loop.time())
        self._judged_by = replace(self._policy, held_back=self._policy.held_back | self._trials.waiting)
        self._disarm()
        if (at := self._trials.wake_at()) is not None:
            self._trial = loop.call_at(at, self._on_trial)
        return news

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
        return True  # who cannot ask does not wait


def _name(error: OSError) -> str:
    return errno.errorcode.get(error.errno or 0, str(error))


def _only_default_routes() -> bytes:
    """A classic BPF program: route messages pass only when their prefix is at most one bit long.

    Someone else's 60,000 routes then never reach the socket, whose buffer they would overflow. It would drop the
    answers to route requests as well: nothing is ever asked on a socket that has it.
    """
    ldh, ldb, jeq, jgt, ret = (
        0x28,
        0x30,
        0x15,
        0x25,
        0x06,
    )  # BPF_LD|H|ABS, BPF_LD|B|ABS, BPF_JMP|JEQ|K, ..JGT|K, BPF_RET|K

    def as_loaded(kind: int) -> int:
        """nlmsg_type is in host order, and BPF loads in network order."""
        return int.from_bytes(struct.pack("=H", kind), "big")

    program = (
        (ldh, 0, 0, 4),  # nlmsg_type
        (jeq, 1, 0, as_loaded(RTM_NEWROUTE)),
        (jeq, 0, 2, as_loaded(RTM_DELROUTE)),
        (ldb, 0, 0, 17),  # rtm_dst_len
        (jgt, 1, 0, 1),
        (ret, 0, 0, 0xFFFFFFFF),
        (ret, 0, 0, 0),
    )
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in program)


_FILTER: Final = _only_default_routes()

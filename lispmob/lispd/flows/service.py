"""lispd's part in flows: control ports, sockets, timers and programs around the pure endpoint.

An outgoing call: a program calls `allocate`; the name is resolved; each EID gets a socket and a call of the endpoint;
the first that opens goes to the program with its socket, and the others are cancelled. An incoming call: the endpoint
requests a socket, offers it, and after the caller's confirmation the program that holds the name gets it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
from collections.abc import Callable, Iterable, Mapping
from ipaddress import ip_address
from random import SystemRandom
from secrets import token_bytes
from typing import Final

import msgspec

from lispmob.config.flows import FlowsSection
from lispmob.control_port.icmp_errors import Unreachable
from lispmob.flow import sockets
from lispmob.flow.adoption import Adoption, NotAdoptable
from lispmob.flow.auth import IpAddress, Way
from lispmob.flow.caller import Ask, describe
from lispmob.flow.control_port import ControlPort
from lispmob.flow.effect import (
    AllocationFailed,
    AskProgram,
    ConnectFlowSocket,
    Failure,
    FlowEffect,
    FlowEnded,
    FlowId,
    FlowOpened,
    ForgetFlow,
    MakeFlowSocket,
    Outlet,
    SendFlowMessage,
)
from lispmob.flow.endpoint import FlowEndpoint
from lispmob.flow.holder import HeldName, Legacy
from lispmob.flow.message import Reason
from lispmob.flow.name import fold
from lispmob.flow.program import Program
from lispmob.flow.quality import Quality
from lispmob.flow.race import Race
from lispmob.flow.resolve import FindName, Resolved, Resolver
from lispmob.flow.steered import SteeredFlow
from lispmob.lispd.flows.names import key_of_name
from lispmob.protocol.rate_limit import TokenBucket
from lispmob.wire.address import EidPrefix, IpNetwork

LINE_S: Final = 1.0  # ours: how often others may cause a log line
LINES_AT_ONCE: Final = 30

log = logging.getLogger(__name__)


class Allocated(msgspec.Struct, frozen=True):
    """An open flow, and its socket, which the receiver of this value owns."""

    opened: FlowOpened
    socket: socket.socket


class _Allocation(msgspec.Struct):
    """One `allocate`, with its calls."""

    ask: Ask
    port: int
    via: tuple[str, ...]
    race: Race
    program: Program
    done: asyncio.Future[Allocated]
    calls: dict[FlowId, IpAddress]


class _Open(msgspec.Struct):
    """A flow of a program, and a copy of the socket for setting its mark."""

    program: Program
    own: socket.socket
    name: bytes
    peer: IpAddress
    is_ours: bool  # outgoing call
    via: tuple[str, ...]
    quality: Quality
    mark: int = 0


class FlowService:
    """Flows of this host: `allocate`, `hold` and `close` at any time; `close_flows` and `stop`.

    `mark_of` returns the mark that leads a flow to its uplink now, 0 for none. `is_absent`: no host has this EID.
    `is_overlay_interface` says by ifindex whether a datagram came through the overlay, or from this host.
    """

    def __init__(
        self,
        flows: FlowsSection,
        *,
        host: str,
        overlay_prefixes: Iterable[IpNetwork],
        is_overlay_interface: Callable[[int], bool],
        mark_of: Callable[[SteeredFlow], int] = lambda _flow: 0,
        rtt_of: Callable[[IpAddress], float | None] = lambda _eid: None,
        find_name: FindName | None = None,
        is_absent: Callable[[IpAddress], bool] = lambda _eid: False,
    ) -> None:
        self.flows = flows
        self._overlay = tuple(overlay_prefixes)
        self._mark_of, self._rtt_of, self._is_absent = mark_of, rtt_of, is_absent
        self._eids: tuple[IpAddress, ...] = ()
        self.endpoint = FlowEndpoint(
            host=flows.host or host,
            domain=flows.domain,
            new_nonce=lambda: token_bytes(8),
            jitter=SystemRandom().random,
            secret=token_bytes(32),
            legacy=Legacy(flows.legacy),
            is_quiet=flows.quiet,
            port=flows.port,
            key_for=flows.key_for,
        )
        self._loop = asyncio.get_running_loop()
        self._port = ControlPort(flows.port, self._on_control, self._count_foreign, is_overlay_interface)
        self.resolver = Resolver(
            is_eid=self.is_overlay, is_held=lambda name: self.endpoint.holder.find(name) is not None,
            own=lambda: self._eids, domain=flows.domain, find_name=find_name,
        )  # fmt: skip
        self._timer: asyncio.TimerHandle | None = None
        self._sockets: dict[FlowId, socket.socket] = {}
        self._allocations: dict[FlowId, _Allocation] = {}
        self._races: dict[int, _Allocation] = {}
        self._holders: dict[bytes, Program] = {}
        self._open: dict[FlowId, _Open] = {}
        self._is_leaving = False
        self._lines = TokenBucket(LINE_S, LINES_AT_ONCE)

    # --- life

    def set_eids(self, eids: Iterable[EidPrefix]) -> None:
        """Our EIDs; only whole addresses of this host's own network can have a port."""
        self._eids = tuple(
            eid.address for eid in eids if eid.mask_len == eid.network.max_prefixlen and not eid.instance_id
        )
        for eid, why in self._port.set_eids(self._eids).items():
            log.warning("no flows on %s: UDP port %d: %s", eid, self.flows.port, why)

    def on_uplinks(self) -> None:
        """The uplinks, the rules or the measurements have changed: marks may have to change."""
        for flow in self._open.values():
            self._steer(flow)

    def _steer(self, flow: _Open) -> None:
        """Mark the socket for the flow's present uplink."""
        with contextlib.suppress(OSError):
            own, peer_port = flow.own.getsockname(), flow.own.getpeername()[1]
            wanted = self._mark_of(
                SteeredFlow(
                    flow.name.decode(), ip_address(own[0]), own[1], flow.peer, peer_port, flow.quality, flow.via,
                    flow.program.owner, flow.mark,
                )
            )  # fmt: skip
            sockets.set_quality(flow.own, flow.quality, wanted, flow.mark)
            flow.mark = wanted

    def close_flows(self) -> None:
        """lispd stops. Inform peers and programs that their flows have ended, unless it will be back soon."""
        if self.flows.when_stopped == "keep":
            self._is_leaving = True
            return
        for flow, found in self._open.items():
            found.program.on_ended(flow, Reason.SHUTTING_DOWN)
        self._perform(self.endpoint.close_all(self._loop.time()))

    def stop(self) -> None:
        """Close everything, after `close_flows`."""
        if self._timer is not None:
            self._timer.cancel()
        self._port.close()
        for flow in {*self._sockets, *self._open}:
            self._close_socket(flow)

    def is_overlay(self, address: IpAddress) -> bool:
        """True for an EID: one of ours, or one in the overlay prefixes."""
        if address in self._eids:
            return True
        return any(address.version == prefix.version and address in prefix for prefix in self._overlay)

    # --- requests of programs

    def hold(self, held: HeldName, program: Program) -> None:
        """`program` gets the calls of a name from now on. Raises NameTaken."""
        self.endpoint.holder.hold(held)
        self._holders[fold(held.name)] = program

    def release(self, name: str, reason: Reason = Reason.PROGRAM_ENDED) -> None:
        """Release a name."""
        self._holders.pop(fold(name), None)
        self._perform(self.endpoint.holder.release(name, reason))

    def answer(self, flow: FlowId, refusal: Reason | None = None) -> None:
        """A program accepts a call that it was asked about, or refuses it."""
        self._perform(self.endpoint.holder.on_answer(flow, self._loop.time(), refusal))

    async def allocate(self, ask: Ask, resolved: Resolved, program: Program, via: tuple[str, ...] = ()) -> Allocated:
        """A flow to one of the EIDs of a name. Raises AllocationRefused; cancelling ends the calls."""
        eids = [eid for eid in resolved.eids if any(own.version == eid.version for own in self._eids)]
        if not eids:
            raise AllocationRefused(Failure.NO_SUCH_NAME, 0, "this host has no EID of the family of the peer's")
        done: asyncio.Future[Allocated] = self._loop.create_future()
        allocation = _Allocation(ask, resolved.port, via, Race(eids), program, done, {})
        self._races[id(allocation)] = allocation
        try:
            self._call(allocation, allocation.race.start(self._loop.time()))
            return await done
        finally:
            del self._races[id(allocation)]
            for flow in list(allocation.calls):
                self._take_back(allocation, flow)

    def adopt(self, shown: Adoption, one: socket.socket, program: Program, via: tuple[str, ...] = ()) -> FlowOpened:
        """Take over a flow of an earlier lispd; the caller keeps `one`. Raises NotAdoptable."""
        if shown.own not in self._eids or not self.is_overlay(shown.peer):
            raise NotAdoptable(f"{shown.own} and {shown.peer} are not an EID of this host and one of the overlay")
        key = self.flows.key_for(shown.peer) if shown.is_ours else key_of_name(shown.name, self.flows)
        flow, effects = self.endpoint.adopt(shown, key, self._loop.time())
        opened = shown.opened(flow)
        own = socket.socket(fileno=os.dup(one.fileno()))  # socket.dup would change whether the program's socket blocks
        mark = sockets.mark_of(own)
        found = self._open[flow] = _Open(program, own, opened.name, shown.peer, shown.is_ours, via, shown.quality, mark)
        self._steer(found)
        self._say("flow %s with %s goes on", _shown(opened.name), shown.peer)
        self._perform(effects)
        return opened

    def close(self, flow: FlowId, reason: Reason = Reason.DONE) -> None:
        """The program has ended a flow. Idempotent."""
        if self._is_leaving:
            return
        self._perform(self.endpoint.close(flow, self._loop.time(), reason))
        self._drop_open(flow)

    def open_flows(self) -> Mapping[FlowId, _Open]:
        """The flows that programs have."""
        return self._open

    # --- inputs

    def _on_control(self, octets: bytes, way: Way) -> None:
        if way.source.is_multicast or not way.source_port or not self.is_overlay(way.source):
            self._count_foreign()
            return
        self._perform(self.endpoint.on_control(octets, way, self._loop.time()))

    def _say(self, text: str, *values: object) -> None:
        """A log line; others can cause it, so beyond a rate it is at debug level."""
        log.log(logging.INFO if self._lines.take(self._loop.time()) else logging.DEBUG, text, *values)

    def _count_foreign(self) -> None:
        self.endpoint.counters["flow_interface"] += 1

    def _on_call_socket(self, flow: FlowId) -> None:
        """A datagram came to the socket of a call that is not open yet."""
        one = self._sockets[flow]
        own, own_port = one.getsockname()[:2]
        for _ in range(64):
            try:
                octets, place = one.recvfrom(2048)
            except OSError as error:
                count, errors = sockets.read_errors(one)
                self._on_errors(flow, errors)
                if flow not in self._sockets or (not count and isinstance(error, BlockingIOError)):
                    return
                continue
            way = Way(ip_address(str(place[0]).partition("%")[0]), int(place[1]), ip_address(own), own_port)
            self._perform(self.endpoint.on_flow_socket(flow, octets, way, self._loop.time()))
            call = self.endpoint.call_of(flow)
            if flow not in self._sockets or call is None or flow not in self._allocations:
                return

    def _on_errors(self, flow: FlowId, errors: list[Unreachable]) -> None:
        """ICMP errors about the socket of a call."""
        for error in errors:
            if error.reason == "port":
                self._perform(self.endpoint.on_unreachable(flow, self._loop.time()))

    def _on_first_datagram(self, flow: FlowId) -> None:
        """Version 0: the first datagram proves that the echo arrived. It stays in the queue for the program."""
        try:
            self._sockets[flow].recv(1, socket.MSG_PEEK)
        except OSError:  # an ICMP error, which proves nothing
            sockets.read_errors(self._sockets[flow])
            return
        self._loop.remove_reader(self._sockets[flow].fileno())
        self._perform(self.endpoint.holder.on_first_datagram(flow, self._loop.time()))

    def _on_time(self) -> None:
        self._timer = None
        now = self._loop.time()
        for allocation in list(self._races.values()):
            self._call(allocation, allocation.race.on_timer(now))
            for flow in [flow for flow, eid in allocation.calls.items() if self._is_absent(eid)]:
                self._perform(self.endpoint.on_no_mapping(flow))
        self._perform(self.endpoint.on_timer(now))

    # --- outputs

    def _call(self, allocation: _Allocation, eids: list[IpAddress]) -> None:
        for eid in eids:
            own = next(own for own in self._eids if own.version == eid.version)
            flow = self.endpoint.new_id()
            try:
                one = sockets.new_socket(own)
                steered = SteeredFlow(
                    fold(allocation.ask.name).decode(), own, one.getsockname()[1], eid, 0, allocation.ask.wish,
                    allocation.via, allocation.program.owner,
                )  # fmt: skip
                sockets.set_quality(one, allocation.ask.wish, self._mark_of(steered))
            except OSError as error:
                failed = AllocationFailed(flow, Failure.TIMED_OUT, 0, f"no socket on {own}: {error.strerror}")
                self._call(allocation, allocation.race.on_failed(eid, failed, self._loop.time()))
                continue
            self._sockets[flow] = one
            allocation.calls[flow] = eid
            self._allocations[flow] = allocation
            self._loop.add_reader(one.fileno(), self._on_call_socket, flow)
            key = self.flows.key_for(eid)
            ask = Ask(
                allocation.ask.name, allocation.ask.wish, allocation.ask.caller, allocation.ask.timeout_s,
                allocation.ask.lifetime_s, key, self._rtt_of(eid), allocation.ask.is_legacy,
            )  # fmt: skip
            port = one.getsockname()[1]
            now = self._loop.time()
            self._perform(self.endpoint.call(flow, ask, own, port, eid, now, peer_port=allocation.port))
        self._settle(allocation)

    def _settle(self, allocation: _Allocation) -> None:
        """Inform the program when every EID has failed."""
        verdict = allocation.race.verdict
        if verdict is not None and not allocation.done.done():
            refused = AllocationRefused(verdict.failure, verdict.reason_code, verdict.why)
            allocation.done.set_exception(refused)

    def _take_back(self, allocation: _Allocation, flow: FlowId) -> None:
        allocation.calls.pop(flow, None)
        self._allocations.pop(flow, None)
        self._perform(self.endpoint.close(flow, self._loop.time()))

    def _perform(self, effects: Iterable[FlowEffect]) -> None:
        for effect in effects:
            match effect:
                case SendFlowMessage():
                    self._send(effect)
                case MakeFlowSocket():
                    self._make_socket(effect)
                case ConnectFlowSocket(flow, port):
                    self._connect(flow, port)
                case AskProgram(flow, name):
                    program = self._holders.get(name)
                    if program is not None:
                        program.on_call(effect)
                case FlowOpened():
                    self._on_opened(effect)
                case AllocationFailed(flow):
                    self._on_failed(effect)
                case FlowEnded(flow, reason_code):
                    if (ended := self._drop_open(flow)) is not None:
                        why = describe(reason_code)
                        self._say("flow %s with %s is over: %s", _shown(ended.name), ended.peer, why)
                        ended.program.on_ended(flow, reason_code)
                case ForgetFlow(flow):
                    self._close_socket(flow)
        self._set_timer()

    def _send(self, effect: SendFlowMessage) -> None:
        one = self._sockets.get(effect.flow) if effect.outlet is Outlet.FLOW else None
        if effect.outlet is Outlet.FLOW:
            flow = self._open.get(effect.flow)
            one = one or (flow.own if flow is not None else None)
            if one is None:
                return
            try:
                errors = sockets.send(one, effect.octets, effect.destination, effect.port)
                if errors:  # not now: this may be one of several effects of the same call
                    self._loop.call_soon(self._on_errors, effect.flow, errors)
            except OSError as error:
                log.debug("not sent to=%s port=%d why=%s", effect.destination, effect.port, error.strerror)
            return
        self._port.send(effect.octets, effect.own, effect.destination, effect.port)

    def _make_socket(self, wanted: MakeFlowSocket) -> None:
        holder = self.endpoint.holder
        try:
            one = sockets.holder_socket(wanted.own, wanted.caller, wanted.caller_port, self.flows.ports)
        except OSError as error:
            self._say("no socket for a flow of %s: %s", wanted.caller, error.strerror)
            self._perform(holder.on_no_socket(wanted.flow))
            return
        self._sockets[wanted.flow] = one
        if holder.is_legacy(wanted.flow):
            self._loop.add_reader(one.fileno(), self._on_first_datagram, wanted.flow)
        self._perform(holder.on_socket(wanted.flow, one.getsockname()[1], self._loop.time()))

    def _connect(self, flow: FlowId, port: int) -> None:
        one, call = self._sockets[flow], self.endpoint.call_of(flow)
        assert call is not None, "a call is known until its effects have been carried out"
        self._loop.remove_reader(one.fileno())
        try:
            sockets.connect(one, call.peer, port)
        except OSError as error:
            self._say("a flow to %s cannot be connected: %s", call.peer, error.strerror)

    def _on_opened(self, opened: FlowOpened) -> None:
        one = self._sockets.get(opened.flow)
        if one is None:
            return
        allocation = self._allocations.pop(opened.flow, None)
        if allocation is not None:
            self._on_answered(allocation, opened, one)
            return
        program = self._holders.get(opened.name)
        if program is None:
            self.close(opened.flow, Reason.PROGRAM_ENDED)
            return
        self._loop.remove_reader(one.fileno())
        found = self._open[opened.flow] = _Open(program, one, opened.name, opened.peer, False, (), opened.granted)
        self._steer(found)
        del self._sockets[opened.flow]
        self._say("flow %s from %s", _shown(opened.name), opened.peer)
        program.on_flow(opened, one)

    def _on_answered(self, allocation: _Allocation, opened: FlowOpened, one: socket.socket) -> None:
        allocation.calls.pop(opened.flow)
        if allocation.done.done():  # another EID was faster, in the same turn of the loop
            self._perform(self.endpoint.close(opened.flow, self._loop.time()))
            return
        del self._sockets[opened.flow]
        wish, via = allocation.ask.wish, allocation.via
        found = self._open[opened.flow] = _Open(
            allocation.program, one, opened.name, opened.peer, True, via, wish, sockets.mark_of(one)
        )
        self._steer(found)
        self._say("flow %s to %s", _shown(opened.name), opened.peer)
        allocation.done.set_result(Allocated(opened, one.dup()))

    def _on_failed(self, failed: AllocationFailed) -> None:
        allocation = self._allocations.pop(failed.flow, None)
        if allocation is None:
            return
        eid = allocation.calls.pop(failed.flow)
        self._call(allocation, allocation.race.on_failed(eid, failed, self._loop.time()))

    def _drop_open(self, flow: FlowId) -> _Open | None:
        found = self._open.pop(flow, None)
        if found is not None:
            found.own.close()
        return found

    def _close_socket(self, flow: FlowId) -> None:
        self._drop_open(flow)
        one = self._sockets.pop(flow, None)
        if one is not None:
            self._loop.remove_reader(one.fileno())
            one.close()

    def _set_timer(self) -> None:
        times = [at for race in self._races.values() if (at := race.race.wake_at()) is not None]
        if (at := self.endpoint.wake_at()) is not None:
            times.append(at)
        wanted = min(times, default=None)
        if self._timer is not None:
            if self._timer.when() == wanted:
                return
            self._timer.cancel()
            self._timer = None
        if wanted is not None:
            self._timer = self._loop.call_at(wanted, self._on_time)


class AllocationRefused(Exception):
    """No flow was made. `failure` in a word, `reason_code` of the holder (0 without one), and a sentence."""

    def __init__(self, failure: Failure, reason_code: int, why: str) -> None:
        super().__init__(why)
        self.failure = failure
        self.reason_code = reason_code


def _shown(name: bytes) -> str:
    return ascii(name.decode())[1:-1]

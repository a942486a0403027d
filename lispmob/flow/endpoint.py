"""The flows of a host: its calls, and the names that it holds. Pure.

Datagrams arrive at the control port or at the socket of a call. Each belongs to a call, or to the holder. An unexpected
datagram is counted and dropped.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from itertools import count

from lispmob.errors import MalformedMessage
from lispmob.flow.adoption import Adoption, NotAdoptable
from lispmob.flow.auth import FlowKey, IpAddress, Way
from lispmob.flow.caller import FLOW_PORT, Ask, Call, CallState
from lispmob.flow.effect import FlowEffect, FlowId, Outlet, SendFlowMessage
from lispmob.flow.holder import Holder, Legacy
from lispmob.flow.limits import Limits
from lispmob.flow.message import Kind, Message, Reason, Unsupported, decode, decode_name, encode, is_version_1
from lispmob.protocol.agenda import Agenda


class FlowEndpoint:
    """The calls of this host, and its `holder`. `counters` count what was dropped, by reason.

    `new_nonce` returns 8 random octets, `jitter` numbers from 0 to 1, `secret` is for cookies.
    """

    def __init__(
        self,
        *,
        host: str,
        new_nonce: Callable[[], bytes],
        jitter: Callable[[], float],
        secret: bytes,
        domain: str = "",
        legacy: Legacy = Legacy.FIRST_DATAGRAM,
        is_quiet: bool = False,
        limits: Limits | None = None,
        port: int = FLOW_PORT,
        key_for: Callable[[IpAddress], FlowKey | None] = lambda _eid: None,
    ) -> None:
        self._ids = count(1)
        self._new_nonce, self._jitter, self._port = new_nonce, jitter, port
        self._calls: dict[FlowId, Call] = {}
        self._by_nonce: dict[bytes, Call] = {}
        self._due: Agenda[FlowId] = Agenda()
        self.holder = Holder(
            host=host,
            domain=domain,
            new_nonce=new_nonce,
            new_id=self.new_id,
            secret=secret,
            legacy=legacy,
            is_quiet=is_quiet,
            limits=limits,
            port=port,
            key_for=key_for,
        )

    @property
    def counters(self) -> Counter[str]:
        """What was dropped, by reason."""
        return self.holder.counters

    def new_id(self) -> FlowId:
        """A new number for a flow."""
        return next(self._ids)

    def wake_at(self) -> float | None:
        """When `on_timer` is due, in monotonic seconds."""
        times = [at for at in (self._due.first(), self.holder.wake_at()) if at is not None]
        return min(times, default=None)

    def on_timer(self, now: float) -> list[FlowEffect]:
        """Do what is due."""
        effects: list[FlowEffect] = []
        for flow in self._due.due(now):
            effects += self._after(self._calls[flow], self._calls[flow].on_timer(now))
        return effects + self.holder.on_timer(now)

    def call(
        self, flow: FlowId, ask: Ask, own: IpAddress, own_port: int, peer: IpAddress, now: float, *, peer_port: int = 0
    ) -> list[FlowEffect]:
        """Request a flow from `peer`, on an existing socket. `flow` is a number from `new_id`."""
        call = Call(
            flow,
            ask,
            own,
            own_port,
            peer,
            nonce=self._new_nonce(),
            jitter=self._jitter,
            control_port=self._port,
            peer_port=peer_port or self._port,
        )
        self._calls[flow] = call
        self._by_nonce[call.nonce] = call
        return self._after(call, call.start(now))

    def adopt(self, shown: Adoption, key: FlowKey | None, now: float) -> tuple[FlowId, list[FlowEffect]]:
        """Adopt a flow of a lispd that has ended. Raises NotAdoptable.

        The peer may have ended the flow meanwhile; that is noticed only when the lifetime has passed.
        """
        flow = self.new_id()
        if not shown.is_ours:
            self.holder.adopt(flow, shown, key, now)
            return flow, []
        if shown.caller_nonce in self._by_nonce:
            raise NotAdoptable("this flow is known already")
        ask = Ask(shown.name, shown.quality, lifetime_s=shown.lifetime_s, key=key)
        call = Call(
            flow, ask, shown.own, shown.own_port, shown.peer, nonce=shown.caller_nonce, jitter=self._jitter,
            control_port=self._port, peer_port=shown.control_port,
        )  # fmt: skip
        self._calls[flow] = call
        self._by_nonce[call.nonce] = call
        return flow, self._after(call, call.adopt(shown.holder_nonce, shown.peer_port, now))

    def call_of(self, flow: FlowId) -> Call | None:
        """The call with this number, or None."""
        return self._calls.get(flow)

    def close(self, flow: FlowId, now: float, reason: Reason = Reason.DONE) -> list[FlowEffect]:
        """The program has closed the flow, or has cancelled the request. Idempotent."""
        call = self._calls.get(flow)
        if call is None:
            return self.holder.close(flow, now, reason)
        return self._after(call, call.close(now, reason))

    def close_all(self, now: float) -> list[FlowEffect]:
        """This host stops: notify all peers."""
        effects = [effect for flow in list(self._calls) for effect in self.close(flow, now, Reason.SHUTTING_DOWN)]
        return effects + self.holder.close_all(now)

    def on_control(self, octets: bytes, way: Way, now: float) -> list[FlowEffect]:
        """A datagram was received at the control port."""
        try:
            if not is_version_1(octets):
                return self.holder.on_legacy_request(decode_name(octets), octets, way, now)
            message = decode(octets)
        except Unsupported as unsupported:
            return self._refuse_later_version(unsupported, way, now)
        except MalformedMessage as malformed:
            self.counters[malformed.counter] += 1
            return []
        call = self._by_nonce.get(message.caller_nonce)
        if call is not None and call.peer == way.source and _is_for_caller(message, call):
            return self._after(call, call.on_message(message, octets, way.source_port, Outlet.CONTROL, now))
        if message.kind is Kind.REQUEST:
            return self.holder.on_request(message, octets, way, now)
        return self.holder.on_message(message, octets, way, now)

    def on_flow_socket(self, flow: FlowId, octets: bytes, way: Way, now: float) -> list[FlowEffect]:
        """A datagram was received at the socket of a call that is not open yet."""
        call = self._calls.get(flow)
        if call is None or call.peer != way.source:
            self.counters["flow_nonce"] += 1
            return []
        if call.ask.is_legacy:
            return self._after(call, call.on_legacy_echo(octets, way.source_port))
        try:
            message = decode(octets)
        except MalformedMessage as malformed:
            self.counters[malformed.counter] += 1
            return []
        if message.caller_nonce != call.nonce:
            self.counters["flow_nonce"] += 1
            return []
        return self._after(call, call.on_message(message, octets, way.source_port, Outlet.FLOW, now))

    def on_unreachable(self, flow: FlowId, now: float) -> list[FlowEffect]:
        """An ICMP error for the socket of a call reports that the peer's port is closed."""
        call = self._calls.get(flow)
        return [] if call is None else self._after(call, call.on_unreachable(now))

    def on_no_mapping(self, flow: FlowId) -> list[FlowEffect]:
        """The map-cache has a negative mapping for the EID that is called."""
        call = self._calls.get(flow)
        return [] if call is None else self._after(call, call.on_no_mapping())

    def _refuse_later_version(self, unsupported: Unsupported, way: Way, now: float) -> list[FlowEffect]:
        self.counters[unsupported.counter] += 1
        if not unsupported.is_request or not self.holder.may_answer(way.source, now):
            return []
        refusal = Message(Kind.REFUSE, unsupported.caller_nonce, reason_code=Reason.UNSUPPORTED)
        return [SendFlowMessage(0, encode(refusal), Outlet.CONTROL, way.destination, way.source, way.source_port)]

    def _after(self, call: Call, effects: list[FlowEffect]) -> list[FlowEffect]:
        """Store the next deadline of a call after an event, or remove the call when it is over."""
        if call.state is CallState.CLOSED:
            if self._calls.pop(call.flow, None) is not None:
                del self._by_nonce[call.nonce]
            self._due.set(call.flow, None)
        else:
            self._due.set(call.flow, call.wake_at())
        return effects


def _is_for_caller(message: Message, call: Call) -> bool:
    """Whether a message is for the caller's end: a host that calls itself has both ends of the flow."""
    if message.kind is Kind.CLOSE:
        return message.is_reply == (call.state is CallState.CLOSING) or call.state is not CallState.CLOSING
    return message.is_reply

"""The caller's side of a flow, from the REQUEST until the flow has ended. Pure.

    asking --ACCEPT--> confirming --CONFIRM R--> open --close--> closing --R--> closed
       `--REFUSE, timeout, port unreachable--> closed

The caller drives: it repeats messages that are not answered, and the holder only answers. The program gets its socket
with the ACCEPT, because it does not have to wait for the peer's CONFIRM R.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import Final

import msgspec

from lispmob.flow.auth import FlowKey, IpAddress, Way, is_signed_by, sign
from lispmob.flow.effect import (
    AllocationFailed,
    ConnectFlowSocket,
    Failure,
    FlowEffect,
    FlowEnded,
    FlowId,
    FlowOpened,
    ForgetFlow,
    Outlet,
    SendFlowMessage,
)
from lispmob.flow.message import NO_NONCE, Kind, Message, Reason, encode
from lispmob.flow.name import fold, harmless
from lispmob.flow.quality import Quality

FLOW_PORT: Final = 3359
FIRST_TRY_S: Final = 1.0
LONGEST_TRY_S: Final = 4.0
SHORTEST_TRY_S: Final = 0.25
RTTS_PER_TRY: Final = 3
WAIT_POLL_S: Final = 5.0
UNREACHABLE_RETRY_S: Final = 0.25
CONFIRM_TRIES_S: Final = (0.5, 1.0, 2.0, 4.0, 8.0)  # how long to wait for an answer to each CONFIRM
CLOSE_TRIES_S: Final = (0.5, 1.0, 1.0)
ALIVE_SHARE: Final = 3  # an ALIVE in each third of the lifetime
JITTER: Final = 0.1
LEGACY_TRIES_S: Final = (1.0, 2.0, 4.0)  # version 0: requests at 0, 1, 3 and 7 s


class CallState(Enum):
    """The state of an allocation."""

    ASKING = "asking"
    CONFIRMING = "confirming"
    OPEN = "open"
    CLOSING = "closing"
    CLOSED = "closed"


TRANSITIONS: Final[dict[CallState, frozenset[CallState]]] = {
    CallState.ASKING: frozenset({CallState.CONFIRMING, CallState.OPEN, CallState.CLOSED}),
    CallState.CONFIRMING: frozenset({CallState.OPEN, CallState.CLOSING, CallState.CLOSED}),
    CallState.OPEN: frozenset({CallState.CLOSING, CallState.CLOSED}),
    CallState.CLOSING: frozenset({CallState.CLOSED}),
    CallState.CLOSED: frozenset(),
}


class Ask(msgspec.Struct, frozen=True):
    """The request. `rtt_s`: the round trip to the peer if known; `key`: the key of the peer's EID-Prefix."""

    name: str
    wish: Quality = Quality()
    caller: str = ""
    timeout_s: float = 10.0
    lifetime_s: int = 600
    key: FlowKey | None = None
    rtt_s: float | None = None
    is_legacy: bool = False  # version 0


class Call:
    """An allocation with one EID. `own` and `own_port` are those of the flow's socket, which exists already."""

    def __init__(
        self,
        flow: FlowId,
        ask: Ask,
        own: IpAddress,
        own_port: int,
        peer: IpAddress,
        *,
        nonce: bytes,
        jitter: Callable[[], float],
        control_port: int = FLOW_PORT,
        peer_port: int = FLOW_PORT,
    ) -> None:
        """`nonce`: 8 random octets, new for each call; `jitter` returns numbers from 0 to 1."""
        self.flow = flow
        self.ask = ask
        self.own, self.own_port = own, own_port
        self.peer, self.peer_port = peer, peer_port
        self.nonce = nonce
        self.holder_nonce = NO_NONCE
        self.state = CallState.ASKING
        self.flow_port = 0
        self.lifetime_s = 0
        self._control_port = control_port
        self._jitter = jitter
        self._timer: float | None = None
        self._deadline = float("inf")
        self._try = 0
        self._cookie: bytes | None = None
        self._was_asked_again = False  # for this try, because of a cookie
        self._unreachable_in_a_row = 0
        self._heard_at = 0.0
        self._reason = Reason.DONE

    def wake_at(self) -> float | None:
        """When `on_timer` is due, in monotonic seconds."""
        if self.state is CallState.ASKING and self._timer is not None:
            return min(self._timer, self._deadline)
        return self._timer

    def start(self, now: float) -> list[FlowEffect]:
        """Send the first REQUEST."""
        self._deadline = now + self.ask.timeout_s
        return self._request(now)

    def adopt(self, holder_nonce: bytes, flow_port: int, now: float) -> list[FlowEffect]:
        """Continue a flow that is open since before we started: send the holder an ALIVE from our present port."""
        self._to(CallState.CONFIRMING)
        self.holder_nonce, self.flow_port, self.lifetime_s = holder_nonce, flow_port, self.ask.lifetime_s
        effects = self._on_confirmed(now)
        return self._keep_alive(now) if self.lifetime_s else effects

    def on_timer(self, now: float) -> list[FlowEffect]:
        """Do what is due; an early call does nothing."""
        at = self.wake_at()
        if at is None or now < at:
            return []
        match self.state:
            case CallState.ASKING if now >= self._deadline:
                return self._give_up(Failure.TIMED_OUT, f"no answer from {self.peer} in {self.ask.timeout_s:g} s")
            case CallState.ASKING:
                return self._request(now)
            case CallState.CONFIRMING if self._try >= len(CONFIRM_TRIES_S):
                return self._end(Reason.NO_ANSWER, now)
            case CallState.CONFIRMING:
                return self._confirm(now)
            case CallState.OPEN:
                return self._keep_alive(now)
            case CallState.CLOSING:
                return self._send_close(now)
        return []

    def on_message(
        self, message: Message, octets: bytes, source_port: int, outlet: Outlet, now: float
    ) -> list[FlowEffect]:
        """A message of the peer with our nonce was received by `outlet`.

        A message that does not fit the state is ignored.
        """
        if message.caller_nonce != self.nonce or not self._is_proved(message, octets, source_port, outlet):
            return []
        match self.state, message.kind:
            case CallState.ASKING, Kind.WAIT:
                return self._on_wait(message, now)
            case CallState.ASKING, Kind.ACCEPT if source_port in (self.peer_port, message.flow_port):
                return self._on_accept(message, now)
            case CallState.ASKING, Kind.REFUSE:
                return self._on_refuse(message)
        if message.holder_nonce != self.holder_nonce:
            return []
        match self.state, message.kind, message.is_reply:
            case CallState.CONFIRMING, Kind.CONFIRM, True:
                return self._on_confirmed(now)
            case CallState.OPEN, Kind.ALIVE, True:
                self._heard_at = now
            case ((CallState.CONFIRMING | CallState.OPEN | CallState.CLOSING), Kind.CLOSE, False):
                reply = Message(Kind.CLOSE, self.nonce, self.holder_nonce, is_reply=True)
                told = [] if self.state is CallState.CLOSING else [FlowEnded(self.flow, message.reason_code or 0)]
                return [self._send(reply, Outlet.CONTROL, self.peer_port), *told, *self._forget()]
            case CallState.CLOSING, Kind.CLOSE, True:
                return self._forget()
        return []

    def on_legacy_echo(self, octets: bytes, source_port: int) -> list[FlowEffect]:
        """Version 0: the flow's socket received a datagram from the EID that was asked."""
        if not self.ask.is_legacy or self.state is not CallState.ASKING or octets != self.ask.name.encode():
            return []
        self.flow_port = source_port
        self._to(CallState.OPEN)
        self._timer = None
        return [ConnectFlowSocket(self.flow, source_port), self._opened(Quality())]

    def on_unreachable(self, now: float) -> list[FlowEffect]:
        """An ICMP error reports that the port is closed.

        It takes two in a row to end a call, since they can be forged.
        """
        if self.state is not CallState.ASKING:
            return []
        self._unreachable_in_a_row += 1
        if self._unreachable_in_a_row >= 2:
            return self._fail(Failure.NO_FLOW_DAEMON, 0, f"no flow daemon runs at {self.peer}")
        self._timer = now + UNREACHABLE_RETRY_S
        return []

    def on_no_mapping(self) -> list[FlowEffect]:
        """The mapping system reports that the EID has no mapping, so that it cannot be reached."""
        if self.state is not CallState.ASKING:
            return []
        return self._fail(Failure.NO_MAPPING, 0, f"no site has registered the EID {self.peer}")

    def close(self, now: float, reason: Reason = Reason.DONE) -> list[FlowEffect]:
        """The program has closed its socket, or has cancelled the request. Idempotent."""
        match self.state:
            case CallState.ASKING:
                return self._give_up(Failure.CANCELLED, "cancelled")
            case CallState.CONFIRMING | CallState.OPEN if self.ask.is_legacy:
                return self._forget()
            case CallState.CONFIRMING | CallState.OPEN:
                self._to(CallState.CLOSING)
                self._reason, self._try = reason, 0
                return self._send_close(now)
        return []

    # --- asking

    def _request(self, now: float) -> list[FlowEffect]:
        self._timer = now + self._patience_s()
        self._try += 1
        self._was_asked_again = False
        return [self._ask_now()]

    def _ask_now(self) -> FlowEffect:
        if self.ask.is_legacy:
            name = self.ask.name.encode()
            return SendFlowMessage(self.flow, name, Outlet.FLOW, self.own, self.peer, self.peer_port)
        request = Message(
            Kind.REQUEST,
            self.nonce,
            name=self.ask.name,
            lifetime_s=self.ask.lifetime_s or None,
            quality=self.ask.wish if self.ask.wish != Quality() else None,
            caller=self.ask.caller or None,
            cookie=self._cookie,
        )
        return self._send(request, Outlet.FLOW, self.peer_port)

    def _patience_s(self) -> float:
        if self.ask.is_legacy:
            return LEGACY_TRIES_S[self._try] if self._try < len(LEGACY_TRIES_S) else float("inf")
        rtt_s = self.ask.rtt_s
        first = FIRST_TRY_S if rtt_s is None else max(RTTS_PER_TRY * rtt_s, SHORTEST_TRY_S)
        patience_s: float = min(first * 2**self._try, max(LONGEST_TRY_S, first))
        return patience_s * (1 + JITTER * (2 * self._jitter() - 1))

    def _on_wait(self, message: Message, now: float) -> list[FlowEffect]:
        self._unreachable_in_a_row = 0
        if message.cookie is None:
            self._timer = now + WAIT_POLL_S
            return []
        self._cookie = message.cookie
        if self._was_asked_again:
            return []
        self._was_asked_again = True
        return [self._ask_now()]

    def _on_accept(self, message: Message, now: float) -> list[FlowEffect]:
        if message.flow_port is None or message.holder_nonce == NO_NONCE:
            return []
        self.holder_nonce = message.holder_nonce
        self.flow_port = message.flow_port
        self.lifetime_s = min(message.lifetime_s or 0, self.ask.lifetime_s)
        self._heard_at = now
        self._try = 0
        self._to(CallState.CONFIRMING)
        connected = ConnectFlowSocket(self.flow, self.flow_port)
        return [connected, *self._confirm(now), self._opened(message.quality or Quality())]

    def _on_refuse(self, message: Message) -> list[FlowEffect]:
        code = message.reason_code or 0
        failure = Failure.NO_SUCH_NAME if code == Reason.NO_SUCH_NAME else Failure.REFUSED
        return self._fail(failure, code, harmless(message.reason_text) or describe(code))

    def _opened(self, granted: Quality) -> FlowEffect:
        nonces = None if self.ask.is_legacy else (self.nonce, self.holder_nonce)
        name, control_port = fold(self.ask.name), self.peer_port
        return FlowOpened(self.flow, name, self.peer, self.flow_port, granted, self.lifetime_s, nonces, control_port)

    # --- open

    def _confirm(self, now: float) -> list[FlowEffect]:
        """The first CONFIRM acknowledges the ACCEPT; the second only opens our own firewall for data."""
        self._timer = now + CONFIRM_TRIES_S[self._try]
        self._try += 1
        confirm = Message(Kind.CONFIRM, self.nonce, self.holder_nonce)
        return [
            self._send(confirm, Outlet.CONTROL, self.peer_port),
            self._send(confirm, Outlet.FLOW, self.flow_port),
        ]

    def _on_confirmed(self, now: float) -> list[FlowEffect]:
        self._heard_at = now
        self._to(CallState.OPEN)
        self._timer = now + self.lifetime_s / ALIVE_SHARE if self.lifetime_s else None
        return []

    def _keep_alive(self, now: float) -> list[FlowEffect]:
        if now - self._heard_at >= self.lifetime_s:
            return self._end(Reason.NO_ANSWER, now)
        self._timer = now + self.lifetime_s / ALIVE_SHARE
        return [self._send(Message(Kind.ALIVE, self.nonce, self.holder_nonce), Outlet.CONTROL, self.peer_port)]

    # --- the end

    def _end(self, reason: Reason, now: float) -> list[FlowEffect]:
        """The peer is silent: report that to the program, and to the peer in case it still receives."""
        self._to(CallState.CLOSING)
        self._reason, self._try = reason, 0
        return [FlowEnded(self.flow, reason), *self._send_close(now)]

    def _send_close(self, now: float) -> list[FlowEffect]:
        if self._try >= len(CLOSE_TRIES_S):
            return self._forget()
        self._timer = now + CLOSE_TRIES_S[self._try]
        self._try += 1
        return [self._closing_word()]

    def _closing_word(self) -> FlowEffect:
        close = Message(Kind.CLOSE, self.nonce, self.holder_nonce, reason_code=self._reason)
        return self._send(close, Outlet.CONTROL, self.peer_port)

    def _give_up(self, failure: Failure, why: str) -> list[FlowEffect]:
        """End an unanswered request, and notify the holder, which may have made a socket for it."""
        told: list[FlowEffect] = [] if self.ask.is_legacy else [self._closing_word()]
        return [*told, *self._fail(failure, 0, why)]

    def _fail(self, failure: Failure, code: int, why: str) -> list[FlowEffect]:
        return [AllocationFailed(self.flow, failure, code, why), *self._forget()]

    def _forget(self) -> list[FlowEffect]:
        self._to(CallState.CLOSED)
        self._timer = None
        return [ForgetFlow(self.flow)]

    def _to(self, new: CallState) -> None:
        assert new in TRANSITIONS[self.state], (self.state, new)
        self.state = new

    # --- messages

    def _send(self, message: Message, outlet: Outlet, port: int) -> SendFlowMessage:
        octets = encode(message)
        if self.ask.key is not None:
            own_port = self.own_port if outlet is Outlet.FLOW else self._control_port
            octets = sign(octets, Way(self.own, own_port, self.peer, port), self.ask.key)
        return SendFlowMessage(self.flow, octets, outlet, self.own, self.peer, port)

    def _is_proved(self, message: Message, octets: bytes, source_port: int, outlet: Outlet) -> bool:
        if self.ask.key is None:
            return True
        own_port = self.own_port if outlet is Outlet.FLOW else self._control_port
        way = Way(self.peer, source_port, self.own, own_port)
        return message.has_auth and is_signed_by(octets, way, self.ask.key)


_SENTENCES: Final = {
    Reason.NO_SUCH_NAME: "no program there holds this name",
    Reason.NOT_ALLOWED: "the holder of the name does not take calls from here",
    Reason.BUSY: "the holder of the name has as many flows as it takes",
    Reason.NO_ANSWER: "the program that holds the name does not answer",
    Reason.UNSUPPORTED: "the peer speaks another version",
    Reason.AUTHENTICATION: "the peer wants a key that it knows",
    Reason.DONE: "the other side has closed the flow",
    Reason.PROGRAM_ENDED: "the program at the other side has ended",
    Reason.SHUTTING_DOWN: "the other side shuts down",
    Reason.REPLACED: "another flow took the place of this one",
}


def describe(code: int) -> str:
    """The meaning of a REASON as a sentence."""
    return _SENTENCES[Reason(code)] if code in Reason.__members__.values() else f"refused for the reason {code}"

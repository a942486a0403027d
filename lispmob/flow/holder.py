"""The holder's side of all flows, from the REQUEST until the flow has ended. Pure.

    REQUEST --> (asked) --yes--> offered --CONFIRM--> open --close--> closed
                   `--no, 10 s-->   `--10 s-->

When half of the places for pending calls are taken, a caller that has not proved its address gets a cookie, and no
state is kept for it. An unconfirmed call never reaches a program. Answers to it are never larger than its requests.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from enum import Enum
from typing import Final

import msgspec

from lispmob.errors import LispError
from lispmob.flow.adoption import Adoption, NotAdoptable
from lispmob.flow.auth import FlowKey, IpAddress, Way, is_signed_by, sign
from lispmob.flow.caller import CLOSE_TRIES_S
from lispmob.flow.cookie import Cookies
from lispmob.flow.effect import (
    AskProgram,
    FlowEffect,
    FlowEnded,
    FlowId,
    FlowOpened,
    ForgetFlow,
    MakeFlowSocket,
    Outlet,
    SendFlowMessage,
)
from lispmob.flow.limits import CookieShare, Limits, RequestShare
from lispmob.flow.message import Kind, Message, Reason, encode
from lispmob.flow.name import fold, harmless, held_as
from lispmob.flow.quality import Quality
from lispmob.flow.table import NEVER, Flow, FlowState, FlowTable

OFFER_S: Final = 10.0  # how long a program may take to answer, and how long an offer is valid
CLOSED_S: Final = 30.0  # how long a repeated CLOSE of an ended flow is answered
SILENCE_S: Final = 10.0  # beyond its lifetime

NO_SUCH_NAME: Final = "no such name"


class NameTaken(LispError):
    """Another program holds this name; the text says which."""


class Legacy(Enum):
    """When a call of version 0 reaches the program: with its first datagram, at once, or never."""

    FIRST_DATAGRAM = "first-datagram"
    AT_ONCE = "at-once"
    NO = "no"


class HeldName(msgspec.Struct, frozen=True):
    """A name, which callers may call it, and whether the program is asked before a call is accepted.

    `may_call` decides by the EID of the caller; if there is a `key`, the caller has to prove that it knows it.
    """

    name: str
    owner: str
    may_call: Callable[[IpAddress], bool]
    asks_program: bool = False
    key: FlowKey | None = None
    backlog: int = 16


class Holder:
    """The calls of all names that this host holds.

    `host` and `domain` are ours; a request may append them to a name. `secret`: 32 random octets, for cookies.
    `is_quiet`: requests for unknown and forbidden names are not answered. `key_for`: the key that we share with an EID.
    """

    def __init__(
        self,
        *,
        host: str,
        new_nonce: Callable[[], bytes],
        new_id: Callable[[], FlowId],
        secret: bytes,
        domain: str = "",
        legacy: Legacy = Legacy.FIRST_DATAGRAM,
        is_quiet: bool = False,
        limits: Limits | None = None,
        port: int = 3359,
        key_for: Callable[[IpAddress], FlowKey | None] = lambda _caller: None,
    ) -> None:
        self.counters: Counter[str] = Counter()
        self._host, self._domain = host, domain
        self._new_nonce, self._new_id, self._key_for = new_nonce, new_id, key_for
        self._baker = Cookies(secret)
        self._legacy, self._is_quiet, self._port = legacy, is_quiet, port
        self._limits = limits or Limits()
        self._names: dict[bytes, HeldName] = {}
        self._flows = FlowTable()
        # Separate limits, so that an attacker who forges a caller's address cannot use up the caller's share.
        self._unproved, self._proved = RequestShare(self._limits), RequestShare(self._limits)
        self._cookies = CookieShare(self._limits)

    # --- names

    def hold(self, held: HeldName) -> None:
        """Accept calls for a name. Raises NameTaken."""
        other = self._names.get(fold(held.name))
        if other is not None:
            raise NameTaken(f"{held.name} is held by {other.owner} already")
        self._names[fold(held.name)] = held

    def release(self, name: str, reason: Reason = Reason.PROGRAM_ENDED) -> list[FlowEffect]:
        """Accept no more calls for a name. Pending calls are refused; open flows stay."""
        self._names.pop(fold(name), None)
        pending = (FlowState.ASKED, FlowState.OFFERED)
        ended = [flow for flow in self._flows if flow.name == fold(name) and flow.state in pending]
        return [effect for flow in ended for effect in self._refuse(flow, reason)]

    def names(self) -> tuple[HeldName, ...]:
        """All held names."""
        return tuple(self._names.values())

    def find(self, name: str) -> HeldName | None:
        """The holder of a full name: held under the name itself, without our domain, or without our host."""
        return next((self._names[c] for c in held_as(name, self._host, self._domain) if c in self._names), None)

    def is_legacy(self, flow_id: FlowId) -> bool:
        """True for a flow of version 0."""
        flow = self._flows.get(flow_id)
        return flow is not None and flow.is_legacy

    # --- time

    def wake_at(self) -> float | None:
        """When `on_timer` is due, in monotonic seconds."""
        return self._flows.next_due()

    def on_timer(self, now: float) -> list[FlowEffect]:
        """End or repeat what has timed out."""
        effects: list[FlowEffect] = []
        while (flow := self._flows.take_due(now)) is not None:
            match flow.state:
                case FlowState.ASKED:
                    effects += self._refuse(flow, Reason.NO_ANSWER)
                case FlowState.OPEN:
                    effects += [FlowEnded(flow.flow, Reason.NO_ANSWER), *self._end(flow, Reason.NO_ANSWER, now)]
                case FlowState.CLOSED if flow.closes:
                    effects.append(self._send_close(flow, now))
                case FlowState.OFFERED | FlowState.CLOSED:
                    effects += self._forget(flow)
        return effects

    # --- messages

    def may_answer(self, caller: IpAddress, now: float) -> bool:
        """Whether the rate of `caller` permits another refusal."""
        return self._unproved.take(caller, now)

    def on_request(self, message: Message, octets: bytes, way: Way, now: float) -> list[FlowEffect]:
        """A REQUEST was received by `way`."""
        known = self._flows.of_call(way.source, message.caller_nonce)
        if known is not None and known.caller_port == way.source_port:
            return self._again(known, octets, way, message)
        assert message.name is not None, "a REQUEST without a name is malformed"
        held = self.find(message.name)
        is_proved = self._baker.is_good(message.cookie, way, message.caller_nonce, now)
        if not (self._proved if is_proved else self._unproved).take(way.source, now):
            self.counters["flow_rate"] += 1
            return [] if is_proved else self._send_cookie(held, message, octets, way, now)
        key = self._key_of(held, message, octets, way)
        if held is None:
            return self._say_no(message, way, Reason.NO_SUCH_NAME, NO_SUCH_NAME, key)
        if not held.may_call(way.source):
            return self._say_no(message, way, Reason.NOT_ALLOWED, key=None if held.key else key)
        if key is not None and not (message.has_auth and is_signed_by(octets, way, key)):
            self.counters["flow_auth"] += 1
            return [] if message.has_auth else self._say_no(message, way, Reason.AUTHENTICATION)
        if self._wants_cookie(held, way.source) and not is_proved:
            return self._send_cookie(held, message, octets, way, now)
        if self._is_full(held, way.source):
            self.counters["flow_full"] += 1
            return self._say_no(message, way, Reason.BUSY, key=key)
        flow = self._add(held, message, way, now, key)
        if held.asks_program:
            wait = Message(Kind.WAIT, message.caller_nonce)
            return [self._ask(flow, harmless(message.caller or "")), self._send_to(way, wait, key)]
        return [MakeFlowSocket(flow.flow, flow.own, flow.caller, flow.caller_port)]

    def on_legacy_request(self, name: str, octets: bytes, way: Way, now: float) -> list[FlowEffect]:
        """Version 0: a name and nothing else. The answer is its echo from a new port, or none."""
        call = way.source_port.to_bytes(2) + octets
        known = self._flows.of_call(way.source, call)
        if known is not None and (known.state is FlowState.OFFERED or now - known.since < OFFER_S):
            return [self._echo(known)] if known.port else []
        if self._legacy is Legacy.NO or not self._unproved.take(way.source, now):
            self.counters["flow_name" if self._legacy is Legacy.NO else "flow_rate"] += 1
            return []
        held = self.find(name)
        if held is None or not held.may_call(way.source) or held.key is not None:
            self.counters["flow_name"] += 1
            return []
        if self._wants_cookie(held, way.source) or self._is_full(held, way.source):
            self.counters["flow_full"] += 1
            return []
        request = Message(Kind.REQUEST, call, name=name)
        flow = self._add(held, request, way, now, None)
        flow.is_legacy = True
        return [MakeFlowSocket(flow.flow, flow.own, flow.caller, flow.caller_port)]

    def on_message(self, message: Message, octets: bytes, way: Way, now: float) -> list[FlowEffect]:
        """A CONFIRM, ALIVE or CLOSE of a caller, or its answer to our CLOSE, was received at the control port."""
        flow = self._flows.of_nonces(message.caller_nonce, message.holder_nonce)
        if flow is None and message.kind is Kind.CLOSE and not message.is_reply:
            return self._on_close_without_holder(message, octets, way, now)
        if flow is None or flow.caller != way.source:
            self.counters["flow_nonce"] += 1
            return []
        if flow.key is not None and not (message.has_auth and is_signed_by(octets, way, flow.key)):
            self.counters["flow_auth"] += 1
            return []
        match message.kind, message.is_reply, flow.state:
            case Kind.CONFIRM, False, FlowState.OFFERED:
                flow.control_port = way.source_port
                return [self._reply(flow, Kind.CONFIRM, way), *self._open(flow, now)]
            case Kind.CONFIRM, False, FlowState.OPEN:
                flow.control_port = way.source_port
                return [self._reply(flow, Kind.CONFIRM, way)]
            case Kind.ALIVE, False, FlowState.OPEN:
                flow.control_port = way.source_port
                self._flows.wait(flow, self._silence_ends(flow, now))
                return [self._reply(flow, Kind.ALIVE, way)]
            case Kind.CLOSE, False, FlowState.OPEN:
                told = FlowEnded(flow.flow, message.reason_code or 0)
                return [told, self._reply(flow, Kind.CLOSE, way), *self._close(flow, now)]
            case Kind.CLOSE, False, FlowState.ASKED | FlowState.OFFERED:
                return [self._reply(flow, Kind.CLOSE, way), *self._forget(flow)]
            case Kind.CLOSE, False, FlowState.CLOSED:
                return [self._reply(flow, Kind.CLOSE, way)]
            case Kind.CLOSE, True, FlowState.CLOSED:
                return self._forget(flow)
        return []

    # --- inputs from the adapter and the programs

    def on_socket(self, flow_id: FlowId, port: int, now: float) -> list[FlowEffect]:
        """The adapter has made the socket of a flow: offer the flow."""
        flow = self._flows.get(flow_id)
        if flow is None:
            return []
        flow.port = port
        if flow.is_legacy:
            opened = self._open(flow, now) if self._legacy is Legacy.AT_ONCE else []
            return [self._echo(flow), *opened]
        return self._offer(flow)

    def on_no_socket(self, flow_id: FlowId) -> list[FlowEffect]:
        """The adapter failed to make a socket: too many files, or the EID was removed."""
        flow = self._flows.get(flow_id)
        return [] if flow is None else self._refuse(flow, Reason.BUSY)

    def on_first_datagram(self, flow_id: FlowId, now: float) -> list[FlowEffect]:
        """Version 0: data has arrived for an offered flow, so the caller has received the echo."""
        flow = self._flows.get(flow_id)
        return self._open(flow, now) if flow is not None and flow.state is FlowState.OFFERED else []

    def on_answer(self, flow_id: FlowId, now: float, refusal: Reason | None = None) -> list[FlowEffect]:
        """The program accepts the call, or refuses it for a reason."""
        flow = self._flows.get(flow_id)
        if flow is None or flow.state is not FlowState.ASKED:
            return []
        if refusal is not None:
            return self._refuse(flow, refusal)
        self._flows.move(flow, FlowState.OFFERED)
        self._flows.wait(flow, now + OFFER_S)
        return [MakeFlowSocket(flow.flow, flow.own, flow.caller, flow.caller_port)]

    def adopt(self, flow_id: FlowId, shown: Adoption, key: FlowKey | None, now: float) -> None:
        """Adopt an open flow of a lispd that has ended. Raises NotAdoptable."""
        known = self._flows.of_nonces(shown.caller_nonce, shown.holder_nonce)
        if known is not None or self._flows.open_of(shown.peer, shown.peer_port) is not None:
            raise NotAdoptable("this flow is known already")
        if (
            self._flows.count() >= self._limits.flows
            or self._flows.count("peer", shown.peer) >= self._limits.flows_per_peer
        ):
            raise NotAdoptable("as many flows as there may be")
        flow = Flow(
            flow_id, fold(shown.name), shown.own, shown.peer, shown.peer_port, shown.caller_nonce, shown.holder_nonce,
            shown.quality, shown.lifetime_s, key, FlowState.OFFERED, NEVER, shown.own_port,
            control_port=shown.control_port,
        )  # fmt: skip
        self._flows.add(flow)
        self._open(flow, now)

    def close(self, flow_id: FlowId, now: float, reason: Reason = Reason.DONE) -> list[FlowEffect]:
        """The program has closed its socket, or has ended. Idempotent."""
        flow = self._flows.get(flow_id)
        if flow is None or flow.state is FlowState.CLOSED:
            return []
        if flow.state is not FlowState.OPEN:
            return self._refuse(flow, reason)
        if flow.is_legacy:
            return self._forget(flow)
        return self._end(flow, reason, now)

    def close_all(self, now: float) -> list[FlowEffect]:
        """This host stops: notify all peers."""
        return [effect for flow in self._flows for effect in self.close(flow.flow, now, Reason.SHUTTING_DOWN)]

    # --- the steps

    def _again(self, flow: Flow, octets: bytes, way: Way, message: Message) -> list[FlowEffect]:
        """Answer a repeated REQUEST in the same way."""
        if flow.key is not None and not (message.has_auth and is_signed_by(octets, way, flow.key)):
            self.counters["flow_auth"] += 1
            return []
        if flow.state is FlowState.ASKED:
            return [self._send_to(way, Message(Kind.WAIT, flow.caller_nonce), flow.key)]
        return self._offer(flow) if flow.port else []

    def _key_of(self, held: HeldName | None, message: Message, octets: bytes, way: Way) -> FlowKey | None:
        """The key that signs the answers: that of the name, or one that the caller has proved that we share."""
        if held is not None and held.key is not None:
            return held.key
        shared = self._key_for(way.source) if message.has_auth else None
        return shared if shared is not None and is_signed_by(octets, way, shared) else None

    def _add(self, held: HeldName, message: Message, way: Way, now: float, key: FlowKey | None) -> Flow:
        state = FlowState.ASKED if held.asks_program else FlowState.OFFERED
        flow = Flow(
            self._new_id(),
            fold(held.name),
            way.destination,
            way.source,
            way.source_port,
            message.caller_nonce,
            self._new_nonce(),
            message.quality or Quality(),
            message.lifetime_s or 0,
            key,
            state,
            now + OFFER_S,
            since=now,
        )
        self._flows.add(flow)
        return flow

    def _ask(self, flow: Flow, caller_says: str) -> FlowEffect:
        return AskProgram(flow.flow, flow.name, flow.caller, caller_says, flow.wish)

    def _offer(self, flow: Flow) -> list[FlowEffect]:
        """Send the ACCEPT twice: from the flow's port to open our firewall, from the control port to pass theirs."""
        message = Message(
            Kind.ACCEPT,
            flow.caller_nonce,
            flow.holder_nonce,
            flow_port=flow.port,
            lifetime_s=flow.lifetime_s or None,
            quality=flow.wish if flow.wish != Quality() else None,
        )
        return [self._send(flow, message, outlet, flow.caller_port) for outlet in (Outlet.FLOW, Outlet.CONTROL)]

    def _echo(self, flow: Flow) -> FlowEffect:
        return SendFlowMessage(flow.flow, flow.caller_nonce[2:], Outlet.FLOW, flow.own, flow.caller, flow.caller_port)

    def _open(self, flow: Flow, now: float) -> list[FlowEffect]:
        """The caller is confirmed: open the flow, and end an earlier flow of the same socket."""
        former = self._flows.open_of(flow.caller, flow.caller_port)
        ended = [] if former is None else [FlowEnded(former.flow, Reason.REPLACED), *self._close(former, now)]
        self._flows.move(flow, FlowState.OPEN)
        self._flows.wait(flow, NEVER if flow.is_legacy else self._silence_ends(flow, now))
        nonces = None if flow.is_legacy else (flow.caller_nonce, flow.holder_nonce)
        opened = FlowOpened(
            flow.flow, flow.name, flow.caller, flow.caller_port, flow.wish, flow.lifetime_s, nonces, flow.control_port
        )
        return [*ended, opened]

    def _silence_ends(self, flow: Flow, now: float) -> float:
        return now + flow.lifetime_s + SILENCE_S if flow.lifetime_s else NEVER

    def _on_close_without_holder(self, message: Message, octets: bytes, way: Way, now: float) -> list[FlowEffect]:
        """Answer the CLOSE of a caller that has no ACCEPT yet, or of a flow that is no longer known."""
        flow = self._flows.of_call(way.source, message.caller_nonce)
        if flow is not None and (flow.state is FlowState.OPEN or flow.is_legacy):
            flow = None  # closing an open flow takes both nonces
        if flow is not None and flow.key is not None and not (message.has_auth and is_signed_by(octets, way, flow.key)):
            self.counters["flow_auth"] += 1
            return []
        if not self._unproved.take(way.source, now):
            self.counters["flow_rate"] += 1
            return []
        reply = Message(Kind.CLOSE, message.caller_nonce, message.holder_nonce, is_reply=True)
        forgotten = [] if flow is None else self._forget(flow)
        return [self._send_to(way, reply, flow.key if flow is not None else None), *forgotten]

    def _refuse(self, flow: Flow, reason: Reason) -> list[FlowEffect]:
        if flow.is_legacy:
            return self._forget(flow)
        message = Message(Kind.REFUSE, flow.caller_nonce, flow.holder_nonce, reason_code=reason)
        return [self._send(flow, message, Outlet.CONTROL, flow.caller_port), *self._forget(flow)]

    def _end(self, flow: Flow, reason: Reason, now: float) -> list[FlowEffect]:
        """End an open flow: repeat the CLOSE until the caller answers; without it the end shows only after LIFETIME."""
        closed = self._close(flow, now)
        flow.closes, flow.reason = len(CLOSE_TRIES_S), reason
        return [self._send_close(flow, now), *closed]

    def _send_close(self, flow: Flow, now: float) -> FlowEffect:
        wait_s = CLOSE_TRIES_S[len(CLOSE_TRIES_S) - flow.closes]
        flow.closes -= 1
        self._flows.wait(flow, now + (wait_s if flow.closes else CLOSED_S))
        message = Message(Kind.CLOSE, flow.caller_nonce, flow.holder_nonce, reason_code=flow.reason)
        return self._send(flow, message, Outlet.CONTROL, flow.control_port)

    def _close(self, flow: Flow, now: float) -> list[FlowEffect]:
        """Close the socket, and keep the nonces for a while to answer a repeated CLOSE."""
        self._flows.move(flow, FlowState.CLOSED)
        self._flows.wait(flow, now + CLOSED_S)
        return [ForgetFlow(flow.flow)]

    def _forget(self, flow: Flow) -> list[FlowEffect]:
        was_closed = flow.state is FlowState.CLOSED
        self._flows.remove(flow)
        return [] if was_closed else [ForgetFlow(flow.flow)]

    # --- limits

    def _is_full(self, held: HeldName, caller: IpAddress) -> bool:
        limits, count, name = self._limits, self._flows.count, fold(held.name)
        return (
            count() >= limits.flows
            or count("name", name) >= limits.flows_per_name
            or count("peer", caller) >= limits.flows_per_peer
            or self._flows.pending >= limits.pending
            or count("peer", caller, "pending") >= limits.pending_per_peer
            or count("name", name, FlowState.ASKED) >= held.backlog
            or (held.asks_program and count("peer", caller, "pending") >= max(1, held.backlog // 2))
        )

    def _wants_cookie(self, held: HeldName, caller: IpAddress) -> bool:
        """Whether half of the places are taken: of all, of the name, or of this caller's address."""
        limits, count = self._limits, self._flows.count
        return (
            self._flows.pending >= limits.pending // 2
            or count("name", fold(held.name)) >= limits.flows_per_name // 2
            or count("peer", caller) >= limits.flows_per_peer // 2
            or count("peer", caller, "pending") >= limits.pending_per_peer // 2
        )

    def _send_cookie(
        self, held: HeldName | None, message: Message, octets: bytes, way: Way, now: float
    ) -> list[FlowEffect]:
        """Send a cookie and keep no state; a caller with a genuine address repeats its REQUEST with the cookie."""
        if not self._cookies.take(way.source, now):
            return []
        cookie = self._baker.make(way, message.caller_nonce, now)
        wait = Message(Kind.WAIT, message.caller_nonce, cookie=cookie)
        return [self._send_to(way, wait, self._key_of(held, message, octets, way))]

    # --- sending

    def _say_no(
        self, message: Message, way: Way, reason: Reason, text: str = "", key: FlowKey | None = None
    ) -> list[FlowEffect]:
        if self._is_quiet and reason in (Reason.NO_SUCH_NAME, Reason.NOT_ALLOWED):
            return []
        refusal = Message(Kind.REFUSE, message.caller_nonce, reason_code=reason, reason_text=text)
        return [self._send_to(way, refusal, key)]

    def _reply(self, flow: Flow, kind: Kind, way: Way) -> FlowEffect:
        return self._send_to(way, Message(kind, flow.caller_nonce, flow.holder_nonce, is_reply=True), flow.key)

    def _send_to(self, way: Way, message: Message, key: FlowKey | None) -> FlowEffect:
        """Answer to the sender, from the address that the message was sent to."""
        octets = encode(message)
        if key is not None:
            octets = sign(octets, way.reversed(), key)
        return SendFlowMessage(0, octets, Outlet.CONTROL, way.destination, way.source, way.source_port)

    def _send(self, flow: Flow, message: Message, outlet: Outlet, port: int) -> FlowEffect:
        octets = encode(message)
        if flow.key is not None:
            own_port = flow.port if outlet is Outlet.FLOW else self._port
            octets = sign(octets, Way(flow.own, own_port, flow.caller, port), flow.key)
        return SendFlowMessage(flow.flow, octets, outlet, flow.own, flow.caller, port)

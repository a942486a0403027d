"""Looks up keys alone, when an RTR looks up the mappings because the node is behind a NAT. Pure.

How it works. Behind a NAT all packets go to an RTR by a default mapping, and the RTR asks the mapping system, which
proves nothing to us. So the datapath reports now and then which EIDs match only a default entry. For each we send a
Map-Request with LISP-SEC (RFC 9303); the Map-Reply reaches us at the address and port that the NAT gives our control
port. Packets still go through the RTR, sealed for the owner of the key in it. The locators in it are used only when no
RTR answers any more (`spare_mappings.py`).

`ItrSecurity` decides how to ask a Map-Resolver that has not shown LISP-SEC; without a genuine answer there is no key.
An EID with traffic is looked up again after a minute, and at growing intervals if it has no key.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import Final

import msgspec

from lispmob.control.itr_security import ItrSecurity
from lispmob.errors import MalformedMessage
from lispmob.protocol.effect import Count, MachineEffect, SendControl, WaysInDoubt
from lispmob.protocol.rate_limit import TokenBucket
from lispmob.wire.address import EidPrefix, IpAddress
from lispmob.wire.ecm import EncapsulatedControl
from lispmob.wire.eid import from_prefix
from lispmob.wire.header import CONTROL_PORT
from lispmob.wire.key_record import KeyRecord, take_key_record
from lispmob.wire.map_reply import MapReply
from lispmob.wire.map_request import EidRecord, MapRequest
from lispmob.wire.record import MappingRecord

ANSWER_S: Final = 1.0  # ours
TRIES: Final = 3
AGAIN_S: Final = 60.0  # ours: a key may be replaced by another one
REST_MAX_S: Final = 900.0  # ours: without a key; doubles up to this
QUESTIONS_MAX: Final = 256  # ours: including those that wait for their repetition
INTERVAL_S: Final = 0.2  # ours: between Map-Requests
BURST: Final = 16
# Any host can send a handshake in the name of any EID: what they cause takes nothing from the EIDs that packets go to.
STRANGE_MAX: Final = 64  # ours: questions about initiators alone, among QUESTIONS_MAX
STRANGE_INTERVAL_S: Final = 0.5
STRANGE_BURST: Final = 16


class Outside(msgspec.Struct, frozen=True):
    """Where an answer reaches us: our control port as the NAT maps it. `server` told us so."""

    local: IpAddress
    ifindex: int
    address: IpAddress
    port: int
    server: IpAddress


class Found(msgspec.Struct, frozen=True):
    """The key in a genuine answer; None: the EID-Prefix has none. `record`: the mapping without it."""

    prefix: EidPrefix
    keys: KeyRecord | None
    record: MappingRecord


class _Question(msgspec.Struct):
    eid: EidPrefix
    own: EidPrefix
    is_strange: bool = False
    """Asked because of a handshake, and of nothing else."""
    tries: int = 0
    wake_at: float | None = None
    """When the next try is due; None: idle."""
    rests_until: float = 0.0
    rest_s: float = AGAIN_S
    asked_at: float = 0.0  # when the first of these tries was sent
    nonces: dict[int, tuple[bytes, IpAddress]] = msgspec.field(default_factory=dict)
    """An open request: its One-Time-Key, and the Map-Resolver."""


class KeyLookups:
    """Must be told of EIDs that get packets, or that handshakes come from."""

    def __init__(self, security: ItrSecurity, new_nonce: Callable[[], int]) -> None:
        self._security = security
        self._new_nonce = new_nonce
        self._outside: Outside | None = None
        self._resolvers: tuple[IpAddress, ...] = ()
        self._questions: OrderedDict[EidPrefix, _Question] = OrderedDict()
        self._bucket = TokenBucket(INTERVAL_S, BURST)
        self._strange_bucket = TokenBucket(STRANGE_INTERVAL_S, STRANGE_BURST)
        self._heard_at: dict[IpAddress, float] = {}  # when each Map-Resolver last answered anything else

    def wake_at(self) -> float | None:
        """When to call on_timer, in monotonic seconds."""
        times = (question.wake_at for question in self._questions.values())
        return min((at for at in times if at is not None), default=None)

    def on_outside(self, outside: Outside | None, resolvers: Iterable[IpAddress]) -> None:
        """Our control port is reachable there now; None: no answer can reach us, or none is needed."""
        if outside != self._outside:
            self._questions.clear()
        self._outside = outside
        self._resolvers = tuple(resolvers)

    def on_wanted(self, own: EidPrefix, eid: EidPrefix, now: float, *, is_strange: bool = False) -> list[MachineEffect]:
        """Packets of `own` go to this EID, or a handshake came from it (`is_strange`); both are hosts."""
        known = self._questions.get(eid)
        if known is not None and not is_strange:
            known.is_strange = False
        if self._outside is None or (known is not None and (known.wake_at is not None or now < known.rests_until)):
            return []
        question = known or _Question(eid, own, is_strange)
        question.own, question.tries = own, 0
        self._questions[eid] = question
        self._questions.move_to_end(eid)
        self._make_room()
        resolver = self._resolver(self._outside)
        if resolver is None:
            self._rest(question, AGAIN_S, now)
            return []
        return self._try(question, self._outside, resolver, now)

    def _make_room(self) -> None:
        strange = [eid for eid, question in self._questions.items() if question.is_strange]
        too_many = max(len(strange) - STRANGE_MAX, min(len(self._questions) - QUESTIONS_MAX, len(strange)), 0)
        for eid in strange[:too_many]:
            del self._questions[eid]
        while len(self._questions) > QUESTIONS_MAX:
            self._questions.popitem(last=False)

    def on_server_heard(self, server: IpAddress, now: float) -> None:
        """This host of the mapping system has answered something."""
        if server in self._resolvers:
            self._heard_at[server] = now

    def expects(self, nonce: int) -> bool:
        """True when a Map-Reply with this nonce would answer a request of ours."""
        return any(nonce in question.nonces for question in self._questions.values())

    def on_map_reply(self, reply: MapReply, raw: bytes, now: float) -> tuple[list[Found], list[MachineEffect]]:
        """A Map-Reply with a nonce of ours. One that is not genuine leaves the request open."""
        question = next(question for question in self._questions.values() if reply.nonce in question.nonces)
        otk, resolver = question.nonces[reply.nonce]
        eids, effects = self._security.verify(reply, raw, otk, question.eid, resolver, now)
        if eids is None:
            return [], effects
        records, discarded = self._security.vouched(reply.records, eids, question.eid, resolver, now)
        effects += discarded
        found: list[Found] = []
        for record in records:
            prefix = record.eid_prefix
            try:
                bare, keys = take_key_record(record)
            except MalformedMessage as malformed:
                effects.append(Count(malformed.counter))
                continue
            if prefix is not None and prefix.covers(question.eid) and (bare.locators or keys is not None):
                found.append(Found(prefix, keys, bare))
        has_key = any(one.keys is not None for one in found)
        self._rest(question, AGAIN_S if has_key else min(2 * question.rest_s, REST_MAX_S), now)
        return found, effects

    def on_timer(self, now: float) -> list[MachineEffect]:
        """A deadline may have passed."""
        effects: list[MachineEffect] = []
        for question in [*self._questions.values()]:
            if question.wake_at is None or now < question.wake_at:
                continue
            resolver = None if self._outside is None else self._resolver(self._outside)
            if question.tries >= TRIES or self._outside is None or resolver is None:
                # Without any other answer the NAT may have given our control port another place.
                is_heard = resolver is not None and self._heard_at.get(resolver, float("-inf")) >= question.asked_at
                if resolver is not None and question.nonces and is_heard:
                    effects += self._security.on_unanswered(question.eid, resolver, now)
                self._rest(question, AGAIN_S, now)
            else:
                effects += [WaysInDoubt()] if question.nonces else []
                effects += self._try(question, self._outside, resolver, now)
        return effects

    def _try(self, question: _Question, outside: Outside, resolver: IpAddress, now: float) -> list[MachineEffect]:
        """Ask if the Map-Resolver is known to support LISP-SEC, or is to be tried: otherwise it may be known soon."""
        if question.nonces or True in self._security.ways(resolver, now):
            return self._ask(question, outside, resolver, now)
        question.tries += 1
        question.wake_at = now + ANSWER_S
        return []

    def _resolver(self, outside: Outside) -> IpAddress | None:
        """Prefer the server that reported our outside address: the NAT may use another port towards others."""
        fitting = [resolver for resolver in self._resolvers if resolver.version == outside.address.version]
        return outside.server if outside.server in fitting else next(iter(fitting), None)

    def _rest(self, question: _Question, rest_s: float, now: float) -> None:
        question.rest_s, question.rests_until, question.wake_at = rest_s, now + rest_s, None
        question.nonces.clear()

    def _ask(self, question: _Question, outside: Outside, resolver: IpAddress, now: float) -> list[MachineEffect]:
        question.wake_at = now + ANSWER_S
        if not (self._strange_bucket if question.is_strange else self._bucket).take(now):
            return []  # with the next try
        question.asked_at = question.asked_at if question.tries else now
        question.tries += 1
        nonce = self._new_nonce()
        otk, authentication = self._security.protect(nonce, resolver)
        question.nonces[nonce] = otk, resolver
        request = MapRequest(
            nonce, from_prefix(question.own), (outside.address,), (EidRecord.of(question.eid),)
        ).encode()
        ecm = EncapsulatedControl(
            source=question.own.address,
            source_port=outside.port,
            destination=question.eid.address,
            destination_port=CONTROL_PORT,
            message=request,
            authentication=authentication,
        )
        sent = SendControl(ecm.encode(), resolver, source=outside.local, ifindex=outside.ifindex)
        return [sent, Count("tx_map_request")]

"""Asks the mapping system for our own EIDs, as a peer would, and compares the answers.

One Map-Request (RFC 9301, 5.2) for each EID and Map-Resolver, in an ECM; a second one if the first is not answered
within a second. A Map-Server that does not answer for us forwards the request to us: that shows that it knows our
locators. The result is only displayed and decides nothing, so an answer is accepted by its nonce alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Final, Literal, TypeAlias

import msgspec

from lispmob.errors import MalformedMessage
from lispmob.protocol.effect import CONTROL_PORT, SendControl
from lispmob.protocol.locator_set import LocatorSet
from lispmob.wire.address import EidPrefix, IpAddress
from lispmob.wire.ecm import EncapsulatedControl
from lispmob.wire.eid import from_prefix
from lispmob.wire.header import MessageType
from lispmob.wire.map_reply import MapReply
from lispmob.wire.map_request import EidRecord, MapRequest
from lispmob.wire.record import Locator, MappingRecord

ANSWER_S: Final = 1.0  # ours: as long as for a lookup
TRIES: Final = 2  # ours: one lost datagram proves nothing
ASKED_MAX: Final = 64  # ours: pairs of EID and Map-Resolver in a round

Answer: TypeAlias = Literal["record", "negative", "forwards", "silent", "cannot-ask"]


class Belief(msgspec.Struct, frozen=True):
    """The answer of one Map-Resolver for one EID. forwards: it had us answer ourselves, at `forwarded_to`."""

    eid: EidPrefix
    resolver: IpAddress
    answer: Answer
    locators: tuple[Locator, ...] = ()
    forwarded_to: IpAddress | None = None
    rtt_s: float | None = None


class _Question(msgspec.Struct):
    nonce: int
    source: IpAddress
    ifindex: int
    asked_at: float
    tries: int = 1


class Beliefs:
    """One round of requests at a time. `new_nonce` returns unpredictable 64-bit numbers."""

    def __init__(self, new_nonce: Callable[[], int]) -> None:
        self._new_nonce = new_nonce
        self._open: dict[tuple[EidPrefix, IpAddress], _Question] = {}
        self._found: list[Belief] = []

    @property
    def found(self) -> tuple[Belief, ...] | None:
        """The answers; None while some may still come."""
        return None if self._open else tuple(self._found)

    def wake_at(self) -> float | None:
        """When to call on_timer, in monotonic seconds."""
        return min((question.asked_at + ANSWER_S for question in self._open.values()), default=None)

    def begin(
        self, eids: Iterable[EidPrefix], resolvers: Sequence[IpAddress], locators: LocatorSet, now: float
    ) -> list[SendControl]:
        """Ask all Map-Resolvers for all EIDs, from our best locators."""
        self._open.clear()
        self._found = []
        effects: list[SendControl] = []
        for eid, resolver in [(eid, resolver) for eid in eids for resolver in resolvers][:ASKED_MAX]:
            uplink = locators.best(resolver.version)
            if uplink is None:
                self._found.append(Belief(eid, resolver, "cannot-ask"))
                continue
            self._open[eid, resolver] = _Question(self._new_nonce(), uplink.address, uplink.ifindex, now)
            effects.append(self._ask(eid, resolver))
        return effects

    def on_datagram(self, payload: bytes, destination: IpAddress, now: float) -> bool:
        """True when this answers a request of ours, or is a request of ours that was forwarded to us."""
        if not self._open or len(payload) < 12:
            return False
        kind = payload[0] >> 4
        if kind == MessageType.MAP_REPLY:
            return self._on_reply(payload, now)
        return kind == MessageType.ENCAPSULATED_CONTROL and self._on_request(payload, destination, now)

    def on_timer(self, now: float) -> list[SendControl]:
        """A deadline may have passed: ask again, or give up."""
        effects = []
        for (eid, resolver), question in list(self._open.items()):
            if now < question.asked_at + ANSWER_S:
                continue
            if question.tries < TRIES:
                question.tries, question.asked_at = question.tries + 1, now
                effects.append(self._ask(eid, resolver))
            else:
                self._conclude(Belief(eid, resolver, "silent"))
        return effects

    def _on_reply(self, payload: bytes, now: float) -> bool:
        asked = self._asked(int.from_bytes(payload[4:12]))
        if asked is None:
            return False
        eid, resolver, question = asked
        try:
            records = MapReply.decode(payload).records
        except MalformedMessage:
            return True  # it answers no other request either
        record = _best(records, eid)
        locators = () if record is None else record.locators
        answer: Answer = "record" if locators else "negative"
        self._conclude(Belief(eid, resolver, answer, locators, rtt_s=now - question.asked_at))
        return True

    def _on_request(self, payload: bytes, destination: IpAddress, now: float) -> bool:
        if not any(one.nonce.to_bytes(8, "big") in payload for one in self._open.values()):
            return False  # do not decode other messages for this
        try:
            nonce = MapRequest.decode(EncapsulatedControl.decode(payload).message).nonce
        except MalformedMessage:
            return False
        asked = self._asked(nonce)
        if asked is None:
            return False
        eid, resolver, question = asked
        belief = Belief(eid, resolver, "forwards", forwarded_to=destination, rtt_s=now - question.asked_at)
        self._conclude(belief)
        return True

    def _asked(self, nonce: int) -> tuple[EidPrefix, IpAddress, _Question] | None:
        return next(((*place, one) for place, one in self._open.items() if one.nonce == nonce), None)

    def _conclude(self, belief: Belief) -> None:
        self._open.pop((belief.eid, belief.resolver), None)
        self._found.append(belief)

    def _ask(self, eid: EidPrefix, resolver: IpAddress) -> SendControl:
        question, host = self._open[eid, resolver], EidPrefix.host(eid.address, eid.instance_id)
        request = MapRequest(
            nonce=question.nonce,
            source_eid=from_prefix(host),
            itr_rlocs=(question.source,),
            records=(EidRecord.of(host),),
        )
        inner = question.source if question.source.version == eid.family else eid.address
        ecm = EncapsulatedControl(inner, CONTROL_PORT, eid.address, CONTROL_PORT, request.encode())
        return SendControl(ecm.encode(), resolver, source=question.source, ifindex=question.ifindex)


def _best(records: Iterable[MappingRecord], eid: EidPrefix) -> MappingRecord | None:
    """The most specific record for an EID."""
    about = [
        (prefix.mask_len, number, record)
        for number, record in enumerate(records)
        if (prefix := record.eid_prefix) is not None and (prefix.covers(eid) or eid.covers(prefix))
    ]
    return max(about, key=lambda one: one[:2])[2] if about else None


def differences(said: Iterable[Locator], truth: Iterable[Locator]) -> list[str]:
    """The differences between an answer and our locators, a sentence each; the order of locators does not count."""
    reported = {locator.ip: locator for locator in said if locator.ip is not None}
    ours = {locator.ip: locator for locator in truth if locator.ip is not None}
    found = [f"{ip} is missing" for ip in ours if ip not in reported]
    found += [f"{ip} is not one of our locators" for ip in reported if ip not in ours]
    for ip in (ip for ip in ours if ip in reported):
        own, reported_one = ours[ip], reported[ip]
        if (own.priority, own.weight) != (reported_one.priority, reported_one.weight):
            numbers = f"{reported_one.priority}/{reported_one.weight}, not {own.priority}/{own.weight}"
            found.append(f"{ip} has priority and weight {numbers}")
        if own.is_reachable and not reported_one.is_reachable:
            found.append(f"{ip} is said to be unreachable")
    return found

"""Finds out why a Map-Server does not confirm a registration, by a Map-Request, which needs no key.

A Map-Register gets no answer at all if its key is wrong, if its EID belongs to no site, if the address has no
Map-Server, or if a firewall drops it. But a Map-Server answers a Map-Request (RFC 9301, 8.1) whatever the keys:

1. after an unconfirmed Map-Register, ask the Map-Server itself for our own EID;
2. a Map-Reply proves that it is up and that UDP port 4342 is open, so it refuses the registration. Its record says
   more (RFC 9301, 8.3): a negative one with a TTL of 15 minutes means that it has no site for this EID; a TTL of one
   minute, or locators, that it has a site, so the key must be wrong;
3. an ICMP error means that the host has no Map-Server, or that the network does not reach it;
4. no answer leaves a wrong address, or a filter on the path.

The result is only displayed and decides nothing, so an answer is accepted by its nonce alone.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from enum import Enum
from typing import Final, TypeAlias

import msgspec

from lispmob.errors import MalformedMessage
from lispmob.protocol.effect import CONTROL_PORT, SendControl
from lispmob.wire.address import EidPrefix, IpAddress
from lispmob.wire.ecm import EncapsulatedControl
from lispmob.wire.eid import from_prefix
from lispmob.wire.header import MessageType
from lispmob.wire.map_reply import MapReply
from lispmob.wire.map_request import EidRecord, MapRequest
from lispmob.wire.record import MappingRecord

ASK_AGAIN_S: Final = 10.0  # ours: a repair shows in the status soon, and no server is flooded
ANSWER_S: Final = 1.0  # ours: as long as the first wait of a Map-Register
TRIES: Final = 2  # ours: one lost datagram proves nothing
REFUSAL_HOLDS_S: Final = 60.0  # ours: routers limit their ICMP errors, and registers back off to a minute
MAX_OPEN: Final = 64  # ours: more EIDs than any node has
NO_SITE_TTL_MIN: Final = 15  # RFC 9301, 8.3: the TTL of a negative answer for an EID of no site

Place: TypeAlias = tuple[EidPrefix, IpAddress]
"""A local EID-Prefix and the Map-Server that it is registered with."""


class Finding(Enum):
    """Why a Map-Server does not confirm."""

    KNOWS_EID = "it answers questions, and has a site for this EID"
    NO_SITE = "it answers questions, and has no site for this EID"
    PORT_CLOSED = "ICMP port unreachable"
    UNREACHABLE = "ICMP: no way there"
    PROHIBITED = "ICMP: prohibited on the way"
    REFUSED_HERE = "a firewall of this host does not let the question out"
    SILENT = "no answer"


class _Question(msgspec.Struct):
    """An open request. `path`: the address and interface that it is sent from."""

    nonce: int
    path: tuple[IpAddress, int]
    asked_at: float
    tries: int = 0


class Diagnosis:
    """At most one request for each EID and Map-Server. `new_nonce` returns unpredictable 64-bit numbers."""

    def __init__(self, new_nonce: Callable[[], int]) -> None:
        self._new_nonce = new_nonce
        self._open: OrderedDict[Place, _Question] = OrderedDict()
        self._found: dict[Place, Finding] = {}
        self._asked_at: dict[Place, float] = {}
        self._refused_at: dict[Place, float] = {}

    def finding(self, eid: EidPrefix, server: IpAddress) -> Finding | None:
        """The result of the last request; None while the first is open, or if the registration is confirmed."""
        return self._found.get((eid, server))

    def wake_at(self) -> float | None:
        """When to call on_timer, in monotonic seconds."""
        return min((question.asked_at + ANSWER_S for question in self._open.values()), default=None)

    def on_unconfirmed(
        self, eid: EidPrefix, server: IpAddress, source: IpAddress, ifindex: int, now: float
    ) -> list[SendControl]:
        """A Map-Register that left from `source` by `ifindex` has not been confirmed in time."""
        place = eid, server
        last = self._asked_at.get(place)
        if place in self._open or len(self._open) >= MAX_OPEN or (last is not None and now < last + ASK_AGAIN_S):
            return []
        self._asked_at[place] = now
        self._open[place] = _Question(self._new_nonce(), (source, ifindex), now)
        return [self._ask(place)]

    def on_confirmed(self, eid: EidPrefix, server: IpAddress) -> None:
        """The registration is confirmed, or no longer wanted."""
        for known in (self._open, self._found, self._asked_at, self._refused_at):
            known.pop((eid, server), None)

    def on_datagram(self, payload: bytes) -> bool:
        """True when this answers a request of ours; all else is left to other machines."""
        if not self._open or len(payload) < 12 or payload[0] >> 4 != MessageType.MAP_REPLY:
            return False
        nonce = int.from_bytes(payload[4:12])
        place = next((place for place, one in self._open.items() if one.nonce == nonce), None)
        if place is None:
            return False
        try:
            records = MapReply.decode(payload).records
        except MalformedMessage:
            records = ()  # the server is up, whatever the message says
        self._conclude(place, _said(records, place[0]))
        return True

    def on_map_request(self, payload: bytes) -> bool:
        """True when a request of ours came back: the Map-Server has us answer ourselves, so it knows the EID."""
        if not self._open or len(payload) < 12 or payload[0] >> 4 != MessageType.ENCAPSULATED_CONTROL:
            return False
        if not any(question.nonce.to_bytes(8, "big") in payload for question in self._open.values()):
            return False  # do not decode other messages for this
        try:
            asked = MapRequest.decode(EncapsulatedControl.decode(payload).message)
        except MalformedMessage:
            return False
        place = next((place for place, one in self._open.items() if one.nonce == asked.nonce), None)
        if place is None:
            return False
        self._conclude(place, Finding.KNOWS_EID)
        return True

    def on_unreachable(self, server: IpAddress, finding: Finding, now: float) -> None:
        """An ICMP error, or this host's own firewall, answered a message to this Map-Server.

        It may come late: a router tries to resolve a host that is off for three seconds first.
        """
        silent = [place for place, found in self._found.items() if found is Finding.SILENT]
        for place in {*self._open, *silent}:
            if place[1] == server:
                self._refused_at[place] = now
                self._conclude(place, finding)

    def on_timer(self, now: float) -> list[SendControl]:
        """A deadline may have passed: ask again, or give up."""
        effects: list[SendControl] = []
        for place, question in list(self._open.items()):
            if now < question.asked_at + ANSWER_S:
                continue
            if question.tries < TRIES:
                question.asked_at = now
                effects.append(self._ask(place))
            elif now < self._refused_at.get(place, float("-inf")) + REFUSAL_HOLDS_S:
                self._open.pop(place)  # the ICMP error is still to come, or was rate-limited
            else:
                self._conclude(place, Finding.SILENT)
        return effects

    def _conclude(self, place: Place, finding: Finding) -> None:
        self._open.pop(place, None)
        self._found[place] = finding

    def _ask(self, place: Place) -> SendControl:
        (eid, server), question = place, self._open[place]
        question.tries += 1
        source, ifindex = question.path
        request = MapRequest(
            nonce=question.nonce,
            source_eid=from_prefix(EidPrefix.host(eid.address, eid.instance_id)),
            itr_rlocs=(source,),
            records=(EidRecord.of(EidPrefix.host(eid.address, eid.instance_id)),),
        )
        inner_source = source if source.version == eid.family else eid.address
        ecm = EncapsulatedControl(inner_source, CONTROL_PORT, eid.address, CONTROL_PORT, request.encode())
        return SendControl(ecm.encode(), server, source=source, ifindex=ifindex)


def _said(records: tuple[MappingRecord, ...], eid: EidPrefix) -> Finding:
    """The meaning of an answer about our own EID."""
    about = [record for record in records if (prefix := record.eid_prefix) is not None and _overlap(prefix, eid)]
    is_unknown = about and all(not record.locators and record.ttl_min >= NO_SITE_TTL_MIN for record in about)
    return Finding.NO_SITE if is_unknown else Finding.KNOWS_EID


def _overlap(one: EidPrefix, other: EidPrefix) -> bool:
    return one.covers(other) or other.covers(one)

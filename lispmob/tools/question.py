"""A question to a Map-Resolver, repeated until it is answered: the machine of `lig`. Pure.

    Lookup.on_timer  -> an Encapsulated Map-Request (RFC 9301, 5.8) with a new nonce, or None when the lookup is over
    Lookup.on_reply  -> a Map-Reply with one of these nonces is the answer; any other is ignored
    Lookup.on_icmp, on_refused, on_stray: possible reasons for a missing answer

RFC 6835 describes such a tool. The answer comes to the inner source port of the Map-Request. With LISP-SEC (RFC 9303) a
Map-Reply that is not authentic becomes a reason, and the lookup continues to wait for an authentic one.
"""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final, Literal, Protocol, TypeAlias

import msgspec

from lispmob.errors import MalformedMessage
from lispmob.wire.address import DistinguishedName, EidPrefix, IpAddress
from lispmob.wire.ecm import EncapsulatedControl
from lispmob.wire.header import CONTROL_PORT, MessageType
from lispmob.wire.lcaf_types import WireAddress
from lispmob.wire.map_reply import MapReply
from lispmob.wire.map_request import EidRecord, MapRequest
from lispmob.wire.name_eid import covers_name, folded, name_of
from lispmob.wire.record import MappingRecord

REASON_LIMIT: Final = 8  # ours: enough to explain a missing answer

ReasonKind: TypeAlias = Literal[
    "icmp",
    "no-route",
    "wrong-family",
    "wrong-nonce",
    "malformed",
    "wrong-eid",
    "wrong-type",
    "timeout",
    "sec-missing",
    "sec-forged",
    "sec-algorithm",
    "sec-overclaim",
    "sec-unsigned",
    "sec-unanswered",
]

Asked: TypeAlias = EidPrefix | DistinguishedName
"""The subject of a question: an EID-Prefix, or a name as an EID (RFC 9735)."""


class Reason(msgspec.Struct, frozen=True):
    """A possible reason for a missing answer."""

    kind: ReasonKind
    text: str


class Genuine(msgspec.Struct, frozen=True):
    """An authentic Map-Reply, without records outside of the EID-Prefixes that the Map-Server authenticates.

    `vouched`: those EID-Prefixes. `cannot_sign`: the Map-Server says that no ETR of the EID supports LISP-SEC.
    """

    reply: MapReply
    vouched: tuple[EidPrefix, ...]
    cannot_sign: bool = False


class Protects(Protocol):
    """LISP-SEC on the side of the ITR (lig_security.py)."""

    source_eid: WireAddress

    def protect(self, nonce: int) -> tuple[bytes, bytes]:
        """A One-Time-Key, and the AD of the ECM."""
        ...

    def verify(self, reply: MapReply, raw: bytes, otk: bytes, source: IpAddress) -> Genuine | Reason:
        """The authenticated part of a Map-Reply, or why nothing is authentic."""
        ...


class Answer(msgspec.Struct, frozen=True):
    """A Map-Reply and where it came from. `rtt_s` counts from the try with the same nonce. `genuine`: by LISP-SEC."""

    reply: MapReply
    source: IpAddress
    source_port: int
    rtt_s: float
    genuine: Genuine | None = None


class Asker(msgspec.Struct, frozen=True):
    """The sender of questions: `port` on each of `itr_rlocs`. Questions are sent from the first address."""

    itr_rlocs: tuple[IpAddress, ...]
    port: int

    def inner_source(self, family: int) -> IpAddress:
        """The source of the inner packet, in the EID's family; the unspecified address if we have none."""
        own = next((address for address in self.itr_rlocs if address.version == family), None)
        return own or (IPv4Address(0) if family == 4 else IPv6Address(0))


class Lookup:
    """Asks `resolver` for `asked` up to `tries` times, each time for `timeout_s`.

    `new_nonce` returns 64 random bits.
    """

    def __init__(
        self,
        asked: Asked,
        resolver: IpAddress,
        asker: Asker,
        new_nonce: Callable[[], int],
        *,
        tries: int,
        timeout_s: float,
        protection: Protects | None = None,
    ) -> None:
        self.asked = asked
        self.resolver = resolver
        self.asker = asker
        self.answer: Answer | None = None
        self.reasons: list[Reason] = []
        self.tries = 0
        self._new_nonce = new_nonce
        self._most_tries = tries
        self._timeout_s = timeout_s
        self._protection = protection
        self._sent: dict[int, tuple[float, bytes]] = {}  # by nonce: time of sending, and the One-Time-Key
        self._wake_at: float | None = 0.0

    @property
    def is_over(self) -> bool:
        """True when there is an answer, or when the last try has timed out."""
        return self._wake_at is None

    def wake_at(self) -> float | None:
        """When on_timer is due, in monotonic seconds; None when the lookup is over."""
        return self._wake_at

    def on_timer(self, now: float) -> bytes | None:
        """The datagram to send to port 4342 of the resolver; None when no try is due."""
        if self._wake_at is None or now < self._wake_at:
            return None
        if self.tries == self._most_tries:
            self._give_up()
            return None
        self.tries += 1
        self._wake_at = now + self._timeout_s
        nonce = self._new_nonce()
        otk, ad = self._protection.protect(nonce) if self._protection is not None else (b"", None)
        self._sent[nonce] = now, otk
        return self._question(nonce, ad)

    def on_reply(self, reply: MapReply, raw: bytes, source: IpAddress, source_port: int, now: float) -> bool:
        """A Map-Reply has arrived. Returns True when it has one of our nonces, whatever its source."""
        sent = self._sent.get(reply.nonce)
        if sent is None or self.is_over:
            return False
        sent_at, otk = sent
        genuine = None
        if self._protection is not None:
            checked = self._protection.verify(reply, raw, otk, source)
            if isinstance(checked, Reason):
                self._explain(checked)
                return True
            genuine, reply = checked, checked.reply
            if checked.cannot_sign and not any(record.locators for record in reply.records):
                self._explain(Reason("sec-unsigned", "the Map-Server vouches that no ETR of this EID can sign"))
        if not any(is_about(record, self.asked) for record in reply.records):
            self._explain(
                Reason("wrong-eid", f"{source} answered about {_listed(reply, self.asked)}, not about {self.asked}")
            )
            return True
        self.answer = Answer(reply, source, source_port, now - sent_at, genuine)
        self._wake_at = None
        return True

    def on_icmp(self, reason: str) -> None:
        """ICMP reports that a question was not delivered. It can be forged, so the lookup continues."""
        self._explain(Reason("icmp", reason))

    def on_refused(self, why: str) -> None:
        """The kernel refused to send the question: there is no route to the resolver."""
        self._explain(Reason("no-route", why))
        self._wake_at = None

    def on_stray(self, reason: Reason) -> None:
        """A message that is no answer has arrived at our port."""
        self._explain(reason)

    def _give_up(self) -> None:
        self._wake_at = None
        waited = f"{self.tries} x {self._timeout_s:g} s"
        self._explain(Reason("timeout", f"no answer within {waited} from {self.resolver} port {CONTROL_PORT}"))
        if self._protection is not None:
            told = "LISP-SEC is asked for: it may not know it, or not have this key"
            self._explain(Reason("sec-unanswered", f"{self.resolver}: {told}"))
        hidden = next((address for address in self.asker.itr_rlocs if address.is_private), None)
        if hidden is not None and self.resolver.is_global:
            told = "it is told to answer to the private address"
            self._explain(Reason("timeout", f"{told} {hidden}, and not every resolver answers through a NAT"))

    def _explain(self, reason: Reason) -> None:
        if reason not in self.reasons and len(self.reasons) < REASON_LIMIT:
            self.reasons.append(reason)

    def _question(self, nonce: int, ad: bytes | None) -> bytes:
        asked, port = self.asked, self.asker.port
        if isinstance(asked, DistinguishedName):
            # A name has no address: the inner header gets the destination of the outer header.
            record, inner = EidRecord(asked, 0), self.resolver
        else:
            record, inner = EidRecord.of(asked), asked.address
        source_eid = self._protection.source_eid if self._protection is not None else None
        message = MapRequest(nonce, source_eid, self.asker.itr_rlocs, (record,)).encode()
        return EncapsulatedControl(
            self.asker.inner_source(inner.version), port, inner, CONTROL_PORT, message, authentication=ad
        ).encode()


def is_about(record: MappingRecord, asked: Asked) -> bool:
    """Whether a record answers this question."""
    if isinstance(asked, DistinguishedName):
        return name_of(record.eid) == folded(asked.name) or covers_name(record, folded(asked.name))
    prefix = record.eid_prefix
    return prefix is not None and (prefix.covers(asked) or asked.covers(prefix))


def _listed(reply: MapReply, asked: Asked) -> str:
    """The EIDs that a Map-Reply is about instead."""
    found = [prefix for record in reply.records if (prefix := record.eid_prefix) is not None]
    if isinstance(asked, DistinguishedName):
        return ", ".join(str(record.eid) for record in reply.records) or "nothing"
    family = "" if any(prefix.family == asked.family for prefix in found) else " of the wrong family"
    return (", ".join(map(str, found)) or "no IP prefix") + family


def read_reply(datagram: bytes, source: IpAddress) -> MapReply | Reason:
    """A Map-Reply, or why the datagram from `source` is none."""
    kind = datagram[0] >> 4 if datagram else 0
    if kind == MessageType.MAP_REFERRAL:
        return Reason("wrong-type", f"{source} sent a Map-Referral: it is a DDT node, and no Map-Resolver")
    if datagram and kind != MessageType.MAP_REPLY:
        return Reason("wrong-type", f"{source} sent a message of type {kind} instead of a Map-Reply")
    try:
        return MapReply.decode(datagram)
    except MalformedMessage as error:
        return Reason("malformed", f"{source} sent a malformed Map-Reply: {error.why}")


def on_datagram(lookups: list[Lookup], datagram: bytes, source: str, source_port: int, now: float) -> None:
    """Pass a datagram to the lookup that it answers, or else to all lookups whose answer it may have been."""
    sender = ip_address(source.partition("%")[0])
    read = read_reply(datagram, sender)
    if isinstance(read, MapReply):
        if any(lookup.on_reply(read, datagram, sender, source_port, now) for lookup in lookups):
            return
        read = Reason("wrong-nonce", f"{sender} sent a Map-Reply with the wrong nonce {read.nonce:#018x}")
    pending = [lookup for lookup in lookups if not lookup.is_over]
    for lookup in [lookup for lookup in pending if lookup.resolver == sender] or pending:
        lookup.on_stray(read)

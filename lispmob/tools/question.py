"""One question to one Map-Resolver, asked again until it is answered: the machine of `lig`. Pure.

    Lookup.on_timer  -> an Encapsulated Map-Request (RFC 9301, 5.8) with a nonce of its own, or None when it is over
    Lookup.on_reply  -> the Map-Reply that repeats one of these nonces is the answer; all others explain nothing
    Lookup.on_icmp, on_refused, on_stray: what may explain a silence

RFC 6835 describes such a tool. The port that the answer comes to is the inner source port of the Map-Request.
"""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final, Literal, TypeAlias

from lispmob.errors import MalformedMessage
from lispmob.values import dataclass
from lispmob.wire.address import EidPrefix, IpAddress
from lispmob.wire.ecm import EncapsulatedControl
from lispmob.wire.header import CONTROL_PORT, MessageType
from lispmob.wire.map_reply import MapReply
from lispmob.wire.map_request import EidRecord, MapRequest

REASON_LIMIT: Final = 8  # ours: more sentences explain nothing better

ReasonKind: TypeAlias = Literal[
    "icmp", "no-route", "wrong-family", "wrong-nonce", "malformed", "wrong-eid", "wrong-type", "timeout"
]


@dataclass(frozen=True, slots=True)
class Reason:
    """Why there may be no answer."""

    kind: ReasonKind
    text: str


@dataclass(frozen=True, slots=True)
class Answer:
    """A Map-Reply and how it came; `rtt_s` is from the try whose nonce it repeats."""

    reply: MapReply
    source: IpAddress
    source_port: int
    rtt_s: float


@dataclass(frozen=True, slots=True)
class Asker:
    """Who asks: `port` on each of `itr_rlocs`. The first is the address that the question leaves from."""

    itr_rlocs: tuple[IpAddress, ...]
    port: int

    def inner_source(self, family: int) -> IpAddress:
        """The source of the inner packet, which is of the EID's family; the unspecified address when we have none."""
        own = next((address for address in self.itr_rlocs if address.version == family), None)
        return own or (IPv4Address(0) if family == 4 else IPv6Address(0))


class Lookup:
    """Asks `resolver` for `asked` up to `tries` times, each time for `timeout_s`. `new_nonce` gives 64 random bits."""

    def __init__(
        self,
        asked: EidPrefix,
        resolver: IpAddress,
        asker: Asker,
        new_nonce: Callable[[], int],
        *,
        tries: int,
        timeout_s: float,
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
        self._sent_at: dict[int, float] = {}
        self._wake_at: float | None = 0.0

    @property
    def is_over(self) -> bool:
        """True when there is an answer, or nothing more is waited for."""
        return self._wake_at is None

    def wake_at(self) -> float | None:
        """When on_timer is due; None when it is over."""
        return self._wake_at

    def on_timer(self, now: float) -> bytes | None:
        """The datagram to send to port 4342 of the resolver; None when it is too early, or over."""
        if self._wake_at is None or now < self._wake_at:
            return None
        if self.tries == self._most_tries:
            self._give_up()
            return None
        self.tries += 1
        self._wake_at = now + self._timeout_s
        nonce = self._new_nonce()
        self._sent_at[nonce] = now
        return self._question(nonce)

    def on_reply(self, reply: MapReply, source: IpAddress, source_port: int, now: float) -> bool:
        """A Map-Reply came. True when it answers this question, whoever sent it: it knows the nonce."""
        sent_at = self._sent_at.get(reply.nonce)
        if sent_at is None or self.is_over:
            return False
        found = [prefix for record in reply.records if (prefix := record.eid_prefix) is not None]
        if not any(prefix.covers(self.asked) or self.asked.covers(prefix) for prefix in found):
            listed = ", ".join(map(str, found)) or "no IP prefix"
            family = "" if any(prefix.family == self.asked.family for prefix in found) else " of the wrong family"
            self._explain(Reason("wrong-eid", f"{source} answered about {listed}{family}, not about {self.asked}"))
            return True
        self.answer = Answer(reply, source, source_port, now - sent_at)
        self._wake_at = None
        return True

    def on_icmp(self, reason: str) -> None:
        """ICMP says that a question did not arrive. Anybody can forge that, so the waiting goes on."""
        self._explain(Reason("icmp", reason))

    def on_refused(self, why: str) -> None:
        """The kernel did not take the question: there is no way to the resolver from here."""
        self._explain(Reason("no-route", why))
        self._wake_at = None

    def on_stray(self, reason: Reason) -> None:
        """Something came to our port that is no answer."""
        self._explain(reason)

    def _give_up(self) -> None:
        self._wake_at = None
        waited = f"{self.tries} x {self._timeout_s:g} s"
        self._explain(Reason("timeout", f"no answer within {waited} from {self.resolver} port {CONTROL_PORT}"))
        hidden = next((address for address in self.asker.itr_rlocs if address.is_private), None)
        if hidden is not None and self.resolver.is_global:
            told = "it is told to answer to the private address"
            self._explain(Reason("timeout", f"{told} {hidden}, and not every resolver answers through a NAT"))

    def _explain(self, reason: Reason) -> None:
        if reason not in self.reasons and len(self.reasons) < REASON_LIMIT:
            self.reasons.append(reason)

    def _question(self, nonce: int) -> bytes:
        request = MapRequest(nonce, None, self.asker.itr_rlocs, (EidRecord.of(self.asked),))
        asked = self.asked
        inner_source = self.asker.inner_source(asked.family)
        message = request.encode()
        return EncapsulatedControl(inner_source, self.asker.port, asked.address, CONTROL_PORT, message).encode()


def read_reply(datagram: bytes, source: IpAddress) -> MapReply | Reason:
    """A Map-Reply, or why what `source` sent is none."""
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
    """Give a datagram to the lookup that it answers, or else to all that may have lost their answer by it."""
    sender = ip_address(source.partition("%")[0])
    read = read_reply(datagram, sender)
    if isinstance(read, MapReply):
        if any(lookup.on_reply(read, sender, source_port, now) for lookup in lookups):
            return
        read = Reason("wrong-nonce", f"{sender} sent a Map-Reply with the wrong nonce {read.nonce:#018x}")
    pending = [lookup for lookup in lookups if not lookup.is_over]
    for lookup in [lookup for lookup in pending if lookup.resolver == sender] or pending:
        lookup.on_stray(read)

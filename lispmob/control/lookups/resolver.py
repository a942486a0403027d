"""Looks up EIDs in the mapping system: Map-Requests in ECMs, with fail-over, rate limits and a bounded number of tries.

Four things start a lookup: a packet without a mapping, a mapping in use that is about to expire, an SMR, and data whose
sender its mapping does not name. They differ in what a failure means, so a lookup keeps its reason; the requests are
the same. The last two are claims of others: they have a limited share of the table and their own rate, and each cached
prefix has one at a time.

`itr_security.py` decides whether a Map-Request has LISP-SEC, and whether the reply is genuine; its key is kept with the
nonce here.
"""

from __future__ import annotations

import dataclasses
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from lispmob.control.itr_security import ItrSecurity
from lispmob.control.lookups.askable import Askable
from lispmob.control.lookups.lookup import AGAIN_S, Lookup, Reason, State
from lispmob.control.lookups.lookup_limits import RETRY_S, LookupLimits
from lispmob.control.lookups.prepared import Prepared, Ready, Terms
from lispmob.protocol.acceptance import Guard, accept_records
from lispmob.protocol.agenda import Agenda
from lispmob.protocol.effect import (
    CONTROL_PORT,
    Count,
    DropPending,
    Event,
    LookupFailed,
    MachineEffect,
    MappingLearned,
    MappingWanted,
    PreparedSent,
    SendControl,
    WayAnswered,
    WaysInDoubt,
)
from lispmob.protocol.locator_set import LocalLocator, LocatorSet, Place
from lispmob.protocol.rate_limit import TokenBucket
from lispmob.wire.address import EidPrefix, IpAddress
from lispmob.wire.ecm import EncapsulatedControl
from lispmob.wire.eid import from_prefix
from lispmob.wire.lcaf_types import WireAddress
from lispmob.wire.map_reply import MapReply
from lispmob.wire.map_request import EidRecord, MapRequest
from lispmob.wire.record import MappingRecord

MAX_TRIES = 10  # RFC 9301, 5.3: then give up for a while
NONCE_LIFETIME_S = 30.0  # ours: how late a reply may come
MAX_NONCES = 1024  # ours: see the limits in the error catalogue
MAX_LOOKUPS = 1024  # ours: a lookup costs about a kilobyte
MAX_CLAIMS = 64  # ours: open lookups for claims; misses and refreshes have the rest of the table
MAX_STRANGE = 48  # ours: of those, for data and for SMRs from unknown senders; peers have the rest
DOUBT_TRIES = 3  # ours: nothing waits for the answer
LIMITED_EVENT_S = 10.0  # ours


@dataclass(frozen=True, slots=True)
class _Transmission:
    lookup: Lookup
    sent_at: float
    itr_rlocs: tuple[IpAddress, ...]
    resolver: IpAddress
    uplink: LocalLocator
    otk: bytes | None = dataclasses.field(default=None, repr=False)


class Resolver:
    """All open lookups of a node. The call that starts a lookup returns its first Map-Request.

    `has_program`: a program on this host answers too. Without a Map-Resolver it alone is asked, at the same rate.
    """

    def __init__(
        self,
        map_resolvers: Sequence[IpAddress],
        *,
        new_nonce: Callable[[], int],
        security: ItrSecurity | None = None,
        eids: Sequence[EidPrefix] = (),
        has_program: bool = False,
        draw: Callable[[], int] | None = None,
    ) -> None:
        """`eids`: our own; one of them identifies the asker where LISP-SEC needs that.

        `draw`: nonces of Map-Requests that the datapath may send; None: it sends none.
        """
        self._askable = Askable(map_resolvers)
        self._has_program = has_program
        self._new_nonce = new_nonce
        self._security = security or ItrSecurity("off", {})
        self._prepared = None if draw is None else Prepared(draw, self._security.protect)
        self._eids = tuple(eids)
        self._lookups: dict[EidPrefix, Lookup] = {}
        self._claims: dict[EidPrefix, Lookup] = {}  # the open lookups that claims caused, by the cached prefix
        self._agenda: Agenda[EidPrefix] = Agenda()
        self._transmissions: OrderedDict[int, _Transmission] = OrderedDict()  # by nonce, oldest first
        self._limits = LookupLimits()
        self._limited_events = TokenBucket(LIMITED_EVENT_S)

    @property
    def lookups(self) -> tuple[Lookup, ...]:
        """The open lookups, for display."""
        return tuple(self._lookups.values())

    def wake_at(self) -> float | None:
        """When to call on_timer, in monotonic seconds; None: nothing is open, and nothing to be prepared."""
        times = self._agenda.first(), None if self._prepared is None else self._prepared.wake_at()
        return min((at for at in times if at is not None), default=None)

    def expects(self, nonce: int) -> bool:
        """Whether a Map-Reply with this nonce answers a request of ours."""
        return nonce in self._transmissions

    def asks(self, asked: EidPrefix) -> bool:
        """Whether a lookup for exactly this prefix is open."""
        return asked in self._lookups

    def on_resolvers(
        self, map_resolvers: Sequence[IpAddress], eids: Sequence[EidPrefix] = (), *, has_program: bool = False
    ) -> None:
        """The configured Map-Resolvers, or our EIDs, have changed."""
        self._askable.map_resolvers = tuple(map_resolvers)
        self._eids = tuple(eids)
        self._has_program = has_program
        if self._prepared is not None:
            self._prepared.void()

    def on_mapping_given(self, prefix: EidPrefix) -> None:
        """A client gave the mapping for this prefix, so no lookup is needed."""
        for lookup in self.lookups:
            if prefix.covers(lookup.asked):
                lookup.to(State.ANSWERED)
                self._close(lookup)

    def on_heard(self, places: frozenset[Place]) -> None:
        """Requests from these local RLOCs were answered: prefer them."""
        self._askable.heard = places
        self._touch()

    def on_locators(self, locators: LocatorSet) -> list[MachineEffect]:
        """Our RLOCs have changed. Open lookups continue from the new ones; without any RLOC they fail."""
        self._askable.locators = locators
        self._touch()
        if locators:
            return []
        return [effect for lookup in self.lookups for effect in self._fail(lookup, "no-locator", None)]

    def take_prepared(self, nonce: int, asked: EidPrefix, now: float) -> Ready | None:
        """The datapath has sent a prepared Map-Request (`nonce` 0: none); None if its answer would not be accepted."""
        sent = None if self._prepared is None else self._prepared.take(nonce, asked, now)
        if sent is None:
            return None
        resolver, uplink, _, is_protected = sent.terms
        is_valid = self._askable.holds(resolver, uplink)
        return sent if is_valid and self._security.is_protected_first(resolver) is is_protected else None

    def on_miss(
        self, source: IpAddress, destination: EidPrefix, now: float, sent: Ready | None = None
    ) -> list[MachineEffect]:
        """A packet from `source` has no mapping; `destination` is its destination as a /32 or /128.

        `sent`: the prepared Map-Request for it that the datapath has sent.
        """
        known = self._lookups.get(destination)
        if known is not None:
            self._release(known)
            known.reason = Reason.MISS
            return [] if known.tries else self._ask(known, now, sent)  # the limit for claims had delayed it
        if self._is_full or not (sent or self._limits.allow_miss(now)):
            effects: list[MachineEffect] = [Count("tx_rate"), DropPending(destination, "rate-limited")]
            if self._limited_events.take(now):
                effects.append(Event("rate-limited", {"eid": str(destination), "what": "map-request"}))
            return effects
        event = Event("miss", {"eid": str(destination), "source": str(source)})
        return [event, *self._ask(Lookup(destination, Reason.MISS, source, now, destination), now, sent)]

    def on_aging(self, prefix: EidPrefix, source: IpAddress | None, now: float) -> list[MachineEffect]:
        """A mapping in use needs a refresh. `source`: our EID that talks to it."""
        if prefix in self._lookups or self._is_full:
            return []
        return self._ask(Lookup(prefix, Reason.REFRESH, source, now, prefix), now)

    def on_smr(
        self,
        eid: EidPrefix,
        cached: EidPrefix,
        source: IpAddress | None,
        now: float,
        strange: IpAddress | None = None,
        *,
        repeats: bool = True,
    ) -> list[MachineEffect]:
        """An SMR says that `eid` (a host, inside the cached prefix) has moved. A limit may delay the request.

        One lookup at a time for a cached prefix, whatever hosts are named. `strange`: the sender, if the mapping does
        not name it. Without `repeats` there is only one request: any host can send data with an EID's address.
        """
        known = self._lookups.get(eid)
        if known is not None and not repeats:
            return []
        if known is not None and known.is_paid:
            return self._ask(known, now)  # it waits for its repetition, and there is reason for it now
        if known is not None and known.tries:
            known.is_late = True
        if known is not None and known.reason is Reason.REFRESH:
            return self._ask_again(known, cached, now) if strange is None else []
        if known is not None or cached in self._claims:
            return []
        is_named = strange is None
        if not self._has_room(is_named=is_named):
            return [Count("rx_rate")]
        if strange is not None and not self._limits.take_strange(strange, now):
            return [Count("rx_rate")]
        return self._claim(Lookup(eid, Reason.SMR, source, now, cached, repeats=repeats, is_named=is_named), now)

    def on_doubt(self, eid: EidPrefix, cached: EidPrefix, source: IpAddress | None, now: float) -> list[MachineEffect]:
        """Data came from a host whose mapping, the cached prefix, does not name the sender, or that has none."""
        if eid in self._lookups or cached in self._claims:
            return []
        if not self._has_room(is_named=False):
            return [Count("rx_rate")]
        return self._claim(Lookup(eid, Reason.DOUBT, source, now, cached), now)

    def on_known(self, learned: MappingLearned, cached: EidPrefix, now: float, *, is_same: bool) -> None:
        """Whether the answer was the same as the cached mapping.

        A true claim does not count against the limit, so a host that moves often is found each time. A claim without
        effect may have come before the Map-Register: it is repeated twice.
        """
        if is_same and learned.may_be_stale and learned.asked not in self._lookups and cached not in self._claims:
            wait_s = AGAIN_S[min(learned.times_again, len(AGAIN_S) - 1)]
            times = learned.times_again + 1
            again = Lookup(learned.asked, Reason.SMR, None, now, cached, times_again=times, is_named=learned.is_named)
            self._lookups[again.asked] = self._claims[cached] = again
            self._wait(again, now + wait_s)
        if not is_same and Reason(learned.reason).is_claim:
            self._limits.give_back_claim(cached)

    def on_timer(self, now: float) -> list[MachineEffect]:
        """Repeat requests without an answer; give up after the tenth try."""
        effects: list[MachineEffect] = (
            [] if self._prepared is None else [*self._prepared.renew(self._terms(), self._eids, now)]
        )
        for asked in self._agenda.due(now):
            lookup = self._lookups[asked]
            tries = DOUBT_TRIES if lookup.reason is Reason.DOUBT else MAX_TRIES
            effects += [WaysInDoubt()] if lookup.tries and self._askable.map_resolvers else []
            effects += self._fail(lookup, "unanswered", now) if lookup.tries >= tries else self._ask(lookup, now)
        return effects

    def on_map_reply(
        self,
        reply: MapReply,
        arrived_at: IpAddress,
        guard: Guard,
        now: float,
        source: IpAddress | None = None,
        raw: bytes | None = None,
    ) -> list[MachineEffect]:
        """A Map-Reply arrived at our address `arrived_at`; LISP-SEC covers the octets in `raw`.

        Without LISP-SEC its source is not authenticated; it can only restrict what is accepted.
        """
        sent = self._transmissions.get(reply.nonce)
        if sent is None or now - sent.sent_at > NONCE_LIFETIME_S:
            return [Count("rx_nonce")]
        if reply.is_probe or (arrived_at not in sent.itr_rlocs and arrived_at not in guard.own_rlocs):
            return [Count("rx_policy")]
        if sent.otk is not None:
            return self._on_protected(reply, raw or reply.encode(), sent, sent.otk, guard, now)
        records = accept_records(reply.records, sent.lookup.asked, guard, source)
        if records is None:
            return [Count("rx_policy")]
        return self._answered(sent, records, now)

    def _on_protected(
        self, reply: MapReply, raw: bytes, sent: _Transmission, otk: bytes, guard: Guard, now: float
    ) -> list[MachineEffect]:
        """A forged reply leaves the nonce open. Otherwise an observer of it could end the lookup (RFC 9303, 6.9)."""
        lookup, asked = sent.lookup, sent.lookup.asked
        had_shown = self._security.has_shown(sent.resolver)
        eids, effects = self._security.verify(reply, raw, otk, asked, sent.resolver, now)
        if eids is None:
            return effects
        if not had_shown:
            self._touch()
        del self._transmissions[reply.nonce]
        lookup.nonces.discard(reply.nonce)
        vouched, discarded = self._security.vouched(reply.records, eids, asked, sent.resolver, now)
        effects += discarded
        if eids.has_e_bit and not any(record.locators for record in vouched):
            if not self._security.is_required:
                return effects + self._ask_unprotected(lookup, sent, now)
            effects += self._security.on_unsigned(asked, sent.resolver, now)
        records = accept_records(vouched, asked, guard)
        if records is None:
            return [*effects, Count("rx_policy")]
        return effects + self._answered(sent, records, now, is_genuine=True)

    def _ask_unprotected(self, lookup: Lookup, sent: _Transmission, now: float) -> list[MachineEffect]:
        """The Map-Server states, under its HMAC, that no ETR of this EID can sign: ask again without LISP-SEC."""
        if lookup.state is not State.ASKING or self._lookups.get(lookup.asked) is not lookup:
            return []
        lookup.protected_by = None
        self._wait(lookup, now + RETRY_S)
        return [self._send(lookup, sent.resolver, sent.uplink, now, is_protected=False), Count("tx_map_request")]

    def _answered(
        self, sent: _Transmission, records: tuple[MappingRecord, ...], now: float, *, is_genuine: bool = False
    ) -> list[MachineEffect]:
        lookup = sent.lookup
        self._close(lookup, keeps_protected=not is_genuine)
        if lookup.state is State.ASKING:
            lookup.to(State.ANSWERED)
        if self._askable.preferred != sent.resolver:
            self._askable.preferred = sent.resolver
            self._touch()
        rtt_ms = round((now - sent.sent_at) * 1000, 3)
        answered = WayAnswered(sent.uplink.address, sent.uplink.ifindex, now - sent.sent_at)
        why = lookup.reason.value
        return [
            answered,
            MappingLearned(
                lookup.asked,
                records,
                why,
                rtt_ms,
                is_genuine,
                lookup.may_be_stale,
                lookup.times_again,
                lookup.is_named,
            ),
        ]

    def _ask(self, lookup: Lookup, now: float, sent: Ready | None = None) -> list[MachineEffect]:
        """Send one Map-Request, or delay it until the limits allow it. `sent`: the datapath has sent it already."""
        self._lookups[lookup.asked] = lookup
        ways = self._askable.ways()
        if not ways and not (self._has_program and self._askable.locators):
            return self._fail(lookup, "no-locator" if self._askable.map_resolvers else "no-map-resolver", now)
        if sent is None and (allowed_at := self._limits.allowed_at(lookup, now)) > now:
            self._wait(lookup, allowed_at)
            return []
        self._limits.take(lookup, now)
        way = ways[lookup.tries % len(ways)] if ways else None
        if sent is not None:
            way = sent.terms.resolver, sent.terms.uplink
        lookup.tries += 1
        self._wait(lookup, now + RETRY_S)
        effects: list[MachineEffect] = [
            MappingWanted(lookup.asked, lookup.source, lookup.reason.value, lookup.tries),
        ]
        if way is None:
            return effects
        resolver, uplink = way
        asked_in = self._security.ways(resolver, now)
        lookup.protected_by = resolver if asked_in == (True,) else None
        for number, is_protected in enumerate(asked_in):
            if sent is not None and not number:
                effects.append(self._adopt(lookup, sent, now))
            else:
                effects.append(self._send(lookup, resolver, uplink, now, is_protected=is_protected))
            effects.append(Count("tx_lisp_sec_trial" if number else "tx_map_request"))
        return effects

    def _ask_again(self, refresh: Lookup, cached: EidPrefix, now: float) -> list[MachineEffect]:
        """The answer may be older than the move: ask again, once for each refresh, if the limits allow it now."""
        refresh.reason, refresh.limited_as = Reason.SMR, cached
        if not refresh.tries or self._limits.allowed_at(refresh, now) > now:
            return []
        for nonce in refresh.nonces:
            self._transmissions.pop(nonce, None)
        refresh.nonces.clear()
        refresh.tries, refresh.is_late = 0, False
        return self._ask(refresh, now)

    def _send(
        self, lookup: Lookup, resolver: IpAddress, uplink: LocalLocator, now: float, *, is_protected: bool
    ) -> SendControl:
        nonce = self._new_nonce()
        lookup.nonces.add(nonce)
        itr_rlocs = self._askable.locators.itr_rlocs_from(uplink)
        otk, authentication = self._security.protect(nonce, resolver) if is_protected else (None, None)
        self._transmissions[nonce] = _Transmission(lookup, now, itr_rlocs, resolver, uplink, otk)
        self._trim(now)
        asked = lookup.asked
        request = MapRequest(
            nonce=nonce,
            source_eid=self._source_eid(lookup, is_protected=is_protected),
            itr_rlocs=itr_rlocs,
            records=(EidRecord.of(asked),),
            is_smr_invoked=lookup.reason is Reason.SMR,
        )
        ecm = EncapsulatedControl(
            source=lookup.source or self._askable.inner_source(asked.family),
            source_port=CONTROL_PORT,
            destination=asked.address,
            destination_port=CONTROL_PORT,
            message=request.encode(),
            authentication=authentication,
        )
        return SendControl(ecm.encode(), resolver, source=uplink.address, ifindex=uplink.ifindex)

    def _adopt(self, lookup: Lookup, sent: Ready, now: float) -> PreparedSent:
        """The datapath has sent this Map-Request of the lookup."""
        lookup.nonces.add(sent.nonce)
        resolver, uplink, itr_rlocs, _ = sent.terms
        self._transmissions[sent.nonce] = _Transmission(lookup, now, itr_rlocs, resolver, uplink, sent.otk)
        self._trim(now)
        return PreparedSent(sent.message)

    def _terms(self) -> Terms | None:
        """How the first Map-Request of a lookup would be sent now; None if it could not."""
        ways = self._askable.ways()
        if not ways:
            return None
        resolver, uplink = ways[0]
        is_protected = self._security.is_protected_first(resolver)
        if is_protected is None:
            return None
        return Terms(resolver, uplink, self._askable.locators.itr_rlocs_from(uplink), is_protected)

    def _touch(self) -> None:
        if self._prepared is not None:
            self._prepared.touch()

    def _source_eid(self, lookup: Lookup, *, is_protected: bool) -> WireAddress:
        """A refresh names no source: the node asks, not a packet (RFC 9301, 5.2).

        With LISP-SEC it must, because the Map-Resolver finds the secret that unwraps the One-Time-Key by it.
        """
        if lookup.source is not None and (is_protected or lookup.reason is not Reason.REFRESH):
            return from_prefix(EidPrefix.host(lookup.source, lookup.asked.instance_id))
        if not is_protected or not self._eids:
            return None
        return from_prefix(EidPrefix.host(self._eids[0].address, self._eids[0].instance_id))

    def _fail(self, lookup: Lookup, why: str, now: float | None) -> list[MachineEffect]:
        """End a lookup without an answer. Its nonces stay valid: a late answer is still accepted."""
        lookup.to(State.FAILED)
        self._forget(lookup)
        effects: list[MachineEffect] = []
        if lookup.protected_by is not None and now is not None:
            effects += self._security.on_unanswered(lookup.asked, lookup.protected_by, now)
        return [*effects, LookupFailed(lookup.asked, lookup.reason.value, why)]

    def _close(self, lookup: Lookup, *, keeps_protected: bool = False) -> None:
        """`keeps_protected`: an answer with LISP-SEC may still come, and takes precedence over the present one."""
        if self._lookups.get(lookup.asked) is lookup:
            self._forget(lookup)
        for nonce in list(lookup.nonces):
            sent = self._transmissions.get(nonce)
            if sent is None or not (keeps_protected and sent.otk is not None):
                self._transmissions.pop(nonce, None)
                lookup.nonces.discard(nonce)

    @property
    def _is_full(self) -> bool:
        return len(self._lookups) - len(self._claims) >= MAX_LOOKUPS

    def _has_room(self, *, is_named: bool) -> bool:
        """Whether others may cause one more lookup. Strangers leave room for peers."""
        strange = 0 if is_named else sum(not claim.is_named for claim in self._claims.values())
        return len(self._claims) < MAX_CLAIMS and strange < MAX_STRANGE

    def _claim(self, lookup: Lookup, now: float) -> list[MachineEffect]:
        self._claims[lookup.limited_as] = lookup
        return self._ask(lookup, now)

    def _release(self, lookup: Lookup) -> None:
        """It no longer counts as a claim."""
        if self._claims.get(lookup.limited_as) is lookup:
            del self._claims[lookup.limited_as]

    def _forget(self, lookup: Lookup) -> None:
        self._lookups.pop(lookup.asked, None)
        self._agenda.set(lookup.asked, None)
        self._release(lookup)

    def _wait(self, lookup: Lookup, until: float) -> None:
        lookup.wake_at = until
        self._agenda.set(lookup.asked, until)

    def _trim(self, now: float) -> None:
        """Forget expired nonces, and the oldest beyond the limit."""
        while self._transmissions:
            nonce, oldest = next(iter(self._transmissions.items()))
            if now - oldest.sent_at <= NONCE_LIFETIME_S and len(self._transmissions) <= MAX_NONCES:
                return
            del self._transmissions[nonce]
            oldest.lookup.nonces.discard(nonce)

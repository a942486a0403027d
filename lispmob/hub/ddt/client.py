"""The Map-Resolver as a DDT client: follows referrals until a Map-Server has the request (RFC 8111, section 8).

How it works:

1. The longest referral in the cache is asked first; without one, a root.
2. A DDT node is asked with a nonce that only its set has seen, so its answer is cached. A Map-Server
   is asked with the ITR's nonce, since its Map-Reply goes to the ITR. So its Map-Referral is accepted
   for this ITR alone, and not cached: the ITR, or an eavesdropper, could have forged it.
3. A referral must lead down the tree: its prefix holds the EID and is longer than the last one. The same prefix
   again means a loop, and the search restarts once at the root.
4. MS-ACK ends the search: the Map-Server, or the ETR, answers the ITR.
5. No delegation, or no registration at any Map-Server of the set: a negative Map-Reply.
6. Without an answer the next address is asked, each twice; after eight Map-Requests to one set the ITR gets no answer,
   and repeats its request.

Strangers have half of the searches at most, so that a flood of their requests leaves room for the hub's own nodes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from itertools import count
from typing import Final, Generic, Protocol, TypeAlias, TypeVar

import msgspec
from msgspec.structs import replace

from lispmob.hub.ddt.node import HOLE_TTL_MIN, NOT_REGISTERED_TTL_MIN
from lispmob.hub.ddt.policy import NO_DDT, DdtPolicy
from lispmob.hub.ddt.referral_cache import TTL_MAX_S, CachedReferral, ReferralCache
from lispmob.hub.ddt.signatures import is_signed, keys_in
from lispmob.hub.map_server.host_address import is_host
from lispmob.protocol.agenda import Agenda
from lispmob.protocol.effect import SendControl
from lispmob.wire.address import EidPrefix, IpAddress
from lispmob.wire.map_referral import MapReferral, Referral, ReferralRecord
from lispmob.wire.record import Action, Locator, MappingRecord

WAIT_S: Final = 1.0  # ours: RFC 8111 gives no time
TRIES_EACH: Final = 2  # ours: of each address
SENDS_MAX: Final = 8  # ours: in all, as lispers.net
REFERRALS_MAX: Final = 32  # ours: no tree is that deep
PENDING_MAX: Final = 10_000
STRANGERS_MAX: Final = PENDING_MAX // 2  # ours: of those, the searches of ITRs that are not registered here
NOT_USED: Final = 255  # a locator's priority: must not be asked
ADDRESSES_MAX: Final = 16

Q = TypeVar("Q", bound="DdtQuestion")


class DdtQuestion(Protocol):
    """An ITR's request, and its forms for others."""

    @property
    def nonce(self) -> int:
        """The ITR's."""
        ...

    @property
    def is_known(self) -> bool:
        """Whether the ITR is registered here."""
        ...

    def for_node(self, nonce: int) -> bytes:
        """The DDT Map-Request for a DDT node: without LISP-SEC, with our nonce."""
        ...

    def for_map_server(self, server: IpAddress) -> bytes | None:
        """The one for a Map-Server, with LISP-SEC if the ITR uses it; None if that is impossible."""
        ...


class NoMapping(Generic[Q], msgspec.Struct, frozen=True):
    """A negative answer for the ITR. `is_unsigned`: the Map-Server could not be asked with LISP-SEC."""

    question: Q
    record: MappingRecord
    is_unsigned: bool = False


Outcome: TypeAlias = SendControl | NoMapping[Q]


class _Pending(Generic[Q], msgspec.Struct):
    number: int
    question: Q
    host: EidPrefix
    referral: CachedReferral
    nonce: int = 0
    """For the DDT nodes of this set."""
    turns: list[IpAddress] = msgspec.field(default_factory=list)
    """The servers to ask next, in order."""
    waits_for: tuple[IpAddress, int] | None = None
    """The server asked last, and its nonce."""
    sends: int = 0
    referrals: int = 0
    has_restarted: bool = False


class DdtClient(Generic[Q]):
    """All searches of a Map-Resolver. `new_nonce` is unpredictable; `families` are those that we can send in."""

    def __init__(
        self,
        new_nonce: Callable[[], int],
        families: Iterable[int] = (4, 6),
        counters: Counter[str] | None = None,
        may_send: Callable[[IpAddress, bool, float], bool] = lambda *_: True,
    ) -> None:
        """`may_send`: whether a server may be sent another request of an ITR that is registered here, or is not."""
        self._may_send = may_send
        self._strangers = 0
        self.counters: Counter[str] = counters if counters is not None else Counter()
        self.cache = ReferralCache()
        self._new_nonce = new_nonce
        self._families = frozenset(families)
        self._policy = NO_DDT
        self._pending: dict[int, _Pending[Q]] = {}
        self._numbers = count()
        self._by_itr: dict[tuple[EidPrefix, int], int] = {}  # EID and the ITR's nonce
        self._by_answer: dict[tuple[IpAddress, int], int] = {}  # the server asked, and its nonce
        self._due: Agenda[int] = Agenda()

    @property
    def is_on(self) -> bool:
        """Whether there is a root."""
        return bool(self._policy.roots)

    def on_policy(self, policy: DdtPolicy) -> None:
        """Our place in the tree has changed. Cached referrals are dropped; our own delegations are kept."""
        if policy == self._policy:
            return
        self._policy = policy
        self.cache = ReferralCache(
            [
                CachedReferral(
                    delegation.prefix, delegation.addresses, delegation.is_map_server, float("inf"), delegation.keys
                )
                for delegation in policy.delegations
            ]
        )

    def on_families(self, families: Iterable[int]) -> None:
        """These are the families that we can send to."""
        self._families = frozenset(families)

    def expects(self, source: IpAddress, nonce: int) -> bool:
        """True when a Map-Referral with this nonce would answer a request that was sent there."""
        return (source, nonce) in self._by_answer

    def wake_at(self) -> float | None:
        """When on_timer is due; None for never."""
        return self._due.first()

    def ask(self, question: Q, asked: EidPrefix, now: float) -> list[Outcome[Q]]:
        """An ITR asks for an EID of no local site. A newer request of the same ITR replaces the older one."""
        host = EidPrefix.host(asked.address, asked.instance_id)
        known = self.cache.find(host, now) or self._root(host)
        if known.is_hole:
            return [NoMapping(question, _negative(known.prefix, HOLE_TTL_MIN))]
        if (older := self._by_itr.get((host, question.nonce))) is not None:
            self._drop(self._pending[older])
        is_full = len(self._pending) >= PENDING_MAX
        if is_full or (not question.is_known and self._strangers >= STRANGERS_MAX):
            self.counters["ddt_full"] += 1
            return []
        self._strangers += not question.is_known
        search = _Pending(next(self._numbers), question, host, known)
        self._pending[search.number] = search
        self._by_itr[host, question.nonce] = search.number
        return self._go_to(search, known, now)

    def on_map_referral(self, referral: MapReferral, source: IpAddress, now: float) -> list[Outcome[Q]]:
        """A Map-Referral arrived; it must come from the server that was asked, with the request's nonce."""
        number = self._by_answer.get((source, referral.nonce))
        if number is None:
            self.counters["rx_nonce"] += 1
            return []
        search = self._pending[number]
        record = next(
            (referral_record for referral_record in referral.records if _holds(referral_record, search.host)), None
        )
        if record is None:
            self.counters["ddt_prefix"] += 1  # a hole or a delegation that does not hold the requested EID
            return self._next(search, now)
        verify = self._policy.verify
        if verify is not None and not is_signed(record, search.referral.keys, verify, self._policy.wall()):
            self.counters["ddt_signature"] += 1  # not signed by the server of the referral, or expired
            return self._next(search, now)
        self.counters["rx_map_referral"] += 1
        match record.referral:
            case Referral.NODE | Referral.MS:
                return self._on_delegation(search, record, now)
            case Referral.MS_ACK if search.referral.is_map_server:
                self._drop(search)
                return []
            case Referral.MS_NOT_REGISTERED if search.referral.is_map_server:
                return self._on_not_registered(search, record, now)
            case Referral.DELEGATION_HOLE:
                return self._on_hole(search, record, now)
            case Referral.NOT_AUTHORITATIVE:
                self.cache.forget(search.referral.prefix)
                return self._restart(search, now)
        self.counters["ddt_action"] += 1
        return self._next(search, now)

    def on_timer(self, now: float) -> list[Outcome[Q]]:
        """Answers are missing: ask the next address."""
        effects: list[Outcome[Q]] = []
        for number in self._due.due(now):
            effects += self._next(self._pending[number], now)
        return effects

    def _root(self, host: EidPrefix) -> CachedReferral:
        everything = EidPrefix.make(host.address, 0, host.instance_id)
        keys = self._policy.root_keys
        return CachedReferral(everything, self._policy.roots, is_map_server=False, expires_at=float("inf"), keys=keys)

    def _go_to(self, search: _Pending[Q], referral: CachedReferral, now: float) -> list[Outcome[Q]]:
        """Ask this set of nodes or Map-Servers: each address once, and then each again."""
        usable = [address for address in referral.addresses if address.version in self._families]
        search.referral, search.nonce = referral, self._new_nonce()
        search.turns = [address for _ in range(TRIES_EACH) for address in usable]
        return self._next(search, now)

    def _next(self, search: _Pending[Q], now: float) -> list[Outcome[Q]]:
        if not search.turns or search.sends >= SENDS_MAX:
            self.counters["ddt_timeout"] += 1
            self._drop(search)
            return []
        address = search.turns.pop(0)
        if search.referral.is_map_server:
            payload = search.question.for_map_server(address)
            if payload is None:
                return self._end(search, _negative(search.host, NOT_REGISTERED_TTL_MIN), is_unsigned=True)
        else:
            payload = search.question.for_node(search.nonce)
        search.sends += 1
        self._wait_for(search, (address, search.question.nonce if search.referral.is_map_server else search.nonce))
        self._due.set(search.number, now + WAIT_S)
        if not self._may_send(address, search.question.is_known, now):
            return []
        self.counters["tx_ddt_map_request"] += 1
        return [SendControl(payload, address)]

    def _wait_for(self, search: _Pending[Q], key: tuple[IpAddress, int] | None) -> None:
        if search.waits_for is not None and self._by_answer.get(search.waits_for) == search.number:
            del self._by_answer[search.waits_for]
        search.waits_for = key
        if key is not None:
            self._by_answer[key] = search.number

    def _on_delegation(self, search: _Pending[Q], record: ReferralRecord, now: float) -> list[Outcome[Q]]:
        prefix = record.eid_prefix
        assert prefix is not None, "checked by _holds"
        if search.referral.is_map_server:
            self.counters["ddt_action"] += 1  # a Map-Server must not refer further; see 2. above
            return self._next(search, now)
        last = search.referral.prefix.mask_len
        if prefix.mask_len < last:
            self.counters["ddt_loop"] += 1
            return self._next(search, now)
        is_first = not search.referrals and last == 0
        if prefix.mask_len == last and not is_first:
            self.counters["ddt_loop"] += 1
            return self._restart(search, now)
        search.referrals += 1
        addresses = _addresses(record.locators)
        if not addresses or search.referrals > REFERRALS_MAX:
            return self._end(search, _negative(search.host, NOT_REGISTERED_TTL_MIN))
        kept_s = min(record.ttl_min * 60.0, TTL_MAX_S)
        referral = CachedReferral(
            prefix, addresses, record.referral == Referral.MS, now + kept_s, keys_in(record.locators)
        )
        if kept_s > 0:
            self.cache.put(referral)
        search.sends = 0
        return self._go_to(search, referral, now)

    def _on_not_registered(self, search: _Pending[Q], record: ReferralRecord, now: float) -> list[Outcome[Q]]:
        """Another Map-Server of the set may have a registration."""
        assert search.waits_for is not None, "it has just answered"
        said_so = search.waits_for[0]
        search.turns = [address for address in search.turns if address != said_so]
        if search.turns:
            return self._next(search, now)
        return self._end(search, _negative(_within(record, search), NOT_REGISTERED_TTL_MIN))

    def _on_hole(self, search: _Pending[Q], record: ReferralRecord, now: float) -> list[Outcome[Q]]:
        prefix = _within(record, search)
        if self.cache.overlaps_delegation(prefix, now):
            prefix = search.host  # lispers.net's holes are wide enough to hold delegations
        if not search.referral.is_map_server:
            kept_s = min(record.ttl_min, HOLE_TTL_MIN) * 60.0
            self.cache.put(CachedReferral(prefix, (), is_map_server=False, expires_at=now + kept_s))
        return self._end(search, _negative(prefix, HOLE_TTL_MIN))

    def _restart(self, search: _Pending[Q], now: float) -> list[Outcome[Q]]:
        """Restart at the root, once: a cached referral was wrong, or is outdated."""
        if search.has_restarted:
            return self._end(search, _negative(search.host, NOT_REGISTERED_TTL_MIN))
        search.has_restarted = True
        search.referrals = search.sends = 0
        return self._go_to(search, self._root(search.host), now)

    def _end(self, search: _Pending[Q], record: MappingRecord, *, is_unsigned: bool = False) -> list[Outcome[Q]]:
        self._drop(search)
        return [NoMapping(search.question, record, is_unsigned)]

    def _drop(self, search: _Pending[Q]) -> None:
        self._wait_for(search, None)
        del self._pending[search.number]
        self._strangers -= not search.question.is_known
        self._by_itr.pop((search.host, search.question.nonce), None)
        self._due.set(search.number, None)


def _holds(record: ReferralRecord, host: EidPrefix) -> bool:
    prefix = record.eid_prefix
    return prefix is not None and prefix.covers(host)


def _within(record: ReferralRecord, search: _Pending[Q]) -> EidPrefix:
    """The negative prefix: no wider than the delegation of the server that answered."""
    prefix = record.eid_prefix
    assert prefix is not None, "checked by _holds"
    return prefix if search.referral.prefix.covers(prefix) else search.host


def _addresses(locators: Iterable[Locator]) -> tuple[IpAddress, ...]:
    """The addresses to ask, the best first, without those that must not be sent to."""
    usable = sorted((locator for locator in locators if locator.priority != NOT_USED), key=lambda each: each.priority)
    found = dict.fromkeys(ip for locator in usable for ip in locator.ips if is_host(ip))
    return tuple(found)[:ADDRESSES_MAX]


def _negative(prefix: EidPrefix, ttl_min: int) -> MappingRecord:
    return replace(MappingRecord.of(prefix, ttl_min=ttl_min), action=Action.NATIVELY_FORWARD)

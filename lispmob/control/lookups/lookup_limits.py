"""How often lookups may send a Map-Request: in all, for one EID, and for what others can cause. Pure."""

from __future__ import annotations

from typing import Final

from lispmob.control.lookups.lookup import Lookup, Reason
from lispmob.protocol.rate_limit import KeyedBuckets, TokenBucket, owner_of
from lispmob.wire.address import EidPrefix, IpAddress

RETRY_S: Final = 1.0  # RFC 9301, 5.3: one Map-Request per second per EID-Prefix; those for claims count separately
GLOBAL_INTERVAL_S: Final = 0.05  # ours: 20 Map-Requests per second for misses, and as many for mappings in use
GLOBAL_BURST: Final = 20
SMR_INTERVAL_S: Final = 3.0  # RFC 9301, 6.1: SMR-invoked Map-Requests, one per 3 s per EID-Prefix
SMR_BURST: Final = 3  # ours: a peer that moves twice in a row is still found at once
CLAIM_INTERVAL_S: Final = 0.1  # ours: 10 Map-Requests per second for them, and as many for claims of peers
CLAIM_BURST: Final = 20
STRANGE_INTERVAL_S: Final = 3.0  # ours: SMRs from a sender that the mapping does not name, as a peer that has moved is
STRANGE_BURST: Final = 4


class LookupLimits:
    """The token buckets of all lookups."""

    def __init__(self) -> None:
        self._per_prefix: tuple[KeyedBuckets[EidPrefix], ...] = KeyedBuckets(RETRY_S), KeyedBuckets(RETRY_S)
        self._per_smr: KeyedBuckets[EidPrefix] = KeyedBuckets(SMR_INTERVAL_S, SMR_BURST)
        self._for_misses = TokenBucket(GLOBAL_INTERVAL_S, GLOBAL_BURST)
        self._for_known = TokenBucket(GLOBAL_INTERVAL_S, GLOBAL_BURST)
        self._for_claims = TokenBucket(CLAIM_INTERVAL_S, CLAIM_BURST)
        self._for_peers = TokenBucket(CLAIM_INTERVAL_S, CLAIM_BURST)
        self._strange: KeyedBuckets[int] = KeyedBuckets(STRANGE_INTERVAL_S, STRANGE_BURST)

    def allow_miss(self, now: float) -> bool:
        """Whether one more packet without a mapping may start a lookup."""
        return self._for_misses.available_at(now) <= now

    def take_strange(self, sender: IpAddress, now: float) -> bool:
        """Whether an SMR of this sender, which the mapping does not name, may start a lookup."""
        return self._strange.take(owner_of(sender), now)

    def allowed_at(self, lookup: Lookup, now: float) -> float:
        """When all limits allow the next Map-Request of this lookup."""
        is_claim = lookup.reason.is_claim
        if lookup.is_paid:
            return self._total(lookup).available_at(now)
        limits = [self._total(lookup).available_at(now), self._per_prefix[is_claim].available_at(lookup.asked, now)]
        return max(limits + [self._per_smr.available_at(lookup.limited_as, now)] * is_claim)

    def take(self, lookup: Lookup, now: float) -> None:
        """It sends one now."""
        self._total(lookup).take(now)
        if not lookup.is_paid:
            self._per_prefix[lookup.reason.is_claim].take(lookup.asked, now)
        if lookup.reason.is_claim and not lookup.is_paid:
            self._per_smr.take(lookup.limited_as, now)

    def give_back_claim(self, cached: EidPrefix) -> None:
        """A claim about this cached prefix was true."""
        self._per_smr.give_back(cached)

    def _total(self, lookup: Lookup) -> TokenBucket:
        if lookup.reason.is_claim:
            return self._for_peers if lookup.is_named else self._for_claims
        return self._for_misses if lookup.reason is Reason.MISS else self._for_known

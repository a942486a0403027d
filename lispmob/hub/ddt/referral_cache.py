"""Cached referrals of DDT nodes: the servers for an EID, and prefixes without any (RFC 8111, section 8.3). Pure."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from typing import Final

import msgspec

from lispmob.hub.map_server.ordered_prefixes import OrderedPrefixTable
from lispmob.wire.address import EidPrefix, IpAddress

ENTRIES_MAX: Final = 10_000  # ours, of each kind: a tree has few delegations; holes depend on the requests
TTL_MAX_S: Final = 86400.0  # ours: a moved delegation is found within a day


class CachedReferral(msgspec.Struct, frozen=True):
    """The servers for the EIDs of a prefix. Without addresses, no server has them."""

    prefix: EidPrefix
    addresses: tuple[IpAddress, ...]
    is_map_server: bool
    expires_at: float
    keys: tuple[bytes, ...] = ()
    """The keys that must sign their answers."""

    @property
    def is_hole(self) -> bool:
        """True where nothing is delegated."""
        return not self.addresses


class ReferralCache:
    """Referrals by EID-Prefix; the longest valid one counts. `own`: our own delegations.

    Referrals of others never replace or evict an own delegation. Holes evict only holes, because any host that asks
    for enough EIDs can create them.
    """

    def __init__(self, own: Iterable[CachedReferral] = (), limit: int = ENTRIES_MAX) -> None:
        self._limit = limit
        self._table: OrderedPrefixTable[CachedReferral] = OrderedPrefixTable()
        self._holes: OrderedDict[EidPrefix, None] = OrderedDict()  # oldest first
        self._delegations: OrderedDict[EidPrefix, None] = OrderedDict()
        self._own = frozenset(referral.prefix for referral in own)
        for referral in own:
            self._table.insert(referral.prefix, referral)

    def __len__(self) -> int:
        return len(self._table)

    def find(self, host: EidPrefix, now: float) -> CachedReferral | None:
        """The longest valid match; expired entries are removed on the way."""
        for prefix, found in self._table.covering(host):
            if now < found.expires_at:
                return found
            self.forget(prefix)
        return None

    def put(self, referral: CachedReferral) -> None:
        """Store a referral; the oldest of its kind is evicted if necessary."""
        if referral.prefix in self._own:
            return
        self.forget(referral.prefix)
        by_age = self._holes if referral.is_hole else self._delegations
        self._table.insert(referral.prefix, referral)
        by_age[referral.prefix] = None
        if len(by_age) > self._limit:
            self.forget(next(iter(by_age)))

    def forget(self, prefix: EidPrefix) -> None:
        """It was wrong, or has expired."""
        if prefix in self._own:
            return
        self._table.remove(prefix)
        self._holes.pop(prefix, None)
        self._delegations.pop(prefix, None)

    def overlaps_delegation(self, prefix: EidPrefix, now: float) -> bool:
        """True when part of the prefix is known to be delegated, so that it can be no hole."""
        return any(not found.is_hole and now < found.expires_at for _, found in self._table.covered(prefix))

"""What DDT nodes have said: whom to ask for which EIDs, and where there is nobody (RFC 8111, section 8.3). Pure."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from typing import Final

import msgspec

from lispmob.hub.map_server.ordered_prefixes import OrderedPrefixTable
from lispmob.wire.address import EidPrefix, IpAddress

ENTRIES_MAX: Final = 10_000  # ours, of each kind: a tree has few delegations; holes are as many as somebody asks for
TTL_MAX_S: Final = 86400.0  # ours: what was delegated elsewhere is found again within a day


class CachedReferral(msgspec.Struct, frozen=True):
    """Whom to ask for the EIDs of a prefix. Without addresses nobody has them."""

    prefix: EidPrefix
    addresses: tuple[IpAddress, ...]
    is_map_server: bool
    expires_at: float
    keys: tuple[bytes, ...] = ()
    """Whose signatures count for what they say."""

    @property
    def is_hole(self) -> bool:
        """True where nothing is delegated."""
        return not self.addresses


class ReferralCache:
    """Referrals by EID-Prefix; the longest one that is still valid counts. `own`: what we have delegated ourselves.

    What others say neither replaces nor pushes out an own delegation. Holes push out holes alone, for anybody who asks
    for enough EIDs makes as many.
    """

    def __init__(self, own: Iterable[CachedReferral] = (), limit: int = ENTRIES_MAX) -> None:
        self._limit = limit
        self._table: OrderedPrefixTable[CachedReferral] = OrderedPrefixTable()
        self._holes: OrderedDict[EidPrefix, None] = OrderedDict()  # the oldest first, as the next one
        self._delegations: OrderedDict[EidPrefix, None] = OrderedDict()
        self._own = frozenset(referral.prefix for referral in own)
        for referral in own:
            self._table.insert(referral.prefix, referral)

    def __len__(self) -> int:
        return len(self._table)

    def find(self, host: EidPrefix, now: float) -> CachedReferral | None:
        """The longest match that is still valid; what has run out is forgotten on the way."""
        for prefix, found in self._table.covering(host):
            if now < found.expires_at:
                return found
            self.forget(prefix)
        return None

    def put(self, referral: CachedReferral) -> None:
        """Keep it; the oldest of its kind goes when there is no room."""
        if referral.prefix in self._own:
            return
        self.forget(referral.prefix)
        by_age = self._holes if referral.is_hole else self._delegations
        self._table.insert(referral.prefix, referral)
        by_age[referral.prefix] = None
        if len(by_age) > self._limit:
            self.forget(next(iter(by_age)))

    def forget(self, prefix: EidPrefix) -> None:
        """It turned out to be wrong, or is too old."""
        if prefix in self._own:
            return
        self._table.remove(prefix)
        self._holes.pop(prefix, None)
        self._delegations.pop(prefix, None)

    def overlaps_delegation(self, prefix: EidPrefix, now: float) -> bool:
        """True when something inside the prefix is known to be delegated, so that it can be no hole."""
        return any(not found.is_hole and now < found.expires_at for _, found in self._table.covered(prefix))

"""What DDT nodes have said: whom to ask for which EIDs, and where there is nobody (RFC 8111, section 8.3). Pure."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

import msgspec

from lispmob.hub.map_server.ordered_prefixes import OrderedPrefixTable
from lispmob.wire.address import EidPrefix, IpAddress

ENTRIES_MAX: Final = 10_000  # ours: a tree has few delegations; holes are as many as somebody asks for
TTL_MAX_S: Final = 86400.0  # ours: what was delegated elsewhere is found again within a day


class CachedReferral(msgspec.Struct, frozen=True):
    """Whom to ask for the EIDs of a prefix. Without addresses nobody has them."""

    prefix: EidPrefix
    addresses: tuple[IpAddress, ...]
    is_map_server: bool
    expires_at: float

    @property
    def is_hole(self) -> bool:
        """True where nothing is delegated."""
        return not self.addresses


class ReferralCache:
    """Referrals by EID-Prefix; the longest one that is still valid counts."""

    def __init__(self, limit: int = ENTRIES_MAX) -> None:
        self._limit = limit
        self._table: OrderedPrefixTable[CachedReferral] = OrderedPrefixTable()
        self._by_age: OrderedDict[EidPrefix, None] = OrderedDict()

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
        """Keep it; the oldest goes when there is no room."""
        self._table.insert(referral.prefix, referral)
        self._by_age[referral.prefix] = None
        self._by_age.move_to_end(referral.prefix)
        if len(self._by_age) > self._limit:
            self.forget(next(iter(self._by_age)))

    def forget(self, prefix: EidPrefix) -> None:
        """It turned out to be wrong, or is too old."""
        self._table.remove(prefix)
        self._by_age.pop(prefix, None)

    def overlaps_delegation(self, prefix: EidPrefix, now: float) -> bool:
        """True when something inside the prefix is known to be delegated, so that it can be no hole."""
        return any(not found.is_hole and now < found.expires_at for _, found in self._table.covered(prefix))

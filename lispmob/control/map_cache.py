"""The map-cache: longest match per Instance-ID, TTLs, negative entries, and an eviction that resists scans.

Eviction is a segmented LRU. New entries start on probation. An entry that still carries traffic some seconds later
moves to the protected segment. Probation is evicted first, so ten thousand lookups by a port scanner evict each other,
and not the mapping of the ssh session. Static entries are never evicted and never expire.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from enum import Enum
from itertools import chain
from typing import Final, Literal, TypeAlias

import msgspec

from lispmob.control.entry_checks import EntryChecks
from lispmob.protocol.prefix_table import PrefixTable
from lispmob.protocol.recency import Recency
from lispmob.wire.address import EidPrefix, IpAddress
from lispmob.wire.record import Locator

Source: TypeAlias = Literal["reply", "static", "program", "placeholder"]
"""Where it came from: the mapping system, the user, a program that acts as a mapping system, or nowhere."""

ToldBy: TypeAlias = Literal["", "published", "announced"]
"""Where the last unsolicited change came from: the Map-Server (RFC 9437), or the peer in its session."""

PROVEN_AFTER_S = 2.0  # ours: flushing a packet queue takes less, and proves no conversation
PROTECTED_SHARE = 0.8  # ours: the rest is always open for new entries
REFRESH_AT_SHARE = 0.9  # RFC 9301, 5.5 leaves it open; ours: ask again with a tenth of the TTL to go
LAST_CHECK_S = 1.0  # ours: no refresh check in the last second of a TTL
GRACE_S = 10.0  # ours: how long a mapping in use may outlive its TTL while it is being refreshed
CUT_OFF_S = 60.0  # ours: the same while no Map-Resolver answers anything; then it is checked again
CUT_OFF_MAX_S = 24 * 3600.0  # ours: how old such a mapping may become
LATELY_S = 60.0  # RFC 9301, 6.1: sites that traffic was exchanged with in the last minute
MAX_LOCATORS = 32  # a record on the wire can carry more; see the limits in the error catalogue


class State(Enum):
    """The state of one entry."""

    ACTIVE = "active"
    NEGATIVE = "negative"
    STALE = "stale"  # still used, no longer trusted: a refresh is under way
    GONE = "gone"


TRANSITIONS: Final[dict[State, frozenset[State]]] = {
    State.ACTIVE: frozenset({State.STALE, State.GONE}),
    State.NEGATIVE: frozenset({State.STALE, State.GONE}),
    State.STALE: frozenset({State.GONE}),
    State.GONE: frozenset(),
}
"""A new answer makes a new entry; the replaced one is GONE."""


class MapCacheEntry(msgspec.Struct, eq=False):
    """One mapping. Times are monotonic seconds; `expires_at` None means never. Locators are stored as received."""

    prefix: EidPrefix
    locators: tuple[Locator, ...] = ()
    action: int = 0
    created_at: float = 0.0
    expires_at: float | None = None
    last_used: float = float("-inf")
    map_version: int = 0
    source: Source = "reply"
    state: State = State.ACTIVE
    is_proven: bool = False
    is_genuine: bool = False
    """LISP-SEC has authenticated the mapping system and the ETR."""
    told_by: ToldBy = ""

    def __post_init__(self) -> None:
        if self.state is State.ACTIVE and not self.locators:
            self.state = State.NEGATIVE

    @property
    def is_local_word(self) -> bool:
        """True for mappings from this host: no answer from elsewhere replaces them."""
        return self.source in ("static", "program")

    @property
    def is_gone(self) -> bool:
        """True when it has left the map-cache."""
        return self.state is State.GONE

    def is_used(self, now: float) -> bool:
        """True when traffic used this entry within the last minute."""
        return now - self.last_used <= LATELY_S

    def to(self, new: State) -> None:
        """Change the state."""
        if new is self.state:
            return
        assert new in TRANSITIONS[self.state], (self.prefix, self.state, new)
        self.state = new


class Due(msgspec.Struct, frozen=True):
    """Entries that have expired, and entries that need a refresh."""

    expired: tuple[MapCacheEntry, ...] = ()
    aging: tuple[MapCacheEntry, ...] = ()


class MapCache:
    """At most `limit` entries, static ones not counted."""

    def __init__(self, limit: int = 10000) -> None:
        assert limit >= 1, limit
        self.limit = limit
        self.is_cut_off = False
        """No Map-Resolver answers: mappings in use outlive their TTL, because the peers may be reached all the same."""
        self._table: PrefixTable[MapCacheEntry] = PrefixTable()
        self._probation: Recency[EidPrefix, MapCacheEntry] = Recency()
        self._protected: Recency[EidPrefix, MapCacheEntry] = Recency()
        self._checks: EntryChecks[MapCacheEntry] = EntryChecks()

    def __len__(self) -> int:
        return len(self._table)

    def __iter__(self) -> Iterator[MapCacheEntry]:
        return chain.from_iterable(self.buckets())

    def buckets(self) -> Iterator[list[MapCacheEntry]]:
        """All entries in no particular order, some thousand at a time; the map-cache may change between two lists."""
        return self._table.buckets()

    def following(self, last: EidPrefix | None, limit: int) -> list[MapCacheEntry]:
        """At most `limit` entries after `last`, in the order of their prefixes; None: from the start."""
        return [entry for _, entry in self._table.following(last, limit)]

    def get(self, prefix: EidPrefix) -> MapCacheEntry | None:
        """The entry of exactly this prefix."""
        return self._table.get(prefix)

    def lookup(self, address: IpAddress, instance_id: int = 0) -> MapCacheEntry | None:
        """The entry with the longest prefix that holds the address."""
        found = self._table.lookup(address, instance_id)
        return found[1] if found else None

    def covering(self, prefix: EidPrefix) -> list[MapCacheEntry]:
        """The entries that hold all of a prefix, its own included, the longest first."""
        return [entry for _, entry in self._table.covering(prefix)]

    def narrower(self, prefix: EidPrefix) -> list[MapCacheEntry]:
        """The entries strictly more specific than `prefix`."""
        return [entry for _, entry in self._table.covered(prefix)]

    def insert(self, entry: MapCacheEntry) -> list[MapCacheEntry]:
        """Add or replace an entry; returns the evicted ones. A replacement inherits the usage of its predecessor."""
        old = self._table.get(entry.prefix)
        if old is not None:
            entry.last_used = max(entry.last_used, old.last_used)
            entry.is_proven = entry.is_proven or old.is_proven
            self._forget(old)
        self._table.insert(entry.prefix, entry)
        if entry.source == "static":
            return []
        (self._protected if entry.is_proven else self._probation).use(entry.prefix, entry)
        self._schedule(entry, entry.created_at)
        return self._make_room(keep=entry)

    def remove(self, prefix: EidPrefix) -> MapCacheEntry | None:
        """Remove an entry."""
        entry = self._table.get(prefix)
        if entry is not None:
            self._forget(entry)
        return entry

    def touch(self, prefixes: Iterable[EidPrefix], now: float) -> None:
        """Traffic has used these entries since the last call."""
        for prefix in prefixes:
            entry = self._table.get(prefix)
            if entry is None:
                continue
            entry.last_used = now
            if entry.source == "static":
                continue
            if not entry.is_proven and now - entry.created_at >= PROVEN_AFTER_S:
                entry.is_proven = True
                self._probation.pop(prefix)
            (self._protected if entry.is_proven else self._probation).use(prefix, entry)
        while len(self._protected) > max(1, int(self.limit * PROTECTED_SHARE)):
            prefix, entry = next(self._protected.oldest())
            self._protected.pop(prefix)
            entry.is_proven = False
            self._probation.use(prefix, entry)

    def shorten(self, entry: MapCacheEntry, expires_at: float, now: float) -> None:
        """Let an entry expire earlier than it would."""
        if entry.expires_at is None or expires_at < entry.expires_at:
            entry.expires_at = expires_at
            self._schedule(entry, now)

    def prolong(self, entry: MapCacheEntry, expires_at: float) -> None:
        """Let an entry expire later than it would. Its next check is the one that was due before."""
        if entry.expires_at is not None and entry.state is not State.GONE:
            entry.expires_at = max(entry.expires_at, expires_at)

    def set_limit(self, limit: int) -> list[MapCacheEntry]:
        """Change the limit; returns the evicted entries."""
        assert limit >= 1, limit
        self.limit = limit
        return self._make_room(keep=None)

    def wake_at(self) -> float | None:
        """When the next entry is to be checked."""
        return self._checks.first()

    def on_timer(self, now: float) -> Due:
        """Expire entries that are due, and find those in use that are close to expiry."""
        expired: list[MapCacheEntry] = []
        aging: dict[EidPrefix, MapCacheEntry] = {}
        while (entry := self._checks.pop_due(now)) is not None:
            assert entry.expires_at is not None, entry
            if entry.expires_at <= now and (extra_s := self._outlives_s(entry, now)):
                # It is in use and the mapping system is slow, or away: keep using it meanwhile.
                entry.to(State.STALE)
                entry.expires_at = now + extra_s
                aging[entry.prefix] = entry
                self._checks.add(entry.expires_at, entry)
                continue
            if entry.expires_at <= now:
                self._forget(entry)
                expired.append(entry)
                continue
            if entry.is_used(now) and entry.source in ("reply", "program"):
                aging[entry.prefix] = entry
            # Not in use now, but it may be later: check again halfway to the end.
            remaining = entry.expires_at - now
            self._checks.add(now + remaining / 2 if remaining > 2 * LAST_CHECK_S else entry.expires_at, entry)
        return Due(tuple(expired), tuple(aging.values()))

    def _outlives_s(self, entry: MapCacheEntry, now: float) -> float:
        """How much longer an expired entry counts, in seconds."""
        if self.is_cut_off and entry.locators and entry.is_used(now) and now < entry.created_at + CUT_OFF_MAX_S:
            return CUT_OFF_S
        return GRACE_S if entry.state is State.ACTIVE and now - entry.last_used <= GRACE_S else 0.0

    def _schedule(self, entry: MapCacheEntry, now: float) -> None:
        if entry.expires_at is None:
            return
        remaining = max(0.0, entry.expires_at - now)
        self._checks.add(now + REFRESH_AT_SHARE * remaining if remaining > LAST_CHECK_S else entry.expires_at, entry)

    def _make_room(self, keep: MapCacheEntry | None) -> list[MapCacheEntry]:
        evicted = []
        while len(self._probation) + len(self._protected) > self.limit:
            oldest = chain(self._probation.oldest(), self._protected.oldest())
            victim = next(entry for _, entry in oldest if entry is not keep)
            self._forget(victim)
            evicted.append(victim)
        return evicted

    def _forget(self, entry: MapCacheEntry) -> None:
        self._table.remove(entry.prefix)
        self._probation.pop(entry.prefix)
        self._protected.pop(entry.prefix)
        entry.to(State.GONE)

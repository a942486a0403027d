"""What an RTR asks a Map-Server elsewhere: where the peers of its nodes are, and where a node went that left its NAT.

Asked for: destinations without an entry, sources that come from elsewhere than their entry says, and what an SMR names.
Pure.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from typing import TypeAlias

from lispmob.control.acceptance import Guard
from lispmob.control.effect import Count, DropPending, LookupFailed, MachineEffect, MappingLearned, SendControl
from lispmob.control.locator_set import LocalLocator, LocatorSet
from lispmob.control.resolver import Resolver
from lispmob.hub.rtr_effect import Learned
from lispmob.wire.address import EidPrefix, IpAddress
from lispmob.wire.map_reply import MapReply

LIFETIME_MAX_S = 600.0  # ours: nobody tells an RTR that a mapping ended
ENTRY_LIMIT = 16384
STRANGER_S = 0.05  # ours: the data of a node that moved overtakes its register by some milliseconds
STRANGER_LIMIT = 1024

LookupEffect: TypeAlias = SendControl | Learned | DropPending


class RtrLookup:
    """The map-cache of an RTR. Without Map-Servers elsewhere it asks nobody: the one in the same hub knows."""

    def __init__(self, *, new_nonce: Callable[[], int]) -> None:
        self.counters: Counter[str] = Counter()
        self._resolver = Resolver((), new_nonce=new_nonce)
        self._servers: frozenset[IpAddress] = frozenset()
        self._own = LocatorSet()
        self._sites: tuple[EidPrefix, ...] = ()
        self._expires: dict[EidPrefix, float] = {}
        self._strangers: dict[EidPrefix, float] = {}  # when to ask about them

    def on_map_servers(
        self, servers: Iterable[IpAddress], own: Iterable[IpAddress], sites: Iterable[EidPrefix] = ()
    ) -> None:
        """Whom to ask, and from where; and what no answer may be wider than: the EID-Prefixes of our own sites."""
        self._sites = tuple(sites)
        self._own = LocatorSet.of(1, [LocalLocator(address) for address in own])
        self._servers = frozenset(servers) - self._own.addresses
        self._resolver.on_resolvers(sorted(self._servers, key=lambda one: (one.version, int(one))))
        self._resolver.on_locators(self._own)

    def wake_at(self) -> float | None:
        """When on_timer is due."""
        times = [*self._expires.values(), *self._strangers.values()]
        if (at := self._resolver.wake_at()) is not None:
            times.append(at)
        return min(times, default=None)

    def on_timer(self, now: float) -> list[LookupEffect]:
        """Ask again, and forget what is too old."""
        gone = [prefix for prefix, at in self._expires.items() if at <= now]
        for prefix in gone:
            del self._expires[prefix]
        due = [eid for eid, at in self._strangers.items() if at <= now]
        for eid in due:
            del self._strangers[eid]
        asked = [effect for eid in due for effect in self.on_doubt(eid, now)]
        return [*(Learned(prefix) for prefix in gone), *asked, *self._sort(self._resolver.on_timer(now), now)]

    def on_stranger(self, eid: EidPrefix, now: float) -> None:
        """Data of this host came from elsewhere than it is registered. Asked at once, its Map-Server might not know."""
        if self._servers and len(self._strangers) < STRANGER_LIMIT:
            self._strangers.setdefault(eid, now + STRANGER_S)

    def on_miss(self, source: IpAddress, eid: EidPrefix, now: float) -> list[LookupEffect]:
        """A packet met no entry."""
        if not self._servers:
            return [DropPending(eid, "nobody to ask")]
        return self._sort(self._resolver.on_miss(source, eid, now), now)

    def on_doubt(self, eid: EidPrefix, now: float) -> list[LookupEffect]:
        """What is known of a host may be wrong, or nothing is known."""
        return self._sort(self._resolver.on_smr(eid, eid, None, now), now) if self._servers else []

    def on_map_reply(self, reply: MapReply, arrived_at: IpAddress, now: float) -> list[LookupEffect]:
        """A Map-Reply came to the control port."""
        guard = Guard((), self._own.addresses, self._servers, sites=self._sites)
        return self._sort(self._resolver.on_map_reply(reply, arrived_at, guard, now), now)

    def _sort(self, effects: Iterable[MachineEffect], now: float) -> list[LookupEffect]:
        out: list[LookupEffect] = []
        for effect in effects:
            if isinstance(effect, SendControl | DropPending):
                out.append(effect)
            elif isinstance(effect, LookupFailed):
                out.append(DropPending(effect.asked, effect.why))
            elif isinstance(effect, MappingLearned):
                out += self._learn(effect, now)
            elif isinstance(effect, Count):
                self.counters[effect.name] += 1
        return out

    def _learn(self, learned: MappingLearned, now: float) -> list[LookupEffect]:
        out: list[LookupEffect] = []
        for record in learned.records:
            prefix = record.eid_prefix
            if prefix is None or not record.locators or record.ttl_min == 0 or len(self._expires) >= ENTRY_LIMIT:
                continue
            self._expires[prefix] = now + min(60.0 * record.ttl_min, LIFETIME_MAX_S)
            out.append(Learned(prefix, record))
        return out or [DropPending(learned.asked, "no mapping")]

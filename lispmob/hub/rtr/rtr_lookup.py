"""An RTR's lookups at another Map-Server: the peers of its nodes, and nodes that have left their NATs.

Destinations without an entry are looked up; and known prefixes again if their data comes from elsewhere, or an SMR
names them. Both of these are unauthenticated claims: they cause one lookup for a prefix in use, and none for others.
Pure.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable
from typing import TypeAlias

from lispmob.control.itr_security import ItrSecurity
from lispmob.control.lookups.resolver import Resolver
from lispmob.hub.rtr.rtr_effect import Learned
from lispmob.protocol.acceptance import Guard
from lispmob.protocol.agenda import Agenda
from lispmob.protocol.effect import Count, DropPending, LookupFailed, MachineEffect, MappingLearned, SendControl
from lispmob.protocol.locator_set import LocalLocator, LocatorSet
from lispmob.protocol.prefix_table import PrefixTable
from lispmob.protocol.rate_limit import KeyedBuckets
from lispmob.wire.address import EidPrefix, IpAddress
from lispmob.wire.map_reply import MapReply

LIFETIME_MAX_S = 600.0  # ours: an RTR is not informed of removed mappings
ENTRY_LIMIT = 16384
SLICE = 128  # ours: entries that expire at a time; the timer is due again at once for the rest
STRANGER_S = 0.05  # ours: the data of a node that moved arrives some milliseconds before its register
STRANGER_LIMIT = 1024
DOUBT_S = 3.0  # RFC 9301, 6.1: SMR-invoked Map-Requests, one per 3 s and EID-Prefix
DOUBTS_OPEN = 64  # ours: lookups caused by claims, at a time; misses have the rest
MISSES_EACH_S = 10  # ours: one scanning node leaves half of the rate to the others
MISSES_EACH_BURST = 10

LookupEffect: TypeAlias = SendControl | Learned | DropPending


class RtrLookup:
    """The map-cache of an RTR. Without other Map-Servers it sends no requests: the local one knows all mappings."""

    def __init__(self, *, new_nonce: Callable[[], int], security: ItrSecurity | None = None) -> None:
        self.counters: Counter[str] = Counter()
        self._resolver = Resolver((), new_nonce=new_nonce, security=security)
        self._servers: frozenset[IpAddress] = frozenset()
        self._own = LocatorSet()
        self._expires: Agenda[EidPrefix] = Agenda()
        self._learned: PrefixTable[bool] = PrefixTable()
        self._strangers: OrderedDict[EidPrefix, tuple[EidPrefix, float]] = OrderedDict()  # when to ask, the next first
        self._doubts: KeyedBuckets[EidPrefix] = KeyedBuckets(DOUBT_S, 2)
        self._doubted: OrderedDict[EidPrefix, float] = OrderedDict()  # asked because of claims, oldest first
        self._misses: KeyedBuckets[EidPrefix] = KeyedBuckets(1 / MISSES_EACH_S, MISSES_EACH_BURST)
        self._sites: tuple[EidPrefix, ...] = ()

    def on_map_servers(
        self, servers: Iterable[IpAddress], own: Iterable[IpAddress], sites: Iterable[EidPrefix] = ()
    ) -> None:
        """The Map-Servers to ask, our addresses, and our sites' EID-Prefixes, which limit the width of answers."""
        self._sites = tuple(sites)
        self._own = LocatorSet.of(1, [LocalLocator(address) for address in own])
        self._servers = frozenset(servers) - self._own.addresses
        self._resolver.on_resolvers(sorted(self._servers, key=lambda one: (one.version, int(one))))
        self._resolver.on_locators(self._own)

    def wake_at(self) -> float | None:
        """When on_timer is due."""
        stranger_at = next(iter(self._strangers.values()))[1] if self._strangers else None
        times = (self._expires.first(), stranger_at, self._resolver.wake_at())
        return min((at for at in times if at is not None), default=None)

    def expects(self, nonce: int) -> bool:
        """True when a Map-Reply with this nonce answers a question of ours."""
        return self._resolver.expects(nonce)

    def known(self, eid: EidPrefix) -> EidPrefix | None:
        """The learned prefix that holds this host; None if it was never looked up."""
        found = self._learned.covering(eid)
        return found[0][0] if found else None

    def on_timer(self, now: float) -> list[LookupEffect]:
        """Ask again, and remove expired entries."""
        gone = self._expires.due(now, SLICE)
        for prefix in gone:
            self._learned.remove(prefix)
        asked: list[LookupEffect] = []
        while self._strangers and next(iter(self._strangers.values()))[1] <= now:
            eid, (known_as, _) = self._strangers.popitem(last=False)
            asked += self.on_doubt(eid, known_as, now)
        return [*(Learned(prefix) for prefix in gone), *asked, *self._sort(self._resolver.on_timer(now), now)]

    def on_unregistered(self, eid: EidPrefix, known_as: EidPrefix, now: float) -> None:
        """Data of this host came from elsewhere than `known_as` says. Ask with a delay: its register may be slower."""
        if self._servers and len(self._strangers) < STRANGER_LIMIT and self._doubts.available_at(known_as, now) <= now:
            self._strangers.setdefault(eid, (known_as, now + STRANGER_S))

    def on_miss(self, source: IpAddress, sender: EidPrefix, eid: EidPrefix, now: float) -> list[LookupEffect]:
        """A packet has no entry. `sender` is the registered prefix of `source`, or a host: it has a rate limit."""
        if not self._servers:
            return [DropPending(eid, "no Map-Resolver to ask")]
        if not self._resolver.asks(eid) and not self._misses.take(sender, now):
            self.counters["tx_rate"] += 1
            return [DropPending(eid, "rate-limited")]
        return self._sort(self._resolver.on_miss(source, eid, now), now)

    def on_doubt(self, eid: EidPrefix, known_as: EidPrefix, now: float) -> list[LookupEffect]:
        """The mapping of a host, part of this prefix, may be wrong. One lookup at a time for a prefix."""
        if not self._servers:
            return []
        while self._doubted and not self._resolver.asks(next(iter(self._doubted))):
            self._doubted.popitem(last=False)
        if len(self._doubted) >= DOUBTS_OPEN or not self._doubts.take(known_as, now):
            self.counters["rx_rate"] += 1
            return []
        self._doubted[eid] = now
        return self._sort(self._resolver.on_smr(eid, known_as, None, now), now)

    def on_map_reply(self, reply: MapReply, raw: bytes, arrived_at: IpAddress, now: float) -> list[LookupEffect]:
        """A Map-Reply arrived at the control port; `raw` are its octets."""
        guard = Guard((), self._own.addresses, self._servers, sites=self._sites)
        return self._sort(self._resolver.on_map_reply(reply, arrived_at, guard, now, raw=raw), now)

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
            self._expires.set(prefix, now + min(60.0 * record.ttl_min, LIFETIME_MAX_S))
            self._learned.insert(prefix, True)
            out.append(Learned(prefix, record))
        return out or [DropPending(learned.asked, "no mapping")]

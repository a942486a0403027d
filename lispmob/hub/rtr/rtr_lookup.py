"""What an RTR asks a Map-Server elsewhere: where the peers of its nodes are, and where a node went that left its NAT.

Asked for: destinations without an entry; and what is known already, when its data comes from elsewhere or an SMR names
it. Those two are claims that nobody proves: they cost one question for a prefix that is in use, and nothing for others.
Pure.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable
from typing import TypeAlias

from lispmob.control.itr_security import ItrSecurity
from lispmob.control.resolver import Resolver
from lispmob.hub.rtr.rtr_effect import Learned
from lispmob.protocol.acceptance import Guard
from lispmob.protocol.agenda import Agenda
from lispmob.protocol.effect import Count, DropPending, LookupFailed, MachineEffect, MappingLearned, SendControl
from lispmob.protocol.locator_set import LocalLocator, LocatorSet
from lispmob.protocol.prefix_table import PrefixTable
from lispmob.protocol.rate_limit import KeyedBuckets
from lispmob.wire.address import EidPrefix, IpAddress
from lispmob.wire.map_reply import MapReply

LIFETIME_MAX_S = 600.0  # ours: nobody tells an RTR that a mapping ended
ENTRY_LIMIT = 16384
SLICE = 128  # ours: entries that run out in one go; the timer is due again at once for the others
STRANGER_S = 0.05  # ours: the data of a node that moved overtakes its register by some milliseconds
STRANGER_LIMIT = 1024
DOUBT_S = 3.0  # RFC 9301, 6.1: SMR-invoked Map-Requests, one per 3 s and EID-Prefix
DOUBTS_OPEN = 64  # ours: questions that others' words cause, at a time; misses have the rest
MISSES_EACH_S = 10  # ours: one node that scans leaves half of what may be asked to the others
MISSES_EACH_BURST = 10

LookupEffect: TypeAlias = SendControl | Learned | DropPending


class RtrLookup:
    """The map-cache of an RTR. Without Map-Servers elsewhere it asks nobody: the one in the same hub knows."""

    def __init__(self, *, new_nonce: Callable[[], int], security: ItrSecurity | None = None) -> None:
        self.counters: Counter[str] = Counter()
        self._resolver = Resolver((), new_nonce=new_nonce, security=security)
        self._servers: frozenset[IpAddress] = frozenset()
        self._own = LocatorSet()
        self._expires: Agenda[EidPrefix] = Agenda()
        self._learned: PrefixTable[bool] = PrefixTable()
        self._strangers: OrderedDict[EidPrefix, tuple[EidPrefix, float]] = OrderedDict()  # when to ask, the next first
        self._doubts: KeyedBuckets[EidPrefix] = KeyedBuckets(DOUBT_S, 2)
        self._doubted: OrderedDict[EidPrefix, float] = OrderedDict()  # asked for on others' words, the oldest first
        self._misses: KeyedBuckets[EidPrefix] = KeyedBuckets(1 / MISSES_EACH_S, MISSES_EACH_BURST)
        self._sites: tuple[EidPrefix, ...] = ()

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
        stranger_at = next(iter(self._strangers.values()))[1] if self._strangers else None
        times = (self._expires.first(), stranger_at, self._resolver.wake_at())
        return min((at for at in times if at is not None), default=None)

    def expects(self, nonce: int) -> bool:
        """True when a Map-Reply with this nonce answers a question of ours."""
        return self._resolver.expects(nonce)

    def known(self, eid: EidPrefix) -> EidPrefix | None:
        """The learned prefix that holds this host; None when it is nobody that we ever cared about."""
        found = self._learned.covering(eid)
        return found[0][0] if found else None

    def on_timer(self, now: float) -> list[LookupEffect]:
        """Ask again, and forget what is too old."""
        gone = self._expires.due(now, SLICE)
        for prefix in gone:
            self._learned.remove(prefix)
        asked: list[LookupEffect] = []
        while self._strangers and next(iter(self._strangers.values()))[1] <= now:
            eid, (known_as, _) = self._strangers.popitem(last=False)
            asked += self.on_doubt(eid, known_as, now)
        return [*(Learned(prefix) for prefix in gone), *asked, *self._sort(self._resolver.on_timer(now), now)]

    def on_stranger(self, eid: EidPrefix, known_as: EidPrefix, now: float) -> None:
        """Data of this host came from elsewhere than `known_as` says. Asked at once, its Map-Server might not know."""
        if self._servers and len(self._strangers) < STRANGER_LIMIT and self._doubts.available_at(known_as, now) <= now:
            self._strangers.setdefault(eid, (known_as, now + STRANGER_S))

    def on_miss(self, source: IpAddress, sender: EidPrefix, eid: EidPrefix, now: float) -> list[LookupEffect]:
        """A packet met no entry. `sender` is what `source` is registered as, or a host: who may ask only so often."""
        if not self._servers:
            return [DropPending(eid, "nobody to ask")]
        if not self._resolver.asks(eid) and not self._misses.take(sender, now):
            self.counters["tx_rate"] += 1
            return [DropPending(eid, "rate-limited")]
        return self._sort(self._resolver.on_miss(source, eid, now), now)

    def on_doubt(self, eid: EidPrefix, known_as: EidPrefix, now: float) -> list[LookupEffect]:
        """What is known of a host, as part of this prefix, may be wrong. One question at a time for a prefix."""
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
        """A Map-Reply came to the control port; `raw` are its octets."""
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

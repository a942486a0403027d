"""Applies answers, time and traffic to the map-cache, and keeps the forwarding table in step with it.

How a Map-Reply becomes a forwarding entry:

1. `on_learned` gets its accepted records (`protocol/acceptance.py`), less-specific ones first. A static mapping, or a
   newer announcement of the peer itself, takes precedence over a record.
2. The record becomes a `MapCacheEntry` with a bounded lifetime. A new entry may evict an unused one (`map_cache.py`).
3. `ForwardingPolicy.decide` (`forwarding.py`) turns the entry into an `InstallMapping`: the usable locators in order,
   or drop, native or a proxy. The datapath gets it only if it differs from the installed one.

The third step is repeated whenever one of its inputs changes: our locators (`on_locators`, a move), a peer's locator
that is down or up again (`on_reachability`) or loses data (`on_losses`), the measured order of equal locators
(`on_ranks`), or the configuration (`on_policy`). A large cache is computed again in batches, so that the Map-Registers
of a move are not delayed.

`on_timer` expires entries, and asks for a refresh of those that are in use.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet

from msgspec.structs import replace

from lispmob.control.announced_moves import AnnouncedMoves, Mover
from lispmob.control.forwarding import (
    NO_LOSSES,
    DataLosses,
    ForwardingPolicy,
    decide,
    equals,
    preferring,
    usable_locators,
)
from lispmob.control.map_cache import MAX_LOCATORS, MapCache, MapCacheEntry, Source, State
from lispmob.control.preference import Group
from lispmob.protocol.effect import (
    Count,
    DropPending,
    Event,
    InstallMapping,
    LookupFailed,
    MachineEffect,
    MappingChanged,
    MappingLearned,
    RefreshNeeded,
    RemoveMapping,
)
from lispmob.protocol.locator_set import LocatorSet
from lispmob.protocol.split_dict import AnyDict, grown
from lispmob.wire.address import EidPrefix, IpAddress
from lispmob.wire.record import TTL_RECEIVER_DECIDES, Action, Locator, MappingRecord

LONGEST_TTL_S = 24 * 3600.0  # ours: no answer is used for longer than a day
PLACEHOLDER_S = 30.0  # RFC 9301, 5.5: after ten tries without an answer, leave it for 30 s
BATCH = 256  # ours: about two milliseconds of decisions
# Ours: entries that an answer supersedes go at once, up to this number; others end with their own TTL.
REPLACED_MAX = 256
MOVER_S = 3.0  # ours: the time of a lookup, and of another one if the register overtook the first
MOVERS_MAX = 64  # ours: peers that move within three seconds
PAST_MAX = 64  # ours: as many as a node behind a NAT has direct paths
STALE_S = 60.0  # ours: how long a mapping that is no longer trusted may still carry traffic
HOPELESS_S = 30.0  # ours: how long packets are refused because of one answer, while more of them arrive


class Mappings:
    """Holds the map-cache, and keeps the forwarding table in step with it."""

    def __init__(self, policy: ForwardingPolicy, limit: int) -> None:
        self.cache = MapCache(limit)
        self._policy = policy
        self._own = LocatorSet()
        self._unreachable: set[IpAddress] = set()
        self.installed: AnyDict[EidPrefix, InstallMapping] = {}
        """The forwarding entries as last installed, by prefix. Read by others."""
        self._ranks: Mapping[Group, Mapping[IpAddress, int]] = {}
        self._losses = NO_LOSSES
        self._defaults: dict[EidPrefix, MappingRecord] = {}  # used where there is no mapping
        self._configured: frozenset[EidPrefix] = frozenset()
        self._added: dict[EidPrefix, MappingRecord] = {}  # static, added by a client: a reload keeps them
        # Hosts that send past their RTR, and their addresses.
        self._past: OrderedDict[EidPrefix, IpAddress] = OrderedDict()
        self._movers: OrderedDict[EidPrefix, Mover] = OrderedDict()
        self.announced = AnnouncedMoves()
        self._in_doubt: deque[MapCacheEntry] = deque()  # decided before the last change of uplinks or policy
        self._in_doubt_since = 0.0

    def wake_at(self) -> float | None:
        """When to call on_timer, in monotonic seconds."""
        times = [self.cache.wake_at(), *(mover.until for mover in self._movers.values())]
        times += [self._in_doubt_since] if self._in_doubt else []
        return min((at for at in times if at is not None), default=None)

    def on_policy(
        self, policy: ForwardingPolicy, limit: int, static: Iterable[MappingRecord], now: float
    ) -> list[MachineEffect]:
        """The configuration has changed; static mappings are part of it."""
        self._policy = policy
        effects = self._dropped(self.cache.set_limit(limit), "evicted")
        configured = {prefix: record for record in static if (prefix := record.eid_prefix) is not None}
        wanted = self._defaults | configured
        former, self._configured = self._configured, frozenset(configured)
        unwanted = (
            self.cache.get(eid_prefix)
            for eid_prefix in former
            if eid_prefix not in wanted and eid_prefix not in self._added
        )
        gone = [entry for entry in unwanted if entry is not None and entry.source == "static"]
        for entry in gone:
            self.cache.remove(entry.prefix)
        effects += self._dropped(gone, "configuration")
        for prefix, record in wanted.items():
            if prefix in self._added:
                continue  # added by a client, so it stays; there may be very many
            present = self.cache.get(prefix)
            if present is None or present.source != "static" or (present.locators, present.action) != _content(record):
                effects += self._insert_static(prefix, record, now)
        return effects + self._reconsider_all(now)

    def on_proof_required(self) -> list[MachineEffect]:
        """From now on only mappings with LISP-SEC, and those from this host, are used."""
        gone = [entry for entry in self.cache if entry.source != "static" and not entry.is_genuine]
        for entry in gone:
            self.cache.remove(entry.prefix)
        return self._dropped(gone, "not genuine")

    def on_defaults(self, records: Iterable[MappingRecord], now: float) -> list[MachineEffect]:
        """Use these records, which lead to RTRs, for every EID without a mapping; empty: use the mapping system again.

        Entries without locators are removed: from behind a NAT they cannot be refreshed.
        """
        wanted = {prefix: record for record in records if (prefix := record.eid_prefix) is not None}
        if wanted == self._defaults:
            return []
        stale = (
            [mapping for mapping in self.cache if not mapping.is_local_word and not mapping.locators] if wanted else []
        )
        gone = [one for prefix in self._defaults.keys() - wanted.keys() if (one := self.cache.get(prefix)) is not None]
        for entry in (*stale, *gone):
            self.cache.remove(entry.prefix)
        effects = self._dropped([*stale, *gone], "traversal")
        for prefix, record in wanted.items():
            present = self.cache.get(prefix)
            if present is None or present.source != "static" or prefix in self._defaults:
                effects += self._insert_static(prefix, record, now)
        self._defaults = wanted
        return effects

    @property
    def added(self) -> int:
        """How many static mappings clients have added."""
        return len(self._added)

    def is_added(self, prefix: EidPrefix) -> bool:
        """True for a mapping that a client added."""
        return prefix in self._added

    def on_added(
        self, record: MappingRecord, now: float, source: Source = "static", ttl_s: float | None = None
    ) -> list[MachineEffect]:
        """A client on this host adds a mapping.

        A static one stays until it is deleted or the node stops. One from a mapping program is treated as an answer: it
        may be evicted when unused, and after `ttl_s` the program is asked again.
        """
        prefix = record.eid_prefix
        assert prefix is not None, record
        if source == "static":
            self._added[prefix] = record
            return self._insert_static(prefix, record, now)
        self._added.pop(prefix, None)
        end = None if ttl_s is None else now + ttl_s
        # It was wanted because of packets, so it is in use.
        entry = MapCacheEntry(prefix, record.locators, record.action, now, end, last_used=now, source=source)
        return self._insert(entry)

    def on_deleted(self, prefix: EidPrefix) -> list[MachineEffect]:
        """A client deletes a mapping. A configured one comes back with the next reload."""
        self._added.pop(prefix, None)
        entry = self.cache.remove(prefix)
        return self._dropped([entry] if entry else [], "deleted")

    def on_locators(self, own: LocatorSet, now: float) -> list[MachineEffect]:
        """Our RLOCs have changed. Without any, the table stays as it is: nothing can be sent anyway."""
        if not own:
            return []
        self._own = own
        return self._reconsider_all(now)

    def on_reachability(self, remote: IpAddress, is_up: bool, now: float) -> list[MachineEffect]:
        """A locator stopped answering, or answers again: compute the entries that name it again, at once."""
        (self._unreachable.discard if is_up else self._unreachable.add)(remote)
        return self._reconsider_those_with({remote}, now)

    def on_losses(self, losses: DataLosses, now: float) -> list[MachineEffect]:
        """Tests in data have shown which locators lose data: compute the affected entries again, at once."""
        before, self._losses = self._losses, losses
        changed = (before.lost ^ losses.lost) | (before.passing ^ losses.passing)
        return self._reconsider_those_with(changed, now) if changed else []

    def groups(self, now: float) -> set[Group]:
        """The locators of the best priority of each mapping in use: those that a preference may order."""
        found: set[Group] = set()
        for entry in self.cache:
            if len(entry.locators) > 1:
                group = equals(usable_locators(entry.locators, self._policy, self._own))
                if entry.is_used(now) or group in self._ranks:  # an unused one keeps its order
                    found.add(group)
        return found

    def on_ranks(self, ranks: Mapping[Group, Mapping[IpAddress, int]], now: float) -> list[MachineEffect]:
        """The order of equal locators has changed: compute the affected entries again."""
        if ranks == self._ranks:
            return []
        self._ranks = dict(ranks)
        return self._reconsider_all(now)

    def siblings(self, remote: IpAddress) -> set[IpAddress]:
        """The other locators in mappings that name this one."""
        named = (entry for entry in self.cache if any(remote in locator.ips for locator in entry.locators))
        return {address for entry in named for locator in entry.locators for address in locator.ips} - {remote}

    def on_learned(self, learned: MappingLearned, now: float) -> list[MachineEffect]:
        """The mapping system answered. Less-specific records are installed first, so that the others survive."""
        self.cache.is_cut_off = False
        known = [(prefix, record) for record in learned.records if (prefix := record.eid_prefix) is not None]
        answers = [(self._scope(prefix, record, learned.asked), record) for prefix, record in known]
        answers.sort(key=lambda answer: answer[0].mask_len)
        answered = {prefix for prefix, record in answers if record.ttl_min}
        effects: list[MachineEffect] = []
        held = self.cache.lookup(learned.asked.address, learned.asked.instance_id)
        for prefix, record in answers:
            present = self.cache.get(prefix)
            if present is not None and (present.is_local_word or _is_anothers(present, learned.asked, now)):
                continue
            if held is not None and prefix.covers(held.prefix) and self._outlives(held, record, now):
                effects += self._keep_held(held, record)
                continue
            if learned.reason != "published" and self.announced.is_overtaken(prefix, record.locators, now):
                effects += [decision] if (decision := self.installed.get(prefix)) is not None else []
                continue
            effects += self._learn(prefix, record, answered, learned, now)
        if self.cache.lookup(learned.asked.address, learned.asked.instance_id) is None:
            effects.append(DropPending(learned.asked, "mapping withdrawn"))
        return effects

    def on_announced(self, record: MappingRecord, now: float) -> list[MachineEffect]:
        """A peer announced its new locators in its session, which authenticates the peer.

        They are used until the mapping system's next answer. Locators that its mapping did not name before are on
        trial: they may belong to a host that did not ask for packets.
        """
        prefix = record.eid_prefix
        present = self.cache.get(prefix) if prefix is not None else None
        if prefix is None or present is None or present.source != "reply" or not present.locators:
            return [Count("rx_announcement_unknown")]
        if present.locators == record.locators:
            if self.announced.is_held(prefix, now) and (until := self.announced.hold(prefix, record, now)) is not None:
                self.cache.prolong(present, until)
            if record.map_version in (0, present.map_version):
                return []
            present.map_version = record.map_version
            self._doubt(present, now)
            return self._reconsider(now)
        self.announced.put_on_trial(prefix, record.locators, present.locators)
        self.announced.on_moved(prefix, present.locators, record.locators, now)
        until = self.announced.hold(prefix, record, now)
        entry = MapCacheEntry(
            prefix,
            record.locators[:MAX_LOCATORS],
            record.action,
            created_at=now,
            expires_at=present.expires_at if until is None else max(until, present.expires_at or until),
            map_version=record.map_version or present.map_version,
            is_genuine=present.is_genuine,
            told_by="announced",
        )
        rlocs = [str(locator.ip) for locator in record.locators if locator.ip is not None]
        return [*self._insert(entry), Event("mapping-announced", {"eid": str(prefix), "rlocs": rlocs})]

    def _outlives(self, held: MapCacheEntry, record: MappingRecord, now: float) -> bool:
        """Whether the peer's announcement is newer than this answer, and the peer was found where it says."""
        decision = self.installed.get(held.prefix)
        if decision is None or decision.disposition != "ENCAPSULATE":
            return False
        is_found = any(not locator.is_on_trial for locator in decision.locators)
        return is_found and self.announced.is_outdated(held.prefix, record, now)

    def _keep_held(self, held: MapCacheEntry, record: MappingRecord) -> list[MachineEffect]:
        """An answer is older than what the peer announced. Packets may be waiting for it. TTL 0 asks for a question."""
        decision = self.installed.get(held.prefix)
        told: list[MachineEffect] = [Count("rx_announcement_newer")]
        told += [] if decision is None else [decision]
        return [*told, RefreshNeeded(held.prefix)] if record.ttl_min == 0 else told

    def on_announced_past_rtr(self, record: MappingRecord, now: float) -> list[MachineEffect]:
        """A peer announced locators that our RTR cannot send to, and that we can: send there, past the RTR.

        All of them are on trial. The mapping system is not asked, so the announcement counts for its TTL alone.
        """
        prefix = record.eid_prefix
        assert prefix is not None, record
        present = self.cache.get(prefix)
        if present is not None and present.locators == record.locators:
            return self.on_announced(record, now)
        until = self.announced.hold(prefix, record, now)
        if until is None or (present is not None and present.source != "reply"):
            return [Count("rx_announcement_unknown")]
        self.announced.put_on_trial(prefix, record.locators, ())
        entry = MapCacheEntry(
            prefix,
            record.locators[:MAX_LOCATORS],
            record.action,
            created_at=now,
            expires_at=until,
            last_used=now,
            map_version=record.map_version,
            told_by="announced",
        )
        rlocs = [str(locator.ip) for locator in record.locators if locator.ip is not None]
        return [*self._insert(entry), Event("mapping-announced", {"eid": str(prefix), "rlocs": rlocs})]

    def on_relayed_again(self, prefixes: Iterable[EidPrefix]) -> list[MachineEffect]:
        """An RTR leads everywhere again, also to these."""
        found = [entry for prefix in prefixes if (entry := self.cache.get(prefix)) is not None]
        gone = [entry for entry in found if entry.source == "reply"]
        for entry in gone:
            self.cache.remove(entry.prefix)
        return self._dropped(gone, "traversal")

    def on_moved_away(self, prefix: EidPrefix, locators: tuple[Locator, ...]) -> list[MachineEffect]:
        """A peer announced that it is at these locators: remove a mapping that names others."""
        entry = self.cache.get(prefix)
        if entry is None or entry.source != "reply" or entry.locators == locators:
            return [Count("rx_announcement_unknown")]
        self.cache.remove(prefix)
        return self._dropped([entry], "announced")

    def on_answered(self, remote: IpAddress, prefix: EidPrefix, now: float) -> list[MachineEffect]:
        """A locator has answered for this EID-Prefix: its trial is over."""
        if not self.announced.pass_trial(remote, prefix):
            return []
        self._doubt(self.cache.get(prefix), now)
        return self._reconsider(now)

    def on_lookup_failed(self, failed: LookupFailed, now: float) -> list[MachineEffect]:
        """No answer came. An existing mapping stays in use; without one, no further request is sent for a while."""
        self.cache.is_cut_off |= failed.why in ("unanswered", "no-locator")
        if self.cache.lookup(failed.asked.address, failed.asked.instance_id) is not None:
            return [DropPending(failed.asked, failed.why)]
        effects: list[MachineEffect] = []
        if failed.why == "unanswered" and failed.reason != "doubt":  # the lookup was not caused by our packets
            expiry = now + PLACEHOLDER_S
            entry = MapCacheEntry(failed.asked, created_at=now, expires_at=expiry, source="placeholder")
            effects += self._insert(entry)
            effects.append(Event("mapping-negative", {"eid": str(failed.asked), "why": failed.why}))
        return [*effects, DropPending(failed.asked, failed.why)]

    def on_timer(self, now: float) -> list[MachineEffect]:
        """Expire entries, and refresh those in use that are close to expiry."""
        over = [prefix for prefix, mover in self._movers.items() if mover.until <= now]
        for prefix in over:
            del self._movers[prefix]
            self._doubt(self.cache.get(prefix), now)
        due = self.cache.on_timer(now)
        refresh: list[MachineEffect] = [RefreshNeeded(entry.prefix) for entry in due.aging]
        return refresh + self._dropped(due.expired, "expired") + self._reconsider(now)

    def on_slept(self, now: float) -> list[MachineEffect]:
        """The host was suspended and TTLs did not run: trust no entry, and refresh those in use."""
        effects: list[MachineEffect] = []
        for entry in self.cache:
            if entry.is_local_word:
                continue
            if entry.source == "placeholder" or not entry.is_used(now):
                self.cache.remove(entry.prefix)
                effects += self._dropped([entry], "slept")
                continue
            entry.to(State.STALE)
            self.cache.shorten(entry, now + STALE_S, now)
            effects.append(RefreshNeeded(entry.prefix))
        return effects

    def on_direct_path(self, eid: EidPrefix, rloc: IpAddress, now: float) -> list[MachineEffect]:
        """A host behind a NAT has proven a direct path to us: accept its data from that address too.

        Its mapping says whether it is behind a NAT (R=0 locators). Nothing proves whose address it is.
        """
        if self._past.get(eid) == rloc:
            return []
        self._past[eid] = rloc
        self._past.move_to_end(eid)
        if len(self._past) > PAST_MAX:
            self._past.popitem(last=False)
        self._doubt(self.cache.lookup(eid.address, eid.instance_id), now)
        return self._reconsider(now)

    def on_mover(self, entry: MapCacheEntry, rloc: IpAddress, now: float) -> list[MachineEffect]:
        """A peer proved that it was at a locator of its mapping, and says from `rloc` that it has moved.

        Until the mapping system answers, its data is accepted from there. If the mapping names `rloc`, data is sent
        there rather than to better locators, which the peer has just left. Otherwise nothing is sent there.
        """
        known = self._movers.get(entry.prefix)
        if known is not None and known.rloc == rloc and known.former == entry.locators and now < known.until:
            return []  # repetition does not make it more credible
        self._movers[entry.prefix] = Mover(rloc, now + MOVER_S, entry.locators)
        self._movers.move_to_end(entry.prefix)
        if len(self._movers) > MOVERS_MAX:
            self._doubt(self.cache.get(self._movers.popitem(last=False)[0]), now)
        self._doubt(entry, now)
        return self._reconsider(now)

    def _doubt(self, entry: MapCacheEntry | None, now: float) -> None:
        """Compute its forwarding entry again, before any other."""
        if entry is not None:
            self._in_doubt.appendleft(entry)
            self._in_doubt_since = now

    def in_use(self, now: float) -> list[RefreshNeeded]:
        """Refresh the mappings that carried traffic in the last minute: updates may have been missed."""
        used = (entry for entry in self.cache if entry.source == "reply" and entry.locators and entry.is_used(now))
        return [RefreshNeeded(entry.prefix) for entry in used]

    def is_dead(self, entry: MapCacheEntry) -> bool:
        """True for a mapping with locators none of which we can use, or none of which answers."""
        told = self.installed.get(entry.prefix)
        return bool(entry.locators) and told is not None and told.disposition in ("DROP", "DOUBT")

    def known(self, address: IpAddress, instance_id: int) -> MapCacheEntry | None:
        """The non-static entry with locators that covers an EID: others may cause its refresh."""
        entry = self.cache.lookup(address, instance_id)
        return entry if entry is not None and entry.source in ("reply", "program") and entry.locators else None

    def refuted(self, address: IpAddress, instance_id: int) -> MapCacheEntry | None:
        """The entry that refuses packets to an EID, or leaves them to the host: wrong if the EID is alive."""
        entry = self.cache.lookup(address, instance_id)
        if entry is None or entry.is_local_word:
            return None
        told = self.installed.get(entry.prefix)
        return entry if told is not None and told.disposition in ("DROP", "NATIVE", "DOUBT") else None

    def _learn(
        self, prefix: EidPrefix, record: MappingRecord, answered: set[EidPrefix], learned: MappingLearned, now: float
    ) -> list[MachineEffect]:
        before = self.cache.get(prefix)
        if learned.reason != "published":
            self.announced.on_answered(prefix)
        elif before is not None and before.locators and before.locators != record.locators:
            self.announced.on_moved(prefix, before.locators, record.locators, now)
        self.announced.end_trials(prefix)
        if record.ttl_min == 0:
            entry = self.cache.remove(prefix)
            return self._dropped([entry] if entry else [], "withdrawn")
        # Only a record that covers the request may remove narrower entries; the others are beside it.
        asked, reason = learned.asked, learned.reason
        found = self.cache.narrower(prefix) if prefix.covers(asked) else []
        narrower = [entry for entry in found if not entry.is_local_word and entry.prefix not in answered]
        replaced = [mapping for mapping in narrower if _is_superfluous(mapping, record, asked, now)][:REPLACED_MAX]
        for mapping in replaced:
            self.cache.remove(mapping.prefix)
        effects = self._dropped(replaced, "replaced")
        expires_at = now + _lifetime_s(record.ttl_min)
        kept = [
            mapping.expires_at
            for mapping in narrower
            if mapping.state is not State.GONE and mapping.expires_at is not None
        ]
        entry = MapCacheEntry(
            prefix,
            record.locators[:MAX_LOCATORS],
            record.action,
            created_at=now,
            expires_at=min([expires_at, *kept]),  # RFC 9301, 5.5: so that no hole opens when they expire
            last_used=max([now if reason == "miss" else float("-inf"), *(mapping.last_used for mapping in replaced)]),
            map_version=record.map_version,
            is_genuine=learned.is_genuine,
            told_by="published" if learned.reason == "published" and learned.is_genuine else "",
        )
        kind = "mapping-installed" if record.locators else "mapping-negative"
        rlocs = [str(locator.ip) for locator in record.locators if locator.ip is not None]
        effects += self._insert(entry)
        effects.append(Event(kind, {"eid": str(prefix), "rlocs": rlocs, "ttl_min": record.ttl_min, "why": reason}))
        return effects

    def _scope(self, prefix: EidPrefix, record: MappingRecord, asked: EidPrefix) -> EidPrefix:
        """The part of a record that counts: without LISP, the part inside or outside of the overlay prefixes."""
        if record.locators or record.action != Action.NATIVELY_FORWARD:
            return prefix
        return self._policy.narrowed(prefix, asked)

    def _insert_static(self, prefix: EidPrefix, record: MappingRecord, now: float) -> list[MachineEffect]:
        return self._insert(MapCacheEntry(prefix, record.locators, record.action, created_at=now, source="static"))

    def _insert(self, entry: MapCacheEntry) -> list[MachineEffect]:
        told = _changed(self.cache.get(entry.prefix), entry)
        evicted = self._dropped(self.cache.insert(entry), "evicted")
        # Install it even if nothing changed: packets may be waiting for this entry.
        decision = self.installed[entry.prefix] = self._decide(entry)
        self.installed = grown(self.installed)
        if self._is_hopeless(entry, decision):
            self.cache.shorten(entry, entry.created_at + HOPELESS_S, entry.created_at)
        return [*evicted, decision, *told]

    def _decide(self, entry: MapCacheEntry) -> InstallMapping:
        """The forwarding entry, including NAT addresses from which hosts of this mapping have proven a direct path."""
        made = decide(entry, self._policy, self._own, self._unreachable, self._ranks, self._losses)
        made = replace(made, map_version=entry.map_version) if entry.map_version else made
        made = replace(made, locators=self.announced.mark(entry.prefix, made.locators))
        is_translated = any(not locator.is_reachable for locator in entry.locators)
        past = [rloc for eid, rloc in self._past.items() if is_translated and entry.prefix.covers(eid)]
        mover = self._movers.get(entry.prefix)
        if mover is not None and not any(mover.rloc in locator.ips for locator in entry.locators):
            past.append(mover.rloc)
        elif mover is not None and mover.former == entry.locators:
            made = replace(made, locators=preferring(mover.rloc, made.locators))
        return replace(made, sources=(*made.sources, *past)) if past else made

    def _dropped(self, entries: Iterable[MapCacheEntry], why: str) -> list[MachineEffect]:
        effects: list[MachineEffect] = []
        for entry in entries:
            self.installed.pop(entry.prefix, None)
            effects.append(RemoveMapping(entry.prefix))
            effects.append(Event("mapping-removed", {"eid": str(entry.prefix), "why": why}))
            effects.append(MappingChanged("delete", entry.prefix, entry.source, entry.locators, entry.action, why))
        return effects

    def _reconsider_all(self, now: float) -> list[MachineEffect]:
        self._in_doubt = deque(self.cache)
        self._in_doubt_since = now
        return self._reconsider(now)

    def _reconsider_those_with(self, locators: AbstractSet[IpAddress], now: float) -> list[MachineEffect]:
        """Compute the entries again, before all others, that name one of these locators."""
        for entry in self.cache:
            if any(not locators.isdisjoint(locator.ips) for locator in entry.locators):
                self._in_doubt.appendleft(entry)
        self._in_doubt_since = now
        return self._reconsider(now)

    def _reconsider(self, now: float) -> list[MachineEffect]:
        """Compute the next batch of entries again: a full cache must not delay the registers and SMRs of a move.

        A mapping whose locators are all dead may be old, because its site may have moved: refresh it.
        """
        effects: list[MachineEffect] = []
        for _ in range(min(BATCH, len(self._in_doubt))):
            entry = self._in_doubt.popleft()
            if entry.state is State.GONE:
                continue
            decision = self._decide(entry)
            if decision != self.installed.get(entry.prefix):
                self.installed[entry.prefix] = decision
                effects.append(decision)
                if self._is_hopeless(entry, decision):
                    self.announced.release(entry.prefix)
                    self.cache.shorten(entry, now + HOPELESS_S, now)
                    if entry.is_used(now):
                        effects.append(RefreshNeeded(entry.prefix))
        return effects

    def _is_hopeless(self, entry: MapCacheEntry, decision: InstallMapping) -> bool:
        """True when the last answer makes us refuse packets: it deserves a new request soon."""
        return entry.source == "reply" and decision.disposition in ("DROP", "DOUBT")


def _is_anothers(known: MapCacheEntry, asked: EidPrefix, now: float) -> bool:
    """True for a mapping in use that was not asked about: the answer must not change it."""
    is_related = known.prefix.covers(asked) or asked.covers(known.prefix)
    return not is_related and bool(known.locators) and known.is_used(now)


def _is_superfluous(one: MapCacheEntry, record: MappingRecord, asked: EidPrefix, now: float) -> bool:
    """Whether this answer removes a narrower entry. If that is in use, only an answer about it may.

    A negative answer covers the whole hole in the registrations, but not entries that work inside it.
    """
    if one.prefix.covers(asked):
        return True
    if not one.locators:
        return True
    return bool(record.locators) and not one.is_used(now)


def _changed(old: MapCacheEntry | None, new: MapCacheEntry) -> list[MachineEffect]:
    """The map-cache event of a new entry; none if it equals the old one."""
    if old is None:
        return [MappingChanged("add", new.prefix, new.source, new.locators, new.action)]
    if (old.source, old.locators, old.action) == (new.source, new.locators, new.action):
        return []
    return [MappingChanged("change", new.prefix, new.source, new.locators, new.action)]


def _content(record: MappingRecord) -> tuple[tuple[Locator, ...], Action | int]:
    return record.locators, record.action


def _lifetime_s(ttl_min: int) -> float:
    return LONGEST_TTL_S if ttl_min == TTL_RECEIVER_DECIDES else min(ttl_min * 60.0, LONGEST_TTL_S)

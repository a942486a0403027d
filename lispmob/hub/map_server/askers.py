"""Informs ITRs that asked for an EID when its mapping changes: by a Solicit-Map-Request from the Map-Server (RFC 9301,
6.1).

A node that moves informs its peers itself. The Map-Server adds the cases that no node can report: an EID is registered
at last (peers hold a negative answer), it is gone, its site was removed, or its node came back with an empty memory. An
SMR proves nothing, and makes its receiver ask. Askers are not authenticated: a forger can cause one small datagram to a
forged address when a mapping changes, within the limits below. Askers are stored in the state file, so that a restart
forgets none. Pure.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable
from ipaddress import IPv4Address, IPv6Address
from typing import Final, NamedTuple, TypeAlias

import msgspec

from lispmob.hub.map_server.ordered_prefixes import OrderedPrefixTable
from lispmob.protocol.agenda import Agenda
from lispmob.protocol.effect import SendControl
from lispmob.protocol.rate_limit import KeyedBuckets, TokenBucket
from lispmob.wire.address import EidPrefix, IpAddress
from lispmob.wire.eid import from_prefix
from lispmob.wire.map_request import EidRecord, MapRequest
from lispmob.wire.record import MappingRecord

# Ours: the latest ones; the share of strangers shrinks with the number of registered askers.
ASKERS_PER_PREFIX: Final = 64
ASKERS_LIMIT: Final = 16384
LIFETIME_MAX_S: Final = 86400.0  # ours: no lispmob node uses an answer for longer
LIFETIME_MIN_S: Final = 60.0  # ours: a node that asks again meanwhile may do so less often than the TTL says
SMR_INTERVAL_S: Final = 3.0  # RFC 9301, 6.1
SMR_BURST: Final = 3  # ours: a prefix that went, came back and moved is still reported at once
SMRS_S: Final = 200  # ours, in all
QUEUE_LIMIT: Final = 4096
_NOWHERE: Final[dict[int, IpAddress]] = {4: IPv4Address(0), 6: IPv6Address(0)}


class Asker(msgspec.Struct, frozen=True):
    """An ITR that holds an answer of ours. `own`: our address that it asked."""

    itr: IpAddress
    own: IpAddress
    expires_at: float
    is_registered: bool = False
    """A registered node is at this address. Not kept over a restart; known again at its next request."""


AskerKey: TypeAlias = tuple[EidPrefix, IpAddress]
"""The prefix of the answer, and the ITR."""


class AskerChanges(NamedTuple):
    """Changes for the store: new or repeated askers, and forgotten ones."""

    new: dict[AskerKey, Asker]
    gone: frozenset[AskerKey]


class Askers:
    """Remembers the latest askers, as many as there is room for, and informs them of changes.

    Requests can be forged in the name of any address; so strangers are evicted first, and evict no registered node.
    """

    def __init__(self, *, new_nonce: Callable[[], int]) -> None:
        self.counters: Counter[str] = Counter()
        self._new_nonce = new_nonce
        # By the prefix of the answer.
        self._of: OrderedPrefixTable[OrderedDict[IpAddress, Asker]] = OrderedPrefixTable()
        # Strangers and registered nodes, each ordered by their last request.
        self._order: dict[bool, OrderedDict[AskerKey, None]] = {False: OrderedDict(), True: OrderedDict()}
        self._unsaved: set[AskerKey] = set()
        self._queue: dict[tuple[IpAddress, EidPrefix], Asker] = {}
        self._due: Agenda[tuple[IpAddress, EidPrefix]] = Agenda()
        self._held_until = float("-inf")  # so many were informed that the limit is reached until then
        self._limits: KeyedBuckets[tuple[IpAddress, EidPrefix]] = KeyedBuckets(SMR_INTERVAL_S, SMR_BURST)
        self._in_all = TokenBucket(1 / SMRS_S, SMRS_S)

    def __len__(self) -> int:
        return sum(map(len, self._order.values()))

    def wake_at(self) -> float | None:
        """When on_timer is due: delayed messages wait."""
        at = self._due.first()
        return None if at is None else max(at, self._held_until)

    def on_timer(self, now: float) -> list[SendControl]:
        """Send what the limits delayed."""
        return self._drain(now)

    def on_answered(
        self,
        records: Iterable[MappingRecord],
        itr: IpAddress,
        own: IpAddress,
        now: float,
        *,
        is_registered: bool = False,
    ) -> None:
        """These records went to an ITR that asked at `own`. `is_registered`: a registered node is at its address."""
        for record in records:
            if (prefix := record.eid_prefix) is None:
                continue
            lifetime_s = min(max(60.0 * record.ttl_min, LIFETIME_MIN_S), LIFETIME_MAX_S)
            self._remember(prefix, Asker(itr, own, now + lifetime_s, is_registered))

    def on_changed(self, prefix: EidPrefix, record: MappingRecord | None, now: float) -> list[SendControl]:
        """The mapping of a prefix has changed: inform those that hold it, or its hole.

        Its own ETR knows.
        """
        own_rlocs = {address for locator in record.locators for address in locator.ips} if record is not None else set()
        for _, askers in (*self._of.covering(prefix), *self._of.covered(prefix, QUEUE_LIMIT - len(self._queue))):
            for asker in askers.values():
                is_notified = asker.expires_at > now and asker.itr not in own_rlocs
                key = asker.itr, prefix
                if is_notified and len(self._queue) < QUEUE_LIMIT and key not in self._queue:
                    self._queue[key] = asker
                    self._due.set(key, now)
        return self._drain(now)

    def care_for(self, prefix: EidPrefix) -> bool:
        """True when there are askers for a prefix, for one around it, or for one inside it."""
        return bool(self._of.covering(prefix) or self._of.covered(prefix, 1))

    @property
    def has_changes(self) -> bool:
        """True when there is something for `take_changes`."""
        return bool(self._unsaved)

    def take_changes(self) -> AskerChanges:
        """The changes since the previous call, for the store."""
        taken, self._unsaved = self._unsaved, set()
        new: dict[AskerKey, Asker] = {}
        for prefix, itr in taken:
            askers = self._of.get(prefix)
            if askers is not None and itr in askers:
                new[prefix, itr] = askers[itr]
        return AskerChanges(new, frozenset(taken - new.keys()))

    def restore(self, rows: Iterable[tuple[EidPrefix, Asker]], now: float) -> None:
        """Restore those that still hold an answer from before a restart. Newer requests take precedence."""
        for prefix, asker in rows:
            is_here = any((prefix, asker.itr) in order for order in self._order.values())
            if asker.expires_at > now and not is_here:
                self._remember(prefix, asker)
            else:
                self._unsaved.add((prefix, asker.itr))

    def _remember(self, prefix: EidPrefix, asker: Asker) -> None:
        askers = self._of.get(prefix)
        if askers is None:
            askers = OrderedDict()
            self._of.insert(prefix, askers)
        key = prefix, asker.itr
        self._order[not asker.is_registered].pop(key, None)
        askers[asker.itr] = asker
        askers.move_to_end(asker.itr)
        self._order[asker.is_registered][key] = None
        self._order[asker.is_registered].move_to_end(key)
        self._unsaved.add(key)
        if len(askers) > ASKERS_PER_PREFIX:
            strangers = (itr for itr, known in askers.items() if not known.is_registered)
            self._forget(prefix, next(strangers, next(iter(askers))))
        if len(self) > ASKERS_LIMIT:
            self._forget(*next(iter(self._order[False] or self._order[True])))

    def _forget(self, prefix: EidPrefix, itr: IpAddress) -> None:
        for order in self._order.values():
            order.pop((prefix, itr), None)
        self._unsaved.add((prefix, itr))
        askers = self._of.get(prefix)
        assert askers is not None, prefix
        del askers[itr]
        if not askers:
            self._of.remove(prefix)

    def _drain(self, now: float) -> list[SendControl]:
        sent: list[SendControl] = []
        while self._queue:
            self._held_until = self._in_all.available_at(now)
            if self._held_until > now:
                break
            key = next(iter(self._due.due(now, 1)), None)
            if key is None:
                break
            at = self._limits.available_at(key, now)
            if at > now:
                self._due.set(key, at)
                continue
            asker = self._queue.pop(key)
            self._limits.take(key, now)
            self._in_all.take(now)
            sent.append(self.solicit(key[1], asker.itr, asker.own))
        self.counters["tx_smr"] += len(sent)
        return sent

    def solicit(self, prefix: EidPrefix, itr: IpAddress, own: IpAddress | None) -> SendControl:
        """An SMR about a prefix, from a local address; None leaves that to the kernel."""
        request = MapRequest(
            nonce=self._new_nonce(),
            source_eid=from_prefix(prefix),
            itr_rlocs=(own or _NOWHERE[itr.version],),
            records=(EidRecord.of(prefix),),
            is_smr=True,
            dont_map_reply=True,
        )
        return SendControl(
            request.encode(), itr, source=own if own is not None and own.version == itr.version else None
        )

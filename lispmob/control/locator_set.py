"""Our own RLOCs: where the node can be reached now, versioned, in the order that the RFC wants in a record."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import field, replace
from typing import TypeAlias

from lispmob.values import dataclass
from lispmob.wire.address import EidPrefix, IpAddress
from lispmob.wire.record import Locator, MappingRecord

MAX_LOCATORS = 32
"""Locators per record: locator-status-bits have 32 positions (RFC 9300, 5.3)."""

NEVER = 255
"""The priority of a locator that must not be used for unicast (RFC 9301, 5.4)."""


@dataclass(frozen=True, slots=True)
class EidRank:
    """What a locator counts in the mapping of one of our EID-Prefixes."""

    eid: EidPrefix
    priority: int
    weight: int


EidRecords: TypeAlias = tuple[tuple[EidPrefix, tuple[Locator, ...]], ...]
"""The locators in the records of those EID-Prefixes that have a set of their own."""


@dataclass(frozen=True, slots=True)
class LocalLocator:
    """One of our RLOCs and the uplink it lives on. Its uplink's name, MTU and cost are no part of it.

    `by_eid`: in the mappings of these EIDs it counts something else than `priority` and `weight`.
    """

    address: IpAddress
    ifindex: int = 0
    interface: str = field(default="", compare=False)
    priority: int = 1
    weight: int = 100
    mtu_bytes: int = field(default=1500, compare=False)
    cost: int = field(default=0, compare=False)
    by_eid: tuple[EidRank, ...] = ()

    def told_for(self, eid: EidPrefix | None) -> LocalLocator:
        """The locator as it stands in the mapping of this EID."""
        rank = next((one for one in self.by_eid if one.eid == eid), None)
        return self if rank is None else replace(self, priority=rank.priority, weight=rank.weight)

    def silenced(self) -> LocalLocator:
        """The locator as one that reaches nobody: in no mapping is it to be used."""
        return replace(self, priority=NEVER, by_eid=())


@dataclass(frozen=True, slots=True)
class LocatorSet:
    """All our RLOCs at one moment; `version` grows with every change. IPv4 before IPv6, ascending (RFC 9301, 5.4)."""

    version: int = 0
    locators: tuple[LocalLocator, ...] = ()
    record_locators: tuple[Locator, ...] | None = None
    """What our records say where that is something else: behind NATs it is RTRs that reach us."""
    eid_records: EidRecords = ()
    """And what those of single EIDs say."""

    @classmethod
    def of(
        cls,
        version: int,
        locators: Iterable[LocalLocator],
        record_locators: tuple[Locator, ...] | None = None,
        eid_records: EidRecords = (),
    ) -> LocatorSet:
        """Sort, keep one locator per address (the most preferred), and the 32 most preferred in all."""
        preferred = sorted(locators, key=_preference)
        unique = list({one.address: one for one in reversed(preferred)}.values())
        kept = sorted(unique, key=_preference)[:MAX_LOCATORS]
        ordered = tuple(sorted(kept, key=lambda one: (one.address.version, int(one.address))))
        return cls(version, ordered, record_locators, eid_records)

    def is_like(self, other: LocatorSet) -> bool:
        """True when nobody who is told of both could tell them apart."""
        return self.locators == other.locators and self.says_like(other)

    def says_like(self, other: LocatorSet) -> bool:
        """True when what stands in our records in place of our locators is the same."""
        return (self.record_locators, self.eid_records) == (other.record_locators, other.eid_records)

    def __bool__(self) -> bool:
        return bool(self.locators)

    @property
    def addresses(self) -> frozenset[IpAddress]:
        """The addresses alone."""
        return frozenset(one.address for one in self.locators)

    @property
    def families(self) -> frozenset[int]:
        """Which of 4 and 6 we can send with."""
        return frozenset(one.address.version for one in self.locators)

    @property
    def itr_rlocs(self) -> tuple[IpAddress, ...]:
        """Where answers to our Map-Requests shall go: the best locator of each family (RFC 9301, 5.3)."""
        chosen = (self.best(4), self.best(6))
        return tuple(one.address for one in chosen if one is not None)

    def for_family(self, family: int) -> tuple[LocalLocator, ...]:
        """The locators of one IP version, most preferred first."""
        return tuple(sorted((one for one in self.locators if one.address.version == family), key=_preference))

    def best(self, family: int) -> LocalLocator | None:
        """The locator to send control messages from, towards destinations of this IP version."""
        fitting = self.for_family(family)
        return fitting[0] if fitting else None

    def to_locators(self, probed: IpAddress | None = None, eid: EidPrefix | None = None) -> tuple[Locator, ...]:
        """As they stand in the record of this EID: L=1, R=1, and p=1 on the one that a probe arrived at."""
        if self.record_locators is not None:
            said = next((locators for one, locators in self.eid_records if one == eid), self.record_locators)
            return tuple(
                replace(one, is_probed=True) if probed is not None and one.ip == probed else one for one in said
            )
        return tuple(
            Locator(one.address, one.priority, one.weight, is_local=True, is_probed=one.address == probed)
            for one in (each.told_for(eid) for each in self.locators)
        )

    def to_record(self, eid: EidPrefix, ttl_min: int, probed: IpAddress | None = None) -> MappingRecord:
        """Our mapping of one EID-Prefix, authoritative. TTL in minutes, the unit of the wire."""
        return MappingRecord.of(eid, self.to_locators(probed, eid), ttl_min=ttl_min, is_authoritative=True)


def _preference(locator: LocalLocator) -> tuple[int, int, int, int]:
    return locator.priority, -locator.weight, locator.address.version, int(locator.address)

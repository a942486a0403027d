"""Our own RLOCs: where the node can be reached now, versioned, in the order that the RFC wants in a record."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Final, TypeAlias

import msgspec
from msgspec.structs import replace

from lispmob.wire.address import EidPrefix, IpAddress
from lispmob.wire.record import Locator, MappingRecord

MAX_LOCATORS = 32
"""Locators per record: locator-status-bits have 32 positions (RFC 9300, 5.3)."""

_LINK_LOCAL_4: Final = int(IPv4Address("169.254.0.0"))
_LINK_LOCAL_6: Final = int(IPv6Address("fe80::"))
_FURTHER_4: Final = 0x8000  # the upper half of it: names that an uplink takes later

NEVER = 255
"""The priority of a locator that must not be used for unicast (RFC 9301, 5.4)."""


class EidRank(msgspec.Struct, frozen=True):
    """What a locator counts in the mapping of one of our EID-Prefixes."""

    eid: EidPrefix
    priority: int
    weight: int


Place: TypeAlias = tuple[IpAddress, int]
"""An address and the interface that it is on."""

EidRecords: TypeAlias = tuple[tuple[EidPrefix, tuple[Locator, ...]], ...]
"""The locators in the records of those EID-Prefixes that have a set of their own."""


@dataclass(frozen=True, slots=True)
class LocalLocator:
    """One of our RLOCs and the uplink it lives on. Its uplink's name, MTU and cost are no part of it.

    `by_eid`: in the mappings of these EIDs it counts something else than `priority` and `weight`.
    """

    address: IpAddress
    ifindex: int = 0
    interface: str = dataclasses.field(default="", compare=False)
    priority: int = 1
    weight: int = 100
    mtu_bytes: int = dataclasses.field(default=1500, compare=False)
    cost: int = dataclasses.field(default=0, compare=False)
    by_eid: tuple[EidRank, ...] = ()
    alias: IpAddress | None = None
    """What RTRs know the uplink by, where another uplink has the same address: interface and address are what it is."""

    @property
    def place(self) -> Place:
        """What tells an uplink's address from all others, also from the same address on another interface."""
        return self.address, self.ifindex

    @property
    def name(self) -> IpAddress:
        """The address that stands for it in records and towards RTRs."""
        return self.address if self.alias is None else self.alias

    def told_for(self, eid: EidPrefix | None) -> LocalLocator:
        """The locator as it stands in the mapping of this EID."""
        rank = next((eid_rank for eid_rank in self.by_eid if eid_rank.eid == eid), None)
        return self if rank is None else dataclasses.replace(self, priority=rank.priority, weight=rank.weight)

    def silenced(self) -> LocalLocator:
        """The locator as one that reaches nobody: in no mapping is it to be used."""
        return dataclasses.replace(self, priority=NEVER, by_eid=())


class LocatorSet(msgspec.Struct, frozen=True):
    """All our RLOCs at one moment; `version` grows with every change. IPv4 before IPv6, ascending (RFC 9301, 5.4)."""

    version: int = 0
    locators: tuple[LocalLocator, ...] = ()
    record_locators: tuple[Locator, ...] | None = None
    """What our records say where that is something else: behind NATs it is RTRs that reach us."""
    eid_records: EidRecords = ()
    """And what those of single EIDs say."""
    map_version: int = 0
    """The Map-Version Number of the records (RFC 9302), of 12 bits; 0: none. `version` is for people and never sent."""

    @classmethod
    def of(
        cls,
        version: int,
        locators: Iterable[LocalLocator],
        record_locators: tuple[Locator, ...] | None = None,
        eid_records: EidRecords = (),
        map_version: int = 0,
    ) -> LocatorSet:
        """Sort, keep one locator per place (the most preferred), and the 32 most preferred in all.

        Of several with one address the one on the first interface has its name, and the others get an alias.
        """
        preferred = sorted(locators, key=_preference)
        unique = list({locator.place: locator for locator in reversed(preferred)}.values())
        kept = sorted(unique, key=_preference)[:MAX_LOCATORS]
        ordered = tuple(sorted(_named(kept), key=lambda one: (one.address.version, int(one.address), one.ifindex)))
        return cls(version, ordered, record_locators, eid_records, map_version)

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
        return frozenset(locator.address for locator in self.locators)

    @property
    def families(self) -> frozenset[int]:
        """Which of 4 and 6 we can send with."""
        return frozenset(locator.address.version for locator in self.locators)

    @property
    def live_families(self) -> frozenset[int]:
        """Which of 4 and 6 lead anywhere, as far as is known; all that we have when none does."""
        return (
            frozenset(locator.address.version for locator in self.locators if locator.priority != NEVER)
            or self.families
        )

    def itr_rlocs_from(self, asker: LocalLocator) -> tuple[IpAddress, ...]:
        """Where answers to a Map-Request shall go (RFC 9301, 5.3).

        First the locator that it leaves from, for an answer that comes back the same way needs no other one to work.
        Then the best of the other family, unless it is known to lead nowhere.
        """
        other = self.best(10 - asker.address.version)
        is_live = other is not None and other.priority != NEVER
        return (asker.address, other.address) if other is not None and is_live else (asker.address,)

    def for_family(self, family: int) -> tuple[LocalLocator, ...]:
        """The locators of one IP version, most preferred first."""
        return tuple(
            sorted((locator for locator in self.locators if locator.address.version == family), key=_preference)
        )

    def best(self, family: int) -> LocalLocator | None:
        """The locator to send control messages from, towards destinations of this IP version."""
        fitting = self.for_family(family)
        return fitting[0] if fitting else None

    def to_locators(self, probed: IpAddress | None = None, eid: EidPrefix | None = None) -> tuple[Locator, ...]:
        """As they stand in the record of this EID: L=1, R=1, and p=1 on the one that a probe arrived at."""
        if self.record_locators is not None:
            said = next((locators for one, locators in self.eid_records if one == eid), self.record_locators)
            return tuple(
                replace(locator, is_probed=True) if probed is not None and locator.ip == probed else locator
                for locator in said
            )
        return tuple(
            Locator(
                announced.address,
                announced.priority,
                announced.weight,
                is_local=True,
                is_probed=announced.address == probed,
            )
            for announced in (locator.told_for(eid) for locator in self.locators)
        )

    def to_record(self, eid: EidPrefix, ttl_min: int, probed: IpAddress | None = None) -> MappingRecord:
        """Our mapping of one EID-Prefix, authoritative. TTL in minutes, the unit of the wire."""
        locators, version = self.to_locators(probed, eid), self.map_version
        return MappingRecord.of(eid, locators, ttl_min=ttl_min, is_authoritative=True, map_version=version)


def _named(preferred: Iterable[LocalLocator]) -> Iterator[LocalLocator]:
    """Each with a name of its own: on the wire RTRs tell uplinks apart by address alone (NAT drafts, section 4).

    An alias is a link-local IPv4 address made of the interface's index (RFC 3927), or an IPv6 one: nobody sends there.
    """
    taken: set[IpAddress] = set()
    for one in sorted(preferred, key=lambda one: one.ifindex):
        named = dataclasses.replace(one, alias=_alias(one) if one.address in taken else None)
        taken.add(one.address)
        yield named


def _alias(locator: LocalLocator) -> IpAddress:
    if locator.address.version == 4:
        return IPv4Address(_LINK_LOCAL_4 + locator.ifindex % 0xFDFF + 0x100)
    return IPv6Address(_LINK_LOCAL_6 + locator.ifindex)


def further_name(locator: LocalLocator, number: int) -> IpAddress:
    """The `number`th name beside its own, from 1: for an RTR that holds on to what it knows of that one."""
    if locator.address.version == 4:
        upper = locator.ifindex % 0x7F << 8
        return IPv4Address(_LINK_LOCAL_4 + _FURTHER_4 + upper + number % 0x100)
    return IPv6Address(_LINK_LOCAL_6 + (number << 32) + locator.ifindex)


def _preference(locator: LocalLocator) -> tuple[int, int, int, int, int]:
    return locator.priority, -locator.weight, locator.address.version, int(locator.address), locator.ifindex

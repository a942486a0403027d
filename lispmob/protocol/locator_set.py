"""Our own RLOCs: the node's current locators, versioned, in the order that the RFC requires in a record."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, IPv6Network
from typing import Final, TypeAlias
from zlib import crc32

import msgspec
from msgspec.structs import replace

from lispmob.wire.address import EidPrefix, IpAddress
from lispmob.wire.embedded_ipv4 import embed
from lispmob.wire.record import Locator, MappingRecord

MAX_LOCATORS = 32
"""Locators per record: locator-status-bits have 32 positions (RFC 9300, 5.3)."""

_LINK_LOCAL_4: Final = int(IPv4Address("169.254.0.0"))
_LINK_LOCAL_6: Final = int(IPv6Address("fe80::"))
_TOWARDS_TRANSLATOR: Final = IPv4Address("192.0.0.1")  # RFC 7335: of every host that has IPv6 alone
_FURTHER_4: Final = 0x8000  # the upper half of it: names that an uplink takes later

NEVER = 255
"""The priority of a locator that must not be used for unicast (RFC 9301, 5.4)."""


class EidRank(msgspec.Struct, frozen=True):
    """Priority and weight of a locator in the mapping of one local EID-Prefix."""

    eid: EidPrefix
    priority: int
    weight: int


Place: TypeAlias = tuple[IpAddress, int]
"""An address and the interface that it is on."""

EidRecords: TypeAlias = tuple[tuple[EidPrefix, tuple[Locator, ...]], ...]
"""The locators in the records of EID-Prefixes that have a set of their own."""


@dataclass(frozen=True, slots=True)
class LocalLocator:
    """One local RLOC and its uplink. The uplink's name, MTU and cost are kept elsewhere.

    `by_eid`: other priorities and weights in the mappings of these EIDs.
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
    nat64: IPv6Network | None = None
    """The prefix by which a translator takes us to hosts with IPv4 only (RFC 6146); None: there is none, or no need."""

    @property
    def place(self) -> Place:
        """Identifies an uplink's address, also among equal addresses on other interfaces."""
        return self.address, self.ifindex

    @property
    def name(self) -> IpAddress:
        """The address that represents it in records and towards RTRs."""
        return self.address if self.alias is None else self.alias

    def name_towards(self, remote: IpAddress) -> IpAddress:
        """The address that stands for it in records and towards RTRs, where those are of this family.

        Beyond a translator that is an IPv4 address of our own choice, made of what tells the uplink from all others.
        """
        if self.address.version == remote.version:
            return self.name
        return IPv4Address(_LINK_LOCAL_4 + 0x100 + _number_of(self) % 0xFDFF)

    def address_towards(self, remote: IpAddress) -> IpAddress:
        """Its address as it stands inside of messages to a server of this family."""
        return self.address if self.address.version == remote.version else _TOWARDS_TRANSLATOR

    def reach(self, remote: IpAddress) -> IpAddress | None:
        """Where packets for this address go from here: behind the prefix of a translator for the other family.

        None: nothing leads there.
        """
        if self.address.version == remote.version:
            return remote
        return embed(self.nat64, remote) if self.nat64 is not None and isinstance(remote, IPv4Address) else None

    def announced_for(self, eid: EidPrefix | None) -> LocalLocator:
        """The locator with its priority and weight for this EID."""
        rank = next((eid_rank for eid_rank in self.by_eid if eid_rank.eid == eid), None)
        return self if rank is None else dataclasses.replace(self, priority=rank.priority, weight=rank.weight)

    def silenced(self) -> LocalLocator:
        """The locator as unusable in every mapping, because it reaches nothing."""
        return dataclasses.replace(self, priority=NEVER, by_eid=())


class LocatorSet(msgspec.Struct, frozen=True):
    """All our RLOCs at one moment; `version` grows with every change. IPv4 before IPv6, ascending (RFC 9301, 5.4)."""

    version: int = 0
    locators: tuple[LocalLocator, ...] = ()
    record_locators: tuple[Locator, ...] | None = None
    """The locators of our records if they differ: behind NATs they are RTRs."""
    eid_records: EidRecords = ()
    """The locators in records of single EIDs."""
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
        """Sort, keep one locator per place (the most preferred), and at most the 32 most preferred.

        If several have one address, the one on the first interface keeps its name, and the others get an alias.
        """
        preferred = sorted(locators, key=_preference)
        unique = list({locator.place: locator for locator in reversed(preferred)}.values())
        kept = sorted(unique, key=_preference)[:MAX_LOCATORS]
        ordered = tuple(sorted(_named(kept), key=lambda one: (one.address.version, int(one.address), one.ifindex)))
        return cls(version, ordered, record_locators, eid_records, map_version)

    def is_like(self, other: LocatorSet) -> bool:
        """True when both look the same from outside."""
        return self.locators == other.locators and self.announces_like(other)

    def announces_like(self, other: LocatorSet) -> bool:
        """True when both put the same locators into our records."""
        return (self.record_locators, self.eid_records) == (other.record_locators, other.eid_records)

    def __bool__(self) -> bool:
        return bool(self.locators)

    @property
    def addresses(self) -> frozenset[IpAddress]:
        """The bare addresses."""
        return frozenset(locator.address for locator in self.locators)

    @property
    def families(self) -> frozenset[int]:
        """Which of 4 and 6 we can send with."""
        return frozenset(locator.address.version for locator in self.locators)

    @property
    def live_families(self) -> frozenset[int]:
        """Which of 4 and 6 are known to work; all that we have if none is."""
        return (
            frozenset(locator.address.version for locator in self.locators if locator.priority != NEVER)
            or self.families
        )

    def itr_rlocs_from(self, asker: LocalLocator, asked: IpAddress | None = None) -> tuple[IpAddress, ...]:
        """The ITR-RLOCs of a Map-Request: where its answer may be sent (RFC 9301, 5.3).

        First the locator that it leaves from: an answer by the same path needs no other one to work. Then the best of
        the other family, unless it is known not to work. Beyond a translator it is an address that no host has: as
        behind any NAT, the answer goes back to the sender of the question.
        """
        if asked is not None and asked.version != asker.address.version:
            return (asker.address_towards(asked),)
        other = self.best(10 - asker.address.version)
        is_live = other is not None and other.priority != NEVER
        return (asker.address, other.address) if other is not None and is_live else (asker.address,)

    def for_family(self, family: int) -> tuple[LocalLocator, ...]:
        """The locators of one IP version, most preferred first."""
        return tuple(
            sorted((locator for locator in self.locators if locator.address.version == family), key=_preference)
        )

    def ways_to(self, remote: IpAddress) -> tuple[LocalLocator, ...]:
        """The locators that packets to this address can leave from, those of its own family first."""
        own = self.for_family(remote.version)
        others = self.for_family(10 - remote.version)
        return (*own, *(locator for locator in others if locator.reach(remote) is not None))

    def best(self, family: int) -> LocalLocator | None:
        """The locator that sends control messages to destinations of this IP version."""
        fitting = self.for_family(family)
        return fitting[0] if fitting else None

    def to_locators(self, probed: IpAddress | None = None, eid: EidPrefix | None = None) -> tuple[Locator, ...]:
        """The locators for the record of this EID: L=1, R=1, and p=1 on the one that was probed."""
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
            for announced in (locator.announced_for(eid) for locator in self.locators)
        )

    def to_record(self, eid: EidPrefix, ttl_min: int, probed: IpAddress | None = None) -> MappingRecord:
        """Our mapping of one EID-Prefix, authoritative. TTL in minutes, the unit of the wire."""
        locators, version = self.to_locators(probed, eid), self.map_version
        return MappingRecord.of(eid, locators, ttl_min=ttl_min, is_authoritative=True, map_version=version)


def _named(preferred: Iterable[LocalLocator]) -> Iterator[LocalLocator]:
    """Gives each locator a distinct name: on the wire RTRs distinguish uplinks by address alone (NAT drafts, section
    4).

    An alias is an IPv4 link-local address made of the interface's index (RFC 3927), or an IPv6 one: no packets are sent
    there.
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


def further_name(locator: LocalLocator, number: int, towards: IpAddress) -> IpAddress:
    """The `number`th name beside its own, from 1: for an RTR `towards` that holds on to what it knows of that one."""
    if towards.version == 4:
        upper = (locator.ifindex if locator.address.version == 4 else _number_of(locator)) % 0x7F << 8
        return IPv4Address(_LINK_LOCAL_4 + _FURTHER_4 + upper + number % 0x100)
    return IPv6Address(_LINK_LOCAL_6 + (number << 32) + locator.ifindex)


def _number_of(locator: LocalLocator) -> int:
    """The same for the same address on the same interface, and most likely for no other."""
    return crc32(locator.address.packed, locator.ifindex)


def _preference(locator: LocalLocator) -> tuple[int, int, int, int, int]:
    return locator.priority, -locator.weight, locator.address.version, int(locator.address), locator.ifindex

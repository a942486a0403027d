"""Whether to accept a Map-Reply: what a record must satisfy beyond the nonce (RFC 9301, 5.4 and 5.5).

A Map-Reply is not signed (except with LISP-SEC), and any ETR may be hostile. So a reply may locate the EID that was
asked for, but must not take anything from other EIDs: mappings in use stay (`mappings.py`), our own EIDs and RLOCs are
never captured, and a negative answer is bounded in space and time.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec
from msgspec.structs import replace

from lispmob.wire.address import EidPrefix, IpAddress
from lispmob.wire.record import MappingRecord

NARROW: Final = {4: 8, 6: 16}  # ours, bits by family: no site is wider, and no negative answer covers more at a time
NEGATIVE_TTL_MIN: Final = 15  # RFC 9301, 5.5: of a negative Map-Reply


class Guard(msgspec.Struct, frozen=True):
    """What no mapping from outside may take over: our EIDs, our RLOCs, and the route to the mapping system.

    `overlay`: the networks, in every Instance-ID, that contain all EIDs, if configured. `sites`: those of a hub, which
    accepts nothing wider than a site.
    """

    own_eids: tuple[EidPrefix, ...] = ()
    own_rlocs: frozenset[IpAddress] = frozenset()
    mapping_system: frozenset[IpAddress] = frozenset()
    overlay: tuple[EidPrefix, ...] = ()
    sites: tuple[EidPrefix, ...] = ()

    def is_ours(self, address: IpAddress) -> bool:
        """True for one of our RLOCs or EIDs."""
        return address in self.own_rlocs or any(eid.contains(address) for eid in self.own_eids)

    def is_infrastructure(self, address: IpAddress, instance_id: int) -> bool:
        """True for what must be reached without LISP."""
        return not instance_id and (address in self.mapping_system or address in self.own_rlocs)

    def is_overclaim(self, record: MappingRecord, prefix: EidPrefix) -> bool:
        """True for a mapping that would capture everything, or something of ours, or more than any site has."""
        if any(prefix.covers(site) and prefix != site for site in self.sites):
            return True
        if not record.locators:
            return prefix.mask_len == 0 or any(prefix.covers(eid) for eid in self.own_eids)
        touches_us = any(prefix.covers(eid) or eid.covers(prefix) for eid in self.own_eids)
        if prefix.mask_len < NARROW[prefix.family] or touches_us or self._leaves_overlay(prefix):
            return True
        # RLOCs belong to no Instance-ID; a virtual network may reuse their numbers.
        infrastructure: Iterable[IpAddress] = () if prefix.instance_id else self.own_rlocs | self.mapping_system
        return any(prefix.contains(address) for address in infrastructure)

    def _leaves_overlay(self, prefix: EidPrefix) -> bool:
        plain = EidPrefix.make(prefix.address, prefix.mask_len)
        return bool(self.overlay) and not any(eid_prefix.covers(plain) for eid_prefix in self.overlay)


def accept_records(
    records: Iterable[MappingRecord], asked: EidPrefix, guard: Guard, source: IpAddress | None = None
) -> tuple[MappingRecord, ...] | None:
    """The records that answer the request for `asked`, or None when the whole reply is refused.

    One record must cover what was asked. More specific records inside it are accepted too; all others, and wider ones,
    are ignored. When a whole prefix was asked for (a refresh), a site that was split may answer with the parts.
    `source`: where the reply came from. A negative record from the mapping system counts for the prefix that it states,
    within bounds; from any other source, only for the EID that was asked for.
    """
    found = [(record, prefix) for record in records if (prefix := record.eid_prefix) is not None]
    covering = [prefix for _, prefix in found if prefix.covers(asked)]
    scope = max(covering, key=lambda prefix: prefix.mask_len) if covering else asked
    answers = [(record, prefix) for record, prefix in found if scope.covers(prefix)]
    if not answers or any(guard.is_overclaim(record, prefix) for record, prefix in answers):
        return None
    is_official = source is None or source in guard.mapping_system
    return tuple(_bounded(record, prefix, asked, is_official=is_official) for record, prefix in answers)


def _bounded(record: MappingRecord, prefix: EidPrefix, asked: EidPrefix, *, is_official: bool) -> MappingRecord:
    """A negative record cut down to the prefix and the TTL that are accepted."""
    if record.locators:
        return record
    ttl_min = min(record.ttl_min, NEGATIVE_TTL_MIN)
    least = NARROW[prefix.family] if is_official else asked.mask_len
    if prefix.mask_len < least and prefix.covers(asked):
        narrow = EidPrefix.make(asked.address, min(least, asked.mask_len), asked.instance_id)
        return MappingRecord.of(narrow, (), ttl_min=ttl_min, action=record.action)
    return replace(record, ttl_min=ttl_min) if ttl_min != record.ttl_min else record

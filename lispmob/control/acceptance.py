"""Whether to believe a Map-Reply: everything after the nonce that a record must satisfy (RFC 9301, 5.4 and 5.5)."""

from __future__ import annotations

from collections.abc import Iterable

from lispmob.values import dataclass
from lispmob.wire.address import EidPrefix, IpAddress
from lispmob.wire.record import MappingRecord


@dataclass(frozen=True, slots=True)
class Guard:
    """What no mapping from outside may take over: our EIDs, our RLOCs, and the way to the mapping system."""

    own_eids: tuple[EidPrefix, ...] = ()
    own_rlocs: frozenset[IpAddress] = frozenset()
    mapping_system: frozenset[IpAddress] = frozenset()

    def is_ours(self, address: IpAddress) -> bool:
        """True for one of our RLOCs or EIDs."""
        return address in self.own_rlocs or any(eid.contains(address) for eid in self.own_eids)

    def is_infrastructure(self, address: IpAddress, instance_id: int) -> bool:
        """True for what must be reached without LISP."""
        return not instance_id and (address in self.mapping_system or address in self.own_rlocs)

    def is_overclaim(self, record: MappingRecord, prefix: EidPrefix) -> bool:
        """True for a positive mapping that would capture everything, or something of ours."""
        if not record.locators:
            return False
        if prefix.mask_len == 0 or any(prefix.covers(eid) or eid.covers(prefix) for eid in self.own_eids):
            return True
        # RLOCs live in no Instance-ID; a virtual network may well reuse their numbers.
        infrastructure: Iterable[IpAddress] = () if prefix.instance_id else self.own_rlocs | self.mapping_system
        return any(prefix.contains(address) for address in infrastructure)


def accept_records(
    records: Iterable[MappingRecord], asked: EidPrefix, guard: Guard
) -> tuple[MappingRecord, ...] | None:
    """The records that answer the question for `asked`, or None when the reply as a whole is to be refused.

    One record must cover what was asked; what it covers in turn comes along, anything else is ignored. Asked for a
    whole prefix (a refresh), a site that was split up meanwhile may answer with the parts.
    """
    found = [(record, prefix) for record in records if (prefix := record.eid_prefix) is not None]
    covering = [prefix for _, prefix in found if prefix.covers(asked)]
    scope = min(covering, key=lambda prefix: prefix.mask_len) if covering else asked
    answers = [(record, prefix) for record, prefix in found if scope.covers(prefix)]
    if not answers or any(guard.is_overclaim(record, prefix) for record, prefix in answers):
        return None
    return tuple(record for record, _ in answers)

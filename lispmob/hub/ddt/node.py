"""A DDT node, and the Map-Server's side of one: what a DDT Map-Request is referred to (RFC 8111, sections 7.1 and 7.2).

How it works, for the requested EID:

1. A delegation holds it: refer to those nodes or Map-Servers.
2. We are authoritative and one of our sites holds it: say whether it is registered there.
3. We are authoritative and nothing below holds it: a hole, the widest prefix that overlaps no delegation and no site.
4. Anything else: not authoritative.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from msgspec.structs import replace

from lispmob.hub.ddt.policy import DdtPolicy, Delegation
from lispmob.hub.map_server.asker_limits import Network
from lispmob.hub.map_server.map_server import MapServer
from lispmob.hub.map_server.ordered_prefixes import OrderedPrefixTable
from lispmob.wire.address import EidPrefix, IpAddress
from lispmob.wire.eid import from_prefix
from lispmob.wire.lcaf_types import SecurityKey
from lispmob.wire.map_referral import Referral, ReferralRecord
from lispmob.wire.record import Locator

REFERRAL_TTL_MIN: Final = 1440  # RFC 8111, 7.1.1
NOT_REGISTERED_TTL_MIN: Final = 1
HOLE_TTL_MIN: Final = 15
PRIORITY: Final = 1
NO_SUITE: Final = 0  # the key signs, and encrypts nothing
WEIGHT: Final = 100


class DdtNode:
    """Answers for the EID-Prefixes that are delegated to us."""

    def __init__(self, policy: DdtPolicy, map_server: MapServer) -> None:
        self._policy = policy
        self._map_server = map_server
        self._authoritative: OrderedPrefixTable[None] = OrderedPrefixTable()
        self._delegations: OrderedPrefixTable[Delegation] = OrderedPrefixTable()
        for prefix in policy.authoritative:
            self._authoritative.insert(prefix, None)
        for delegation in policy.delegations:
            self._delegations.insert(delegation.prefix, delegation)

    def refer(self, asked: EidPrefix, asker: Network) -> ReferralRecord | None:
        """What to say about an EID; of a wider prefix, about its first address. None: not now, it cannot be signed."""
        record = self._refer(asked)
        return record if self._policy.signer is None else self._policy.signer.signed(record, asker)

    def _refer(self, asked: EidPrefix) -> ReferralRecord:
        host = EidPrefix.host(asked.address, asked.instance_id)
        own = next(iter(self._authoritative.covering(host)), None)
        delegated = next(iter(self._delegations.covering(host)), None)
        if delegated is not None and (own is None or delegated[0].mask_len > own[0].mask_len):
            return self._referral(*delegated)
        if own is None:
            return _record(asked, Referral.NOT_AUTHORITATIVE, 0, is_incomplete=True)
        return self._of_sites(host) or self._hole(host, own[0])

    def _referral(self, prefix: EidPrefix, delegation: Delegation) -> ReferralRecord:
        kind = Referral.MS if delegation.is_map_server else Referral.NODE
        is_own = any(True for _ in self._authoritative.covering(prefix))
        record = _record(prefix, kind, REFERRAL_TTL_MIN, delegation.addresses, is_authoritative=is_own)
        if self._policy.signer is None or not delegation.keys:
            return record
        # The keys of the referred servers, in each of their locators (RFC 8111, 10; RFC 8060, 4.7)
        locators = (
            replace(locator, address=SecurityKey(NO_SUITE, delegation.keys, locator.address))
            for locator in record.locators
        )
        return replace(record, locators=tuple(locators))

    def _of_sites(self, host: EidPrefix) -> ReferralRecord | None:
        """Whether a local site holds it, and whether it is registered there."""
        configured = self._map_server.sites.of(host)
        if configured is None:
            return None
        peers = self._policy.peers
        registered = next(iter(self._map_server.registrations.covering(host)), None)
        if registered is None or registered[0].mask_len < configured[0].mask_len:
            hole = self._map_server.sites.hole(host.address, host.instance_id)
            kind, prefix, ttl_min = Referral.MS_NOT_REGISTERED, hole, NOT_REGISTERED_TTL_MIN
        else:
            kind, prefix, ttl_min = Referral.MS_ACK, registered[0], REFERRAL_TTL_MIN
        return _record(prefix, kind, ttl_min, peers, is_incomplete=not peers, is_authoritative=True)

    def _hole(self, host: EidPrefix, own: EidPrefix) -> ReferralRecord:
        """The widest prefix of ours around the EID without a delegation or a site."""
        gaps = (self._delegations.gap(host.address, own), self._map_server.sites.gap(host.address, own))
        hole = max(gaps, key=lambda gap: gap.mask_len)
        return _record(hole, Referral.DELEGATION_HOLE, HOLE_TTL_MIN, is_authoritative=True)


def _record(
    prefix: EidPrefix,
    referral: Referral,
    ttl_min: int,
    addresses: Iterable[IpAddress] = (),
    *,
    is_incomplete: bool = False,
    is_authoritative: bool = False,
) -> ReferralRecord:
    return ReferralRecord(
        from_prefix(prefix),
        prefix.mask_len,
        referral,
        tuple(Locator(address, PRIORITY, WEIGHT) for address in addresses),
        ttl_min,
        is_authoritative=is_authoritative,
        is_incomplete=is_incomplete,
    )

"""What the Map-Server says to a question: mappings, a hole, or "ask the ETR" (RFC 9301, sections 5.5, 8.4)."""

from __future__ import annotations

from typing import Final, TypeAlias

import msgspec
from msgspec.structs import replace

from lispmob.hub.map_server.ordered_prefixes import OrderedPrefixTable
from lispmob.hub.map_server.registration import Registration
from lispmob.hub.map_server.site import ProxyReply, SiteTable
from lispmob.wire.address import EidPrefix
from lispmob.wire.record import Action, MappingRecord

TTL_NOT_LISP_MIN: Final = 15  # RFC 9301, 8.4: no site has the EID
TTL_NOT_REGISTERED_MIN: Final = 1  # RFC 9301, 8.4: a site has it, but it is not registered
# Ours: they usually keep a Map-Reply within 576 octets.
MORE_SPECIFICS_LIMIT: Final = 8
LOCATORS_BELOW_LIMIT: Final = 24


class Mappings(msgspec.Struct, frozen=True):
    """The records of a Map-Reply from the Map-Server itself."""

    records: tuple[MappingRecord, ...]


class AskEtr(msgspec.Struct, frozen=True):
    """The ETR answers: the Map-Request is forwarded to it."""

    record: MappingRecord


Answer: TypeAlias = Mappings | AskEtr


def answer(sites: SiteTable, registrations: OrderedPrefixTable[Registration], asked: EidPrefix) -> Answer:
    """Find the answer for `asked`.

    A request that is wider than what is registered is taken as one for its first address: the answer is true for that,
    while a record as wide as the request would also cover other EIDs.
    """
    found = registrations.covering(asked)
    if not found and asked.mask_len < asked.width:
        asked = EidPrefix.host(asked.address, asked.instance_id)
        found = registrations.covering(asked)
    configured = sites.of(asked)
    if not found or configured is None or found[0][0].mask_len < configured[0].mask_len:
        ttl_min = TTL_NOT_LISP_MIN if configured is None else TTL_NOT_REGISTERED_MIN
        hole = sites.hole(asked.address, asked.instance_id)
        return Mappings((MappingRecord.of(hole, ttl_min=ttl_min, action=Action.NATIVELY_FORWARD),))
    prefix, registration = found[0]
    assert registration.record is not None, prefix
    if not _is_proxied(sites, registration):
        return AskEtr(registration.record)
    own = _spoken_for(registration.record)
    if prefix.mask_len == prefix.width:
        return Mappings((own,))  # nothing is below a host
    registered_below = registrations.covered(prefix, MORE_SPECIFICS_LIMIT + 1)
    below = {eid for eid, _ in registered_below} | set(sites.below(prefix, MORE_SPECIFICS_LIMIT + 1))
    locators_below = sum(len(one.record.locators) for _, one in registered_below if one.record)
    if len(below) > MORE_SPECIFICS_LIMIT or locators_below > LOCATORS_BELOW_LIMIT:
        host = EidPrefix.host(asked.address, asked.instance_id)
        closest = registrations.covering(host)[0][0], (sites.of(host) or configured)[0]
        if max(eid.mask_len for eid in closest) > prefix.mask_len:
            return answer(sites, registrations, host)
        gaps = registrations.gap(asked.address, prefix), sites.gap(asked.address, prefix)
        return Mappings((narrowed(own, max(gaps, key=lambda gap: gap.mask_len)),))
    records = [own]
    for eid in sorted(below, key=lambda eid: (eid.mask_len, eid.address)):
        more_specific = registrations.get(eid)
        if more_specific and more_specific.record and _is_proxied(sites, more_specific):
            records.append(_spoken_for(more_specific.record))
        else:
            records.append(MappingRecord.of(eid, ttl_min=own.ttl_min, action=Action.SEND_MAP_REQUEST))
    # RFC 9301, 5.5: records that come together have one TTL, so that no hole opens in the ITR's map-cache.
    ttl_min = min(record.ttl_min for record in records)
    return Mappings(tuple(replace(record, ttl_min=ttl_min) for record in records))


def told(
    sites: SiteTable, registrations: OrderedPrefixTable[Registration], changed: EidPrefix, subscribed: EidPrefix
) -> MappingRecord:
    """The publication for a subscriber about a changed prefix (RFC 9437, 6): the part that it subscribed to.

    TTL 0 if the mapping must not be given any more: the subscriber then asks.
    """
    prefix = subscribed if changed.covers(subscribed) else changed
    registration = registrations.get(changed)
    if registration is None or registration.record is None or not _is_proxied(sites, registration):
        return MappingRecord.of(prefix, ttl_min=0)
    own = _spoken_for(registration.record)
    return own if prefix == changed else narrowed(own, prefix)


def _is_proxied(sites: SiteTable, registration: Registration) -> bool:
    found = sites.of(registration.prefix)
    policy = found[1].proxy_reply if found else ProxyReply.AS_REGISTERED
    if policy is ProxyReply.AS_REGISTERED:
        return registration.is_proxied
    return policy is ProxyReply.ALWAYS


def _spoken_for(record: MappingRecord) -> MappingRecord:
    """The record as sent by another party than its ETR: not authoritative, no locator local or probed."""
    if not record.locators:
        # Registered, but without locators now: short-lived, because there will be some soon.
        return replace(record, ttl_min=TTL_NOT_REGISTERED_MIN, action=Action.NATIVELY_FORWARD, is_authoritative=False)
    locators = tuple(
        replace(locator, is_local=False, is_probed=False) if locator.is_local or locator.is_probed else locator
        for locator in record.locators
    )
    if locators == record.locators and record.action == Action.NO_ACTION and not record.is_authoritative:
        return record
    return replace(record, locators=locators, action=Action.NO_ACTION, is_authoritative=False)


def narrowed(record: MappingRecord, prefix: EidPrefix) -> MappingRecord:
    """The same for a more specific prefix."""
    return replace(
        MappingRecord.of(prefix, record.locators, ttl_min=record.ttl_min),
        action=record.action,
        map_version=record.map_version,
    )

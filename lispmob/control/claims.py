"""Claims of others that lead to a lookup: an SMR, and data whose source has no mapping that names the sender.

Neither is authenticated. So a claim causes only a Map-Request to the mapping system, one at a time for each cached
prefix, within a share of the request rate (`resolver.py`). For a hole in the registrations it causes none.
"""

from __future__ import annotations

from typing import Protocol

from lispmob.control.lookups.resolver import Resolver
from lispmob.control.mappings import Mappings
from lispmob.control.smr import solicited
from lispmob.protocol.effect import Count, Event, MachineEffect, SendControl
from lispmob.wire.address import EidPrefix, IpAddress
from lispmob.wire.address_class import may_be_rloc
from lispmob.wire.map_request import MapRequest


class Proven(Protocol):
    """Knows which locator was sent a nonce in a probe (`probing.py`)."""

    def __call__(self, nonce: int, sender: IpAddress, now: float, *, is_named: bool) -> IpAddress | None: ...


def on_smr(
    request: MapRequest,
    sender: IpAddress,
    own: IpAddress | None,
    mappings: Mappings,
    resolver: Resolver,
    proven: Proven,
    now: float,
    *,
    is_from_mapping_system: bool = False,
) -> list[MachineEffect]:
    """An SMR says that an EID has moved. `own`: our EID that talks to it.

    `proven`: the locator that was sent this nonce in a probe. A peer that repeats the nonce can read what is sent
    there, as the owner of the mapping can. So its data is accepted from its new address before the lookup is answered,
    and data is sent there at once if it is already a locator of its mapping.

    For an EID whose packets we refuse, only a Map-Server's SMR counts: it knows to whom it gave the negative answer.
    """
    eid = solicited(request)
    entry = mappings.known(eid.address, eid.instance_id) if eid is not None else None
    if eid is not None and entry is None and is_from_mapping_system:
        entry = mappings.refuted(eid.address, eid.instance_id)
    if eid is None or entry is None:
        return [Count("rx_policy")]
    is_named = any(sender in locator.ips for locator in entry.locators)
    former = proven(request.nonce, sender, now, is_named=is_named)
    is_mover = former is not None and any(former in locator.ips for locator in entry.locators)
    vouched = mappings.on_mover(entry, sender, now) if is_mover and may_be_rloc(sender) else []
    effects = resolver.on_smr(eid, entry.prefix, own, now, None if is_named or is_mover else sender)
    # One log line for each would let a flood fill the log.
    if any(isinstance(effect, SendControl) for effect in effects):
        effects.insert(0, Event("smr-received", {"eid": str(eid), "rloc": str(sender)}))
    return [*vouched, *effects]


def on_doubt(eid: EidPrefix, own: IpAddress, mappings: Mappings, resolver: Resolver, now: float) -> list[MachineEffect]:
    """Data came from a host through a locator that its mapping does not name."""
    entry = mappings.cache.lookup(eid.address, eid.instance_id)
    if entry is not None and mappings.known(eid.address, eid.instance_id) is None:
        return [Count("rx_source")]  # the mapping is negative, or was configured
    return resolver.on_doubt(eid, entry.prefix if entry is not None else eid, own, now)

"""What others may make us ask for: an SMR, and data whose source no mapping vouches for. Both lead to a question only.

Nobody has proven anything by either. So each leads to one question at a time for a cached prefix, to the mapping system
and to nobody else, within a share of what may be asked (`resolver.py`); of a hole in the registrations, to none.
"""

from __future__ import annotations

from typing import Protocol

from lispmob.control.mappings import Mappings
from lispmob.control.resolver import Resolver
from lispmob.control.smr import solicited
from lispmob.protocol.effect import Count, Event, MachineEffect, SendControl
from lispmob.wire.address import EidPrefix, IpAddress
from lispmob.wire.address_class import may_be_rloc
from lispmob.wire.map_request import MapRequest


class Proven(Protocol):
    """Which locator was sent a nonce in a probe (`probing.py`)."""

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
    """Somebody says that an EID has moved. `own`: the EID of ours that would talk to it.

    `proven`: the locator that was sent a nonce in a probe, and nobody else was. A peer that repeats it has read what
    was sent there, as the owner of the mapping does. So its data is taken from where it is now before the answer comes,
    and goes there at once where that is a locator of its mapping already.

    Only a Map-Server may say that somebody is there whom we refuse packets to: it knows whom it has answered so.
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
    if any(isinstance(effect, SendControl) for effect in effects):  # a flood of them is not worth a line each
        effects.insert(0, Event("smr-received", {"eid": str(eid), "rloc": str(sender)}))
    return [*vouched, *effects]


def on_doubt(eid: EidPrefix, own: IpAddress, mappings: Mappings, resolver: Resolver, now: float) -> list[MachineEffect]:
    """Data came from a host by somebody whom no mapping names for it."""
    entry = mappings.cache.lookup(eid.address, eid.instance_id)
    if entry is not None and mappings.known(eid.address, eid.instance_id) is None:
        return [Count("rx_source")]  # we were told that nobody is there, or told by hand who is
    return resolver.on_doubt(eid, entry.prefix if entry is not None else eid, own, now)

"""Where everything goes when no uplink can ask the mapping system: to the RTRs. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Network, IPv6Network
from typing import Final

from lispmob.natt.plan import NattPlan
from lispmob.wire.address import EidPrefix, IpNetwork
from lispmob.wire.record import Locator, MappingRecord

_EVERYTHING: Final[dict[int, IpNetwork]] = {4: IPv4Network("0.0.0.0/0"), 6: IPv6Network("::/0")}


def default_mappings(plan: NattPlan, eids: Iterable[EidPrefix]) -> list[MappingRecord]:
    """Default mappings (0/0 and ::/0) to the RTRs, for each of our families and Instance-IDs. Empty while the mapping
    system can answer us.
    """
    if plan.asks_mapping_system or not plan.defaults:
        return []
    locators = tuple(Locator(relay.address, relay.priority, relay.weight) for relay in plan.defaults)
    spaces = dict.fromkeys((eid.family, eid.instance_id) for eid in eids)
    return [MappingRecord.of(EidPrefix(_EVERYTHING[family], iid), locators) for family, iid in spaces]

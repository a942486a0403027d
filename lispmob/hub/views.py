"""The answers of the hub's control socket, as JSON values with SCHEMA_VERSION. Pure.

Times are in seconds since 1970, durations in seconds. Keys are only ever added; readers skip unknown ones.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Final

from lispmob.hub.inviting.pool import numbers_left
from lispmob.hub.ledger import Ledger
from lispmob.hub.map_server.part import XtrRegistration
from lispmob.hub.map_server.site import Site
from lispmob.wire.address import EidPrefix, IpAddress
from lispmob.wire.key_record import without_key_record

SCHEMA_VERSION: Final = 1

Json = dict[str, Any]

_ADVICE: Final = {
    "duplicate-eid": "give each machine an EID of its own, or stop the other one",
    "wrong-key": "compare the key of this node with that of its site; an invited one: lisphub invite --again NAME",
}


def node_of(
    part: XtrRegistration,
    site: str | None,
    ledger: Ledger,
    rtrs: Collection[IpAddress],
    now: float,
    subscriptions: Sequence[str] = (),
) -> Json:
    """Where an EID-Prefix is, as one xTR registered it. `now` is monotonic, as the registration's times are.

    `subscriptions`: the EID-Prefixes whose changes are published to the xTR.
    """
    prefix = part.record.eid_prefix
    eid = str(prefix) if prefix is not None else str(part.record.eid)
    locators = without_key_record(part.record).locators
    relays = sorted({str(ip) for locator in locators if locator.is_reachable for ip in locator.ips if ip in rtrs})
    behind = [locator for locator in locators if not locator.is_reachable]
    shown = [locator for locator in locators if str(locator.ip) not in relays]
    presence = ledger.presence(eid)
    return {
        "eid": eid,
        "site": site,
        "xtr_id": part.xtr_id.hex() if part.xtr_id is not None else None,
        "rlocs": [
            {
                "address": str(locator.ip or locator.address),
                "priority": locator.priority,
                "weight": locator.weight,
                "is_behind_nat": locator in behind,
            }
            for locator in shown
        ],
        "way": "rtr" if relays else "open",
        "rtrs": relays,
        "source": str(part.source),
        "heard_s": round(max(0.0, now - part.registered_at), 1),
        "left_s": None if part.expires_at == float("inf") else round(part.expires_at - now, 1),
        "since": presence.since if presence is not None else None,
        "moves": presence.moves if presence is not None else 0,
        "moved_at": presence.moved_at if presence is not None else None,
        "subscriptions": list(subscriptions),
    }


def site_of(site: Site, invited: Json | None, registered: Iterable[EidPrefix]) -> Json:
    """One site. `invited`: the data of its invitation; None for a site of hub.conf or sites.d."""
    return {
        "name": site.name,
        "eids": list(map(str, site.eids)),
        "names": list(site.names),
        "origin": "configured" if invited is None else "invited",
        "state": "configured" if invited is None else invited["state"],
        "invited_at": None if invited is None else invited["invited_at"],
        "expires_at": None if invited is None else invited["expires_at"],
        "joined_at": None if invited is None else invited["joined_at"],
        "registered": sorted(map(str, registered)),
    }


def pools_of(pools: tuple[EidPrefix, ...], taken: Iterable[EidPrefix]) -> list[Json]:
    """The free share of each pool."""
    others = list(taken)
    return [{"prefix": str(pool), "left": numbers_left(pool, others)} for pool in pools]


def problems_of(ledger: Ledger, wall: float, own: Mapping[str, str | None]) -> list[Json]:
    """Problems: this hub's own by key, as far as there are any, and faults of nodes."""
    found = [
        {"key": key, "subject": "", "text": text, "remedy": "", "since": None, "last": wall, "count": 1}
        for key, text in own.items()
        if text is not None
    ]
    found += [
        {
            "key": complaint.key,
            "subject": complaint.subject,
            "text": complaint.text,
            "remedy": _ADVICE.get(complaint.key, ""),
            "since": complaint.since,
            "last": complaint.last,
            "count": complaint.count,
        }
        for complaint in ledger.complaints(wall)
    ]
    return found

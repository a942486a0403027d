"""The tables that other routing rules look up for a default route, for which packets, and in which order."""

from __future__ import annotations

from ipaddress import ip_network
from typing import Final, NamedTuple

from lispmob.iface_monitor import rtnetlink
from lispmob.iface_monitor.default_routes import FOR_SOME, ROUTE_PROTOCOL, TableLookup
from lispmob.iface_monitor.snapshot import MAIN_TABLE
from lispmob.netlink.decoders import decode
from lispmob.netlink.message import VERSIONS, Raw
from lispmob.wire.address import IpNetwork

_RT_TABLE_UNSPEC: Final = 0
_FIB_RULE_INVERT: Final = 0x2
_NOT_SUPPRESSED: Final = 0xFFFFFFFF
_SELECTORS: Final = (
    "fwmark",
    "fwmask",
    "iifname",
    "oifname",
    "l3mdev",
    "uid_range",
    "ip_proto",
    "sport_range",
    "dport_range",
)


class _Lookup(NamedTuple):
    """A rule that looks up a table; `is_for_all`: it applies to every packet, or every packet from `source`."""

    priority: int
    family: int
    table: int
    source: IpNetwork | None
    is_for_all: bool


_lookups: dict[bytes, _Lookup | None] = {}


def dump_tables() -> set[TableLookup]:
    """The tables that routing rules look up for default routes; our own rules do not count."""
    listed = rtnetlink.remembering(
        _lookups, _lookup_of, [raw for family in VERSIONS for raw in rtnetlink.dump_rules(family)]
    )
    found = [lookup for lookup in listed if lookup is not None]
    main = {
        lookup.family: lookup.priority for lookup in reversed(found) if lookup.table == MAIN_TABLE and lookup.is_for_all
    }
    return {
        TableLookup(
            lookup.family,
            lookup.table,
            lookup.source,
            lookup.priority - main.get(lookup.family, lookup.priority)
            if lookup.is_for_all and lookup.source is None
            else FOR_SOME,
        )
        for lookup in found
    }


def _lookup_of(rule: Raw) -> _Lookup | None:
    message = decode(rule)
    table = int(message.get("table") or 0)
    is_limited = int(message.get("suppress_prefixlength", _NOT_SUPPRESSED)) != _NOT_SUPPRESSED
    if message.get("protocol") == ROUTE_PROTOCOL or table == _RT_TABLE_UNSPEC or is_limited:
        return None
    is_inverted = bool(message["flags"] & _FIB_RULE_INVERT)
    source = message.get("src") if message["src_len"] and not is_inverted else None
    selects = any(message.get(name) for name in _SELECTORS) or message["dst_len"] or message["tos"] or is_inverted
    return _Lookup(
        int(message.get("priority") or 0),
        VERSIONS[rule.family],
        table,
        ip_network((source, message["src_len"]), strict=False) if source else None,
        not selects,
    )

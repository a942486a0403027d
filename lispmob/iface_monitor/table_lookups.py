"""The tables that other routing rules look up for a default route, for which packets, and in which order."""

from __future__ import annotations

from ipaddress import ip_network
from typing import Any, Final, NamedTuple

from lispmob.iface_monitor import rtnetlink
from lispmob.iface_monitor.default_routes import FOR_SOME, ROUTE_PROTOCOL, TableLookup
from lispmob.iface_monitor.snapshot import MAIN_TABLE
from lispmob.netlink.decoders import decode
from lispmob.netlink.message import VERSIONS, Raw
from lispmob.wire.address import IpNetwork

_RT_TABLE_UNSPEC: Final = 0
_FIB_RULE_INVERT: Final = 0x2
_NOT_SUPPRESSED: Final = 0xFFFFFFFF
_REFUSALS: Final = {6: "blackhole", 7: "unreachable", 8: "prohibit"}  # linux/fib_rules.h, FR_ACT_*
_MARK: Final = frozenset({"fwmark", "fwmask"})
_SELECTORS: Final = (
    *_MARK,
    "iifname",
    "oifname",
    "l3mdev",
    "uid_range",
    "ip_proto",
    "sport_range",
    "dport_range",
)


class _Lookup(NamedTuple):
    """A rule that looks up a table, or refuses; `is_for_all`: it applies to all packets, or all from `source`."""

    priority: int
    family: int
    table: int
    source: IpNetwork | None
    is_for_all: bool
    refusal: str = ""


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
    return {_placed(lookup, lookup.priority - main.get(lookup.family, lookup.priority)) for lookup in found}


def _placed(lookup: _Lookup, place: int) -> TableLookup:
    """`place`: behind the rule that looks up main; negative: before it."""
    return TableLookup(
        lookup.family,
        lookup.table,
        lookup.source,
        place if lookup.is_for_all and lookup.source is None else FOR_SOME,
        place,
        not lookup.is_for_all,
        lookup.refusal,
    )


def _lookup_of(rule: Raw) -> _Lookup | None:
    message = decode(rule)
    priority, table = int(message.get("priority") or 0), int(message.get("table") or 0)
    refusal = _REFUSALS.get(message["action"], "")
    is_limited = int(message.get("suppress_prefixlength", _NOT_SUPPRESSED)) != _NOT_SUPPRESSED
    if message.get("protocol") == ROUTE_PROTOCOL or (not refusal and (table == _RT_TABLE_UNSPEC or is_limited)):
        return None
    is_inverted = bool(message["flags"] & _FIB_RULE_INVERT)
    source = message.get("src") if message["src_len"] and not is_inverted else None
    return _Lookup(
        priority,
        VERSIONS[rule.family],
        _RT_TABLE_UNSPEC if refusal else table,
        ip_network((source, message["src_len"]), strict=False) if source else None,
        _is_for_all(message, is_inverted=is_inverted),
        f"the routing rule `{priority}: {refusal}`" if refusal else "",
    )


def _is_for_all(message: Any, *, is_inverted: bool) -> bool:
    """True when all packets that this host sends from the source without a mark match."""
    used = {name for name in _SELECTORS if message.get(name)}
    is_wide = not (message["src_len"] or message["dst_len"] or message["tos"])
    if used and used <= _MARK and is_inverted and is_wide:
        return bool(message.get("fwmark"))  # `not fwmark M`, as VPNs write it: everything else
    if message.get("iifname") == "lo":
        used.discard("iifname")
    return not (used or message["dst_len"] or message["tos"] or is_inverted)

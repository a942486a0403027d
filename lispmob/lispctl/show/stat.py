"""lispctl stat: packet counters in the words of OpenLISP's mapstat -s -p lisp."""

from __future__ import annotations

from argparse import Namespace
from typing import Any, Final

from lispmob.api.client import Client
from lispmob.lispctl.command import Command, show

# each line with the datapath counters that it sums up (defined in datapath/counters.h)
RECEIVED: Final = {
    "with incomplete header": ("data_short", "in_truncated"),
    "with bad encap header": ("data_key", "data_iid"),
    "with bad data length field": ("data_inner",),
    "for an EID that is not ours": ("data_notours", "data_denied"),
    "from a source that cannot be": ("data_source", "data_local", "data_near"),
    "from a source without a mapping, too many": ("data_unknown_limited", "data_control_limited"),
    "sealed, and not to be opened": ("data_tag", "data_replay"),
    "in clear from a peer that seals": ("data_clear",),
    "by a mapping that never was": ("data_policy",),
    "whose time to live ran out": ("data_ttl",),
    "that should have been marked for congestion": ("data_ecn_drop",),
    "not taken by the device": ("in_refused",),
}
SENT: Final = {
    "dropped due to cache-miss": ("out_pending_full", "out_pending_aged", "out_pending_failed"),
    "dropped as the mapping says": ("out_drop", "out_native"),
    "dropped due to no suitable RLOC": ("out_nolocator",),
    "dropped for want of a key": ("out_unsealed",),
    "dropped due to MTU": ("out_toobig",),
    "dropped due to no buffer space": ("out_busy", "out_busy_aged"),
    "dropped due to no uplink": ("out_stalled_full", "out_stalled_aged", "out_mark_drop"),
    "dropped as they are not for the overlay": ("out_inner", "out_source", "out_guard", "out_ttl"),
}


def run(client: Client, arguments: Namespace) -> int:
    """Print the counters."""
    return show(stat_of(client.call("counters")), arguments, stat_lines)


def stat_of(groups: dict[str, dict[str, int]]) -> dict[str, Any]:
    """The sums by name; a counter that this daemon does not have counts as 0."""
    counters = groups.get("datapath", {})

    def sums(lines: dict[str, tuple[str, ...]]) -> dict[str, int]:
        return {line: sum(counters.get(name, 0) for name in names) for line, names in lines.items()}

    refused, dropped = sums(RECEIVED), sums(SENT)
    refused["from a source that cannot be"] -= counters.get("data_moved", 0)  # delivered after all
    delivered, sent = counters.get("data_packets", 0), counters.get("out_packets", 0)
    return {
        "lisp": {
            "received": delivered + sum(refused.values()),
            "refused": refused,
            "delivered": delivered,
            "output": sent + sum(dropped.values()),
            "dropped": dropped,
            "dropped_on_output": sum(dropped.values()),
            "sent": sent,
        },
        "cache": {"hit": sent, "miss": counters.get("out_miss", 0)},
    }


def stat_lines(stat: dict[str, Any]) -> list[str]:
    """The counters for people."""
    lisp, cache = stat["lisp"], stat["cache"]
    return [
        "lisp:",
        f"\t{lisp['received']} datagrams received",
        *(f"\t\t{value} {line}" for line, value in lisp["refused"].items()),
        f"\t\t{lisp['delivered']} delivered",
        f"\t{lisp['output']} datagrams output",
        *(f"\t\t{value} {line}" for line, value in lisp["dropped"].items()),
        f"\t\t{lisp['dropped_on_output']} dropped on output",
        f"\t\t{lisp['sent']} sent",
        "map tables:",
        f"\t{cache['hit']} cache hits",
        f"\t{cache['miss']} cache misses",
    ]


COMMAND = Command("stat", "show packet counters, as OpenLISP's mapstat -s -p lisp does", run)

"""lispctl mapstat: the mappings as OpenLISP's mapstat(1) shows them."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from typing import Any

from lispmob.api.client import Client
from lispmob.lispctl.command import Command, show
from lispmob.lispctl.mappings.mappings import prefix_name
from lispmob.lispctl.show.stat import stat_lines, stat_of
from lispmob.terminal.text import clean, table

_HEADERS = ("EID", "FLAGS", "REFS", "#", "RLOC", "P", "W", "F", "MTU", "CHOSEN")
_FLAGS = """\
FLAGS: U usable, L local (one of our own), S static. REFS: of the cache 1 while packets use it, and 1 for each open
question about it; of our own, the Map-Servers that hold it. P: priority, W: weight. F: R reachable, i an address of
this host. CHOSEN: packets that left for the RLOC since a mapping names it.
"""


def add_arguments(parser: ArgumentParser) -> None:
    """Options of this command: those of mapstat that are about LISP."""
    parser.epilog = _FLAGS
    parser.add_argument("-X", action="store_true", help="show the mappings (the default)")
    parser.add_argument("-n", dest="is_numeric", action="store_true", help="print addresses, not names")
    parser.add_argument("-f", dest="family", choices=("inet", "inet6"), help="only EIDs of one family")
    parser.add_argument("-s", dest="is_stat", action="store_true", help="show the counters instead: lispctl stat")
    parser.add_argument("-p", dest="protocol", choices=("lisp",), help="with -s: of this protocol")


def run(client: Client, arguments: Namespace) -> int:
    """Print one table."""
    from lispmob.lispctl.names import Names

    if arguments.is_stat:
        return show(stat_of(client.call("counters")), arguments, stat_lines)
    name: Callable[[str], str] = str if arguments.is_numeric else Names()
    found = client.call("mapstat")
    found["entries"] = [entry for entry in found["entries"] if _is_wanted(entry["prefix"], arguments.family)]
    return show(found, arguments, lambda all_: mapstat_lines(all_["entries"], name))


def _is_wanted(prefix: str, family: str | None) -> bool:
    return family is None or (":" in prefix) == (family == "inet6")


def mapstat_lines(entries: list[dict[str, Any]], name: Callable[[str], str]) -> list[str]:
    """The mappings for people, by family, our own first and then by prefix."""
    lines = ["Mapping tables"]
    for title, is_v6 in (("Internet", False), ("Internet6", True)):
        rows = [_row(entry, name) for entry in sorted(entries, key=_order) if (":" in entry["prefix"]) == is_v6]
        if rows:
            lines += ["", f"{title}:", *table(_HEADERS, rows, right=("REFS", "#", "P", "W", "MTU", "CHOSEN"))]
    return lines if len(lines) > 1 else ["there are no mappings"]


def _order(entry: dict[str, Any]) -> Any:
    import ipaddress

    head, closed, rest = entry["prefix"].rpartition("]")
    network = ipaddress.ip_network(rest)
    instance = int(head[1:]) if closed else 0
    return entry["table"] != "database", instance, int(network.network_address), network.prefixlen


def _row(entry: dict[str, Any], name: Callable[[str], str]) -> tuple[Any, ...]:
    rlocs = entry["locators"]
    return (
        prefix_name(entry["prefix"], name),
        entry["flags"],
        entry["refs"],
        [str(place) for place in range(1, len(rlocs) + 1)] or "-",
        [clean(name(rloc["address"])) for rloc in rlocs] or "-",
        [str(rloc["priority"]) for rloc in rlocs] or "-",
        [str(rloc["weight"]) for rloc in rlocs] or "-",
        [rloc["flags"] or "-" for rloc in rlocs] or "-",
        [clean(rloc["mtu_bytes"]) for rloc in rlocs] or "-",
        [clean(rloc["chosen"]) for rloc in rlocs] or "-",
    )


COMMAND = Command("mapstat", "show the mappings in one table, as OpenLISP's mapstat -X does", run, add_arguments)

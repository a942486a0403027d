"""lispctl mapstat: the mappings as OpenLISP's mapstat(1) shows them."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterable
from itertools import groupby
from typing import Any

from lispmob.api.client import Client, Entries
from lispmob.lispctl.command import Command, show
from lispmob.lispctl.mappings.mappings import prefix_name
from lispmob.lispctl.show.stat import stat_lines, stat_of
from lispmob.lispctl.streamed import print_json, print_table
from lispmob.terminal.text import clean

_HEADERS = ("EID", "FLAGS", "REFS", "#", "RLOC", "P", "W", "F", "MTU", "CHOSEN")
_RIGHT = ("REFS", "#", "P", "W", "MTU", "CHOSEN")
_TITLES = {"inet": "Internet", "inet6": "Internet6"}
_FLAGS = """\
FLAGS: U usable, L local (one of our own), S static. REFS: of the cache 1 while packets use it, and 1 for each open
question about it; of our own, the Map-Servers that hold it. P: priority, W: weight. F: R reachable, i an address of
this host. CHOSEN: packets that left for the RLOC since a mapping names it.
"""


def add_arguments(parser: ArgumentParser) -> None:
    """Options of this command: those of mapstat that concern LISP."""
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
    found = client.stream("mapstat")
    entries = (entry for entry in found.entries if arguments.family in (None, _family(entry)))
    if arguments.json:
        print_json(Entries(entries, found.rest))
    else:
        print_tables(entries, name)
    return 0


def _family(entry: dict[str, Any]) -> str:
    return "inet6" if ":" in entry["prefix"].rpartition("]")[2] else "inet"


def print_tables(entries: Iterable[dict[str, Any]], name: Callable[[str], str]) -> None:
    """Print the mappings for people as they arrive: by family, our own first, then by prefix."""
    is_first = True
    for family, of_family in groupby(entries, key=_family):
        title = f"\n{_TITLES[family]}:"
        head = f"Mapping tables\n{title}" if is_first else title
        print_table(_HEADERS, of_family, lambda entry: _row(entry, name), right=_RIGHT, title=head)
        is_first = False
    if is_first:
        print("there are no mappings")


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

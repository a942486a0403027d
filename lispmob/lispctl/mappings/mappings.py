"""lispctl map: the functions of OpenLISP's map(8), in its words or in fewer."""

from __future__ import annotations

import argparse
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

from lispmob.api.client import Client, ReplyError
from lispmob.lispctl.command import Command, common_options
from lispmob.options import HelpfulParser
from lispmob.terminal.text import clean, duration, moment

if TYPE_CHECKING:
    from lispmob.lispctl.map_words import MapWords

_WORDS: Final = """\
EID: -inet 192.0.2.0/24, -inet6 2001:db8::/32, or the prefix alone. RLOC: -inet 203.0.113.5 and up to three numbers, its
priority, weight and reachability (255, 100 and 0 when left out), or ADDRESS[,PRIORITY[,WEIGHT]] (1 and 100). Names of
hosts and networks will do. -local: a mapping of our own; -nostatic: one that gives way to others when it is unused;
-negative: one without RLOCs, whose packets leave without LISP.
"""
_ACTIONS: Final = {
    "add": ("[-local] [-nostatic] [-negative] EID RLOC ...", "add a mapping"),
    "change": ("[-local] [-nostatic] [-negative] EID RLOC ...", "replace a mapping"),
    "delete": ("[-local] EID", "delete the mapping of this EID-Prefix"),
    "get": ("EID", "show the mapping that holds an address or a prefix"),
    "monitor": ("", "show what happens to mappings, misses included, until interrupted"),
    "flush": ("[-local | -all]", "delete what was learned; -local: our own that were added; -all: static ones, too"),
}


class WordsParser(HelpfulParser):
    """The parser of one action: it parses the usual options, and leaves all other words, dashes included, to map."""

    def parse_known_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: Namespace | None = None
    ) -> tuple[Namespace, list[str]]:
        """Parse our options, and keep the rest in `words`."""
        ours, words, given = [], [], list(args or ())
        while given:
            word = given.pop(0)
            if word in ("-h", "--help", "--json") or (len(word) > 1 and word[0] == "-" and not word.strip("-dnqtv")):
                ours.append(word)
            elif word == "--socket" and given:
                ours += [word, given.pop(0)]
            elif word.startswith("--socket="):
                ours.append(word)
            else:
                words.append(word)
        made, _ = super().parse_known_args(ours, namespace)
        made.words = words
        return made, []


def _options() -> HelpfulParser:
    options = HelpfulParser(add_help=False, argument_default=argparse.SUPPRESS)
    options.add_argument("-d", dest="is_dry", action="store_true", help="change nothing; say what would be done")
    options.add_argument("-t", dest="is_dry", action="store_true", help="the same as -d")
    options.add_argument("-n", dest="is_numeric", action="store_true", help="print addresses, not names")
    options.add_argument("-q", dest="is_quiet", action="store_true", help="print nothing when it is done")
    options.add_argument("-v", dest="is_verbose", action="store_true", help="print the whole mapping")
    return options


def add_arguments(parser: ArgumentParser) -> None:
    """Options, actions, and the words of each."""
    for option in _options()._actions:  # noqa: SLF001 - what parents=[...] does, for a parser that is there already
        parser._add_action(option)  # noqa: SLF001
    parser.epilog = _WORDS
    actions = parser.add_subparsers(metavar="ACTION", dest="action", required=True, parser_class=WordsParser)
    parents: Any = [common_options(), _options()]
    for name, (words, summary) in _ACTIONS.items():
        usage = f"lispctl map [-dnqv] {name} {words}".rstrip()
        about = _WORDS if "EID" in words else None
        sub = actions.add_parser(name, parents=parents, help=summary, description=summary, usage=usage, epilog=about)
        sub.add_argument("words", nargs="*", metavar="WORD", help=words or "nothing more")


def check(arguments: Namespace) -> None:
    """Read the words, before the daemon is asked for anything. Raises WrongWords."""
    from lispmob.lispctl.map_words import read_words

    arguments.meant = read_words(arguments.action, arguments.words)


def run(client: Client, arguments: Namespace) -> int:
    """Do one action."""
    from lispmob.lispctl.names import Names

    name: Callable[[str], str] = str if getattr(arguments, "is_numeric", False) else Names()
    if arguments.action == "monitor":
        return _monitor(client, arguments, name)
    try:
        done = _call(client, arguments)
    except ReplyError as error:
        what = " ".join(filter(None, ("map:", arguments.action, arguments.meant.eid)))
        errno = f"{error.errno}: " if error.errno else ""
        raise ReplyError(error.code, f"{what}: {errno}{error}", error.errno) from None
    if arguments.json:
        import json

        print(json.dumps(done, indent=2))
    elif not getattr(arguments, "is_quiet", False) or arguments.action == "get":
        print("\n".join(done_lines(arguments, done, name)))
    return 0


def _call(client: Client, arguments: Namespace) -> Any:
    meant, is_dry = arguments.meant, getattr(arguments, "is_dry", False)
    match arguments.action:
        case "add" | "change" as action:
            return client.call(
                f"mapping-{action}",
                prefix=meant.eid,
                locators=meant.locators,
                action="native" if meant.is_negative else "drop",
                table=meant.table,
                is_static=meant.is_static,
                check_only=is_dry,
            )
        case "delete":
            return client.call("mapping-delete", prefix=meant.eid, table=meant.table, check_only=is_dry)
        case "get":
            return client.call("mapping-get", eid=meant.eid)
    if is_dry:
        return {"count": 0, "mapping": None, "left_out": []}
    client.allow_slow_answers()
    return client.call("mapping-flush", table="all" if meant.is_all else meant.table)


def done_lines(arguments: Namespace, done: dict[str, Any], name: Callable[[str], str]) -> list[str]:
    """What was done, for people; `name` gives addresses their names."""
    if arguments.action == "get":
        return mapping_lines(done, name)
    if arguments.action == "flush":
        return [
            f"flush: {done['count']} done" if not getattr(arguments, "is_dry", False) else "flush: nothing done (-d)"
        ]
    is_dry = getattr(arguments, "is_dry", False)
    rlocs = ", ".join(rloc(locator, name) for locator in arguments.meant.locators)
    where = " (local)" if arguments.meant.table == "database" else ""
    tail = f": {rlocs}" if rlocs else ""
    lines = [
        f"{arguments.action} {prefix_name(arguments.meant.eid, name)}{where}{tail}{' (not done: -d)' if is_dry else ''}"
    ]
    lines += [f"  {clean(address)} is not one of our addresses: it is left out" for address in done.get("left_out", ())]
    lines += [f"  {line}" for line in _cut(arguments.meant)]
    if getattr(arguments, "is_verbose", False) and done.get("mapping") is not None:
        lines += [f"  {line}" for line in mapping_lines(done["mapping"], name)]
    return lines


def _cut(meant: MapWords) -> list[str]:
    """A note that a host with a length was taken for the prefix it is in, as map(8) does: it may be a mistake."""
    import ipaddress

    address, slash, _ = meant.typed.rpartition("]")[2].partition("/")
    try:
        is_other = bool(slash) and ipaddress.ip_address(address) != ipaddress.ip_network(_bare(meant.eid))[0]
    except ValueError:  # a name, or a number of fewer octets
        return []
    return [f"{clean(meant.typed)} has bits beyond the prefix length: {clean(meant.eid)} is meant"] if is_other else []


def _bare(eid: str | None) -> str:
    """An EID-Prefix without its Instance-ID."""
    return (eid or "").rpartition("]")[2]


def mapping_lines(mapping: dict[str, Any], name: Callable[[str], str]) -> list[str]:
    """A mapping, and an RLOC on each line below."""
    table = "local" if mapping["table"] == "database" else "cache"
    end = mapping.get("expires_in_s")
    lasts = "" if end is None else f", for {duration(end)}"
    action = "" if mapping["locators"] else f": {clean(mapping['action'])}"
    lines = [f"{prefix_name(mapping['prefix'], name)}  {table}, {clean(mapping['source'])}{lasts}{action}"]
    return lines + [
        f"  {rloc(locator, name)}{' (ours)' if locator.get('is_local') else ''}" for locator in mapping["locators"]
    ]


def rloc(locator: dict[str, Any], name: Callable[[str], str]) -> str:
    """ "203.0.113.5 1 100 1": in the form in which it is typed."""
    reach = int(locator.get("is_reachable", True))
    return f"{clean(name(locator['address']))} {locator['priority']} {locator['weight']} {reach}"


def prefix_name(prefix: str, name: Callable[[str], str]) -> str:
    """An EID-Prefix; a host or a network that has a name is shown by it."""
    if name is str or prefix.startswith("["):
        return clean(prefix)
    import ipaddress

    from lispmob.lispctl.names import name_of_network

    network = ipaddress.ip_network(prefix)
    known = name_of_network(network)
    if known is None and network.num_addresses == 1:
        found = name(str(network.network_address))
        known = found if found != str(network.network_address) else None
    return clean(prefix) if known is None else f"{clean(known)} ({clean(prefix)})"


def _monitor(client: Client, arguments: Namespace, name: Callable[[str], str]) -> int:
    for event in client.follow_mappings():
        if arguments.json:
            import json

            print(json.dumps(event), flush=True)
        else:
            print("\n".join(event_lines(event, name)), flush=True)
    return 0


def event_lines(event: dict[str, Any], name: Callable[[str], str]) -> list[str]:
    """An event, as map monitor shows a message."""
    kind, at = clean(event["type"]).upper(), moment(event["at"], with_date=True)
    by = f"  by pid {event['pid']}" if event.get("pid") else ""
    if (mapping := event.get("mapping")) is not None:
        first, *rest = mapping_lines(mapping, name)
        why = f"  {clean(event['why'])}" if event.get("why") else ""
        return [f"{at}  {kind}  {first}{why}{by}", *(f"    {line}" for line in rest)]
    if event["type"] == "lost":
        return [f"{at}  LOST  {event['count']} events that were not read in time"]
    if event["type"] == "miss":
        iid = f"[{event['instance_id']}]" if event.get("instance_id") else ""
        source = f"  from {clean(event['source_eid'])}" if event.get("source_eid") else ""
        return [f"{at}  MISS  {iid}{clean(event['eid'])}{source}  {clean(event['why'])}, {event['tries']}"]
    return [f"{at}  {kind}  {clean(name(event['rloc']))}"]


COMMAND = Command("map", "change and show mappings, as OpenLISP's map(8) does", run, add_arguments, check)

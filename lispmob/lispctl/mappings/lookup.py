"""lispctl lookup: how a packet would be treated."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from typing import Any

from lispmob.api.client import Client
from lispmob.lispctl.command import Command, show
from lispmob.lispctl.mappings.map_cache import entry_lines
from lispmob.terminal.text import clean, fold, paint

_VERDICTS = {
    "own": "{eid} is one of our own EIDs",
    "encapsulate": "packets to {eid} go to {locator}",
    "native": "packets to {eid} leave without LISP",
    "drop": "packets to {eid} are dropped, and their sender gets an ICMP error",
    "ask": "nothing is known about {eid}: the first packet asks the Map-Resolver",
}


def add_arguments(parser: ArgumentParser) -> None:
    """Arguments of this command."""
    parser.add_argument("eid", help="an address")
    parser.add_argument("--instance-id", type=int, default=0, metavar="N", help="its Instance-ID (default: 0)")


def run(client: Client, arguments: Namespace) -> int:
    """Print the verdict."""
    found = client.call("lookup", eid=arguments.eid, instance_id=arguments.instance_id)
    return show(found, arguments, lookup_lines)


def lookup_lines(found: dict[str, Any]) -> list[str]:
    """The verdict for people, and the mapping behind it."""
    verdict = _VERDICTS.get(found["verdict"], "{eid}: " + clean(found["verdict"]))
    text = verdict.format(eid=clean(found["eid"]), locator=clean(found["locator"] or "no usable locator"))
    if (why := found.get("why")) is not None:
        text += f": {clean(why)}"
    is_lost = found["verdict"] == "drop" or (found["verdict"] == "encapsulate" and why is not None)
    lines = [paint(line, "bad") if is_lost else line for line in fold(text)]
    return lines + (entry_lines([found["entry"]]) if found["entry"] is not None else [])


COMMAND = Command("lookup", "show what would happen to a packet to an address", run, add_arguments)

"""lispctl map-cache: list, add, delete and flush mappings."""

from __future__ import annotations

from argparse import ArgumentParser, ArgumentTypeError, Namespace
from typing import Any

from lispmob.api.client import Client
from lispmob.lispctl.command import Command, common_options, show
from lispmob.lispctl.streamed import print_json, print_table
from lispmob.terminal.text import clean, duration, fold, locators, plural, table

EMPTY = "the map-cache is empty"
_HEADERS = ("PREFIX", "SOURCE", "LOCATORS (PRIO/WEIGHT)", "AGE", "EXPIRES", "UNUSED")
_RIGHT = ("AGE", "EXPIRES", "UNUSED")


def add_arguments(parser: ArgumentParser) -> None:
    """Actions of this command; without one, the map-cache is listed."""
    parser.set_defaults(action=None)
    actions = parser.add_subparsers(metavar="ACTION", dest="action")
    common = [common_options()]
    actions.add_parser("list", aliases=["show"], parents=common, help="list the mappings (the default)")
    actions.add_parser("flush", parents=common, help="forget every mapping that was learned; static ones stay")
    delete = actions.add_parser("del", aliases=["delete", "remove"], parents=common, help="forget one mapping")
    delete.add_argument("prefix", help="its EID-Prefix, such as 192.0.2.0/24 or [7]192.0.2.0/24")
    add = actions.add_parser("add", parents=common, help="add a static mapping")
    add.add_argument("prefix", help="its EID-Prefix, such as 192.0.2.0/24 or [7]192.0.2.0/24")
    add.add_argument(
        "--locator",
        action="append",
        default=[],
        type=read_locator,
        metavar="ADDRESS[,PRIORITY[,WEIGHT]]",
        help="an RLOC; may be given several times",
    )
    add.add_argument("--without", choices=("drop", "native"), help="instead of locators: drop its packets, or natively")


def read_locator(text: str) -> dict[str, Any]:
    """ "203.0.113.5", "203.0.113.5,1" or "203.0.113.5,1,50". Raises ArgumentTypeError."""
    address, *numbers = text.split(",")
    if not address or len(numbers) > 2 or not all(number.isdecimal() and int(number) <= 255 for number in numbers):
        raise ArgumentTypeError(f"{text!r} is not ADDRESS, ADDRESS,PRIORITY or ADDRESS,PRIORITY,WEIGHT (0 to 255)")
    return {"address": address, **dict(zip(("priority", "weight"), map(int, numbers), strict=False))}


def run(client: Client, arguments: Namespace) -> int:
    """Do one action."""
    if arguments.action == "flush":
        client.allow_slow_answers()
        return show(client.call("map-cache-flush"), arguments, lambda done: _changed("forgot", done))
    if arguments.action in ("del", "delete", "remove"):
        done = client.call("map-cache-delete", prefix=arguments.prefix)
        return show(done, arguments, lambda done: _changed("forgot", done))
    if arguments.action == "add":
        done = client.call(
            "map-cache-add", prefix=arguments.prefix, locators=arguments.locator, action=arguments.without or "drop"
        )
        return show(done, arguments, lambda done: [*_changed("added", done), *_without_locator(arguments)])
    found = client.stream("map-cache")
    if arguments.json:
        print_json(found)
    elif not print_table(_HEADERS, found.entries, _row, right=_RIGHT):
        print(EMPTY)
    return 0


def _without_locator(arguments: Namespace) -> list[str]:
    """A warning that the added mapping leads nowhere, which may not be intended."""
    if arguments.locator:
        return []
    what = "leave without LISP" if arguments.without == "native" else "are dropped"
    hint = "" if arguments.without is not None else "; to send them somewhere: --locator ADDRESS"
    return fold(f"it has no locator: packets to {clean(arguments.prefix)} {what}{hint}")


def _changed(verb: str, done: dict[str, Any]) -> list[str]:
    return [f"{verb} {plural(done['count'], 'mapping')}"]


def entry_lines(entries: list[dict[str, Any]]) -> list[str]:
    """Mappings for people."""
    return table(_HEADERS, list(map(_row, entries)), right=_RIGHT) if entries else [EMPTY]


def _row(entry: dict[str, Any]) -> tuple[Any, ...]:
    return (
        entry["prefix"],
        _source(entry),
        locators(entry["locators"]) if entry["locators"] else entry["action"],
        duration(entry["age_s"]),
        "never" if entry["expires_in_s"] is None else duration(entry["expires_in_s"]),
        duration(entry["unused_s"]),
    )


COMMAND = Command("map-cache", "list the mappings of others; add, delete or flush them", run, add_arguments)


def _source(entry: dict[str, Any]) -> str:
    """The source of a mapping, and how it came: "reply, genuine", "published, genuine, subscribed", "announced"."""
    said = [entry.get("told_by") or entry["source"]]
    said += ["genuine"] if entry.get("is_genuine") else []
    said += ["subscribed"] if entry.get("is_subscribed") else []
    return ", ".join(said)

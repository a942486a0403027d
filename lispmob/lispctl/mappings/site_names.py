"""lispctl names and lispctl name: the names of the overlay, and where one leads."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from typing import Any

from lispmob.api.client import Client
from lispmob.errors import LispError
from lispmob.lispctl.command import Command, show
from lispmob.terminal.text import clean, duration, fold, paint, table


class NameNotFound(LispError):
    """There is no such name, or nobody could say."""


def run_names(client: Client, arguments: Namespace) -> int:
    """Print what is known."""
    return show(client.call("names"), arguments, names_lines)


def names_lines(names: dict[str, Any]) -> list[str]:
    """Who serves the names for people, and the names."""
    lines = []
    if not names["domain"]:
        lines += fold("lispd answers no DNS: lispd.conf names no domain")
    elif names["addresses"]:
        where = ", ".join(map(clean, names["addresses"]))
        asks = names["resolver"] or "no resolver of this host was told"
        lines += fold(f"{clean(names['domain'])}: answered at {where} port {names['port']}; {clean(asks)}")
    if names["problem"] is not None:
        lines += [paint(line, "bad") for line in fold(clean(names["problem"]))]
    if names["advice"] is not None:
        lines += fold(clean(names["advice"]), first="  ")
    rows = [
        [name["name"], _leads_to(name), duration(name["ttl_s"])] for name in names["entries"] if name["is_answered"]
    ]
    return lines + (table(["NAME", "LEADS TO", "FOR"], rows, right=("FOR",), folded="LEADS TO") if rows else [])


def add_arguments(parser: ArgumentParser) -> None:
    """Arguments of this command."""
    parser.add_argument("name", metavar="NAME|EID", help="a name, with or without the domain, or an address")


def run_name(client: Client, arguments: Namespace) -> int:
    """Print where it leads. Raises NameNotFound."""
    found = client.call("name", name=arguments.name)
    if not arguments.json and not found["eids"] and not found["names"]:
        what = "nobody has this name" if found["is_answered"] else "nobody can say"
        raise NameNotFound(f"{clean(arguments.name)}: {what} ({clean(found['why'])})")
    return show(found, arguments, lambda one: list(map(clean, [*one["eids"], *one["names"]])))


def _leads_to(one: dict[str, Any]) -> str:
    return ", ".join([*one["eids"], *one["names"]]) or "nobody"


NAMES = Command("names", "the domain of the overlay, who is asked for it, and the names that are known", run_names)
NAME = Command("name", "show where a name leads, or which names an EID has", run_name, add_arguments)

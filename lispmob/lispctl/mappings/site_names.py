"""lispctl names and lispctl name: the names of the overlay, and the EID of a name."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from typing import Any

from lispmob.api.client import Client
from lispmob.errors import LispError
from lispmob.lispctl.command import Command, show
from lispmob.terminal.text import clean, duration, fold, paint, table

DEFAULT_CONFIG = "/etc/lispmob/lispd.conf"


class NameNotFound(LispError):
    """The name does not exist, or the mapping system gave no answer."""


def add_names_arguments(parser: ArgumentParser) -> None:
    """Options of this command."""
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        "--configure",
        action="store_const",
        dest="alone",
        const=configure,
        help="have the resolver of this host ask lispd for our domain; as root",
    )
    which.add_argument(
        "--revert", action="store_const", dest="alone", const=revert, help="remove that configuration; as root"
    )
    parser.add_argument("-c", "--config", default=DEFAULT_CONFIG, metavar="FILE", help=f"default: {DEFAULT_CONFIG}")


def run_names(client: Client, arguments: Namespace) -> int:
    """Print the known names."""
    return show(client.call("names"), arguments, names_lines)


def configure(arguments: Namespace) -> int:
    """Configure the resolver to ask lispd, whether lispd runs or not. Raises LispError."""
    from pathlib import Path

    from lispmob.joining.checking import wanted_names
    from lispmob.names.host_resolver import HostResolver

    wanted = wanted_names(Path(arguments.config))
    if wanted is None:
        raise LispError(f"{arguments.config} names no domain: `names: {{domain: lisp.home.arpa}}`")
    done = HostResolver().configure(wanted)
    print("\n".join(fold(clean(done.text or f"{done.kind.value}: it asks lispd for {wanted.domain} already"))))
    return 0 if done.is_configured else 1


def revert(_arguments: Namespace) -> int:
    """Remove that configuration. Raises LispError."""
    from lispmob.names.host_resolver import HostResolver

    changed = HostResolver().revert()
    print(f"as before: {', '.join(changed)}" if changed else "no resolver was configured")
    return 0


def names_lines(names: dict[str, Any]) -> list[str]:
    """The server of the names and the names, for people."""
    lines = []
    if not names["domain"]:
        lines += fold("lispd answers no DNS: lispd.conf names no domain")
    elif names["addresses"]:
        where = ", ".join(map(clean, names["addresses"]))
        asks = names["resolver"] or "no resolver of this host is configured"
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
    """Print the EID of a name. Raises NameNotFound."""
    found = client.call("name", name=arguments.name)
    if not arguments.json and not found["eids"] and not found["names"]:
        unknown = f"the name cannot be looked up: {clean(found['why'])}"
        why = "no site of the hub has this name" if found["is_answered"] else unknown
        raise NameNotFound(f"{clean(arguments.name)}: {why}")
    return show(found, arguments, lambda one: list(map(clean, [*one["eids"], *one["names"]])))


def _leads_to(one: dict[str, Any]) -> str:
    return ", ".join([*one["eids"], *one["names"]]) or "no such name"


NAMES = Command(
    "names",
    "show the domain of the overlay, its servers, and the known names",
    run_names,
    add_names_arguments,
)
NAME = Command("name", "show the EID of a name, or the names of an EID", run_name, add_arguments)

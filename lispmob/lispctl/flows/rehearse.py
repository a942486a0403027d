"""lispctl rehearse: which flows would move or break if uplinks were lost or gained; nothing is changed."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from typing import Any

from lispmob.api.client import Client
from lispmob.lispctl.command import Command, show
from lispmob.terminal.text import clean, fold, paint, plural, table_blocks

_COLOURS = {"breaks": "bad", "moves": "warn", "recovers": "good"}
_SOURCES = {"conntrack": "connection tracking", "sockets": "the open sockets (the kernel tracks no connections)"}


def add_arguments(parser: ArgumentParser) -> None:
    """Arguments of this command."""
    parser.add_argument("--lose", metavar="UPLINK", action="append", default=[], help="assume that this uplink is gone")
    parser.add_argument(
        "--gain", metavar="INTERFACE", action="append", default=[], help="assume that this interface becomes an uplink"
    )
    parser.add_argument("--all", action="store_true", help="show the flows that stay, too")


def run(client: Client, arguments: Namespace) -> int:
    """Print what would change."""
    found = client.call("rehearse", lose=arguments.lose, gain=arguments.gain)
    return show(found, arguments, lambda result: rehearsal_lines(result, shows_all=arguments.all))


def rehearsal_lines(result: dict[str, Any], *, shows_all: bool) -> list[str]:
    """What would change, for people."""
    flows = result["flows"]
    counts = {
        change: sum(flow["change"] == change for flow in flows) for change in ("moves", "breaks", "recovers", "stays")
    }
    told = ", ".join(
        f"{count} {change if count == 1 else change.removesuffix('s')}" for change, count in counts.items()
    )
    left_out = f"; {plural(result['left_out'], 'more flow')} not looked at" if result["left_out"] else ""
    head = f"{plural(len(flows), 'flow')} from {_SOURCES[result['source']]}: {told}{left_out}"
    shown = [flow for flow in flows if shows_all or flow["change"] != "stays"]
    if not shown:
        return fold(head)
    rows = [
        (flow["flow"], flow["change"], _places(flow["before"]), _places(flow["after"]), _why(flow)) for flow in shown
    ]
    header, blocks = table_blocks(("FLOW", "CHANGE", "NOW", "THEN", "WHY"), rows, folded="WHY")
    coloured = [_coloured(line, one["change"]) for block, one in zip(blocks, shown, strict=True) for line in block]
    return [*fold(head), *header, *coloured]


def _places(names: list[str]) -> str:
    return " or ".join(map(clean, names)) or "-"


def _why(one: dict[str, Any]) -> str:
    return clean(one["steps"][-1]) if one["steps"] else "-"


def _coloured(line: str, change: str) -> str:
    return paint(line, _COLOURS[change]) if change in _COLOURS else line


COMMAND = Command("rehearse", "show which flows would move or break; change nothing", run, add_arguments)

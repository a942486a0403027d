"""lispctl counters: the daemon's counters, including dropped packets by reason."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from typing import Any

from lispmob.api.client import Client
from lispmob.lispctl.command import Command, show
from lispmob.terminal.text import clean, paint


def add_arguments(parser: ArgumentParser) -> None:
    """Options of this command."""
    parser.add_argument("-a", "--all", action="store_true", help="show the counters that stand at 0 too")


def run(client: Client, arguments: Namespace) -> int:
    """Print the counters."""
    return show(client.call("counters"), arguments, lambda groups: counter_lines(groups, with_zeros=arguments.all))


def counter_lines(groups: dict[str, dict[str, Any]], *, with_zeros: bool) -> list[str]:
    """The counters for people, one group after the other."""
    lines: list[str] = []
    for group, counters in groups.items():
        shown = {clean(name): value for name, value in counters.items() if value or with_zeros}
        if not shown:
            continue
        lines.append(paint(clean(group), "bold"))
        name_width = max(len(name) for name in shown)
        value_width = max(len(str(value)) for value in shown.values())
        lines += [f"  {name:<{name_width}}  {value:>{value_width}}" for name, value in sorted(shown.items())]
    return lines or ["every counter stands at 0"]


COMMAND = Command("counters", "show the counters, with dropped packets by reason", run, add_arguments)

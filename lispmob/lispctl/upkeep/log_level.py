"""lispctl log-level: shows lispd's log level, or changes it for a while."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from typing import Any

from lispmob.api.client import Client
from lispmob.lispctl.command import Command, show

LEVELS = ("debug", "info", "warning", "error")


def add_arguments(parser: ArgumentParser) -> None:
    """Arguments of this command."""
    parser.add_argument(
        "level", nargs="?", choices=LEVELS, help="log messages of this level and above, until the next reload"
    )


def run(client: Client, arguments: Namespace) -> int:
    """Show the level, or set it."""
    if arguments.level is None:
        return show(client.call("log-level"), arguments, level_lines)
    return show(client.call("set-log-level", level=arguments.level), arguments, level_lines)


def level_lines(told: dict[str, Any]) -> list[str]:
    """The level for people."""
    if told["configured"] in (None, told["level"]):
        return [told["level"]]
    return [f"{told['level']} until the next reload; lispd.conf says {told['configured']}"]


COMMAND = Command("log-level", "show or set what lispd logs, until the next reload", run, add_arguments)

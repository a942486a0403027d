"""lispctl database: our own mappings."""

from __future__ import annotations

from argparse import Namespace
from typing import Any

from lispmob.api.client import Client
from lispmob.lispctl.command import Command, show
from lispmob.terminal.text import locators, table


def run(client: Client, arguments: Namespace) -> int:
    """Print our mappings."""
    return show(client.call("database"), arguments, database_lines)


def database_lines(entries: list[dict[str, Any]]) -> list[str]:
    """Our mappings for people."""
    rows = [
        (entry["prefix"], locators(entry["locators"]), f"{entry['ttl_min']}m", entry["map_version"])
        for entry in entries
    ]
    return table(("EID-PREFIX", "LOCATORS (PRIO/WEIGHT)", "TTL", "VERSION"), rows, right=("TTL", "VERSION"))


COMMAND = Command("database", "list our own mappings, as the Map-Servers have them", run)

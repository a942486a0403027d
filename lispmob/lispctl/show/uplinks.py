"""lispctl uplinks: the interfaces with a route to the underlay."""

from __future__ import annotations

from argparse import Namespace
from typing import Any

from lispmob.api.client import Client
from lispmob.lispctl.command import Command, show
from lispmob.terminal.text import WIDTH, table


def run(client: Client, arguments: Namespace) -> int:
    """Print the uplinks."""
    return show(client.call("uplinks"), arguments, uplink_lines)


def uplink_lines(uplinks: list[dict[str, Any]], width: int = WIDTH) -> list[str]:
    """The uplinks for people, within a width in columns."""
    if not uplinks:
        return ["none: no interface has an address and a default route"]
    rows = [
        (
            uplink["name"],
            uplink.get("type") or "-",
            uplink["addresses"] or "-",
            uplink["priority"] if uplink["is_used"] else "-",
            uplink["weight"] if uplink["is_used"] else "-",
            uplink["mtu_bytes"],
            (uplink["note"] or _use(uplink)) + (f"; in {uplink['network']}" if uplink.get("network") else ""),
        )
        for uplink in uplinks
    ]
    headers = ("NAME", "TYPE", "ADDRESSES", "PRIO", "WEIGHT", "MTU", "NOTE")
    return table(headers, rows, right=("PRIO", "WEIGHT", "MTU"), folded="NOTE", width=width)


def _use(uplink: dict[str, Any]) -> str:
    if not uplink["is_used"]:
        return "not used"
    return "used, metered" if uplink.get("is_metered") else "used"


COMMAND = Command("uplinks", "list the uplinks, and why an interface is not used as one", run)

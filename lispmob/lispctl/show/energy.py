"""lispctl energy: the cost of control messages per hour, and how soon a dead path is noticed for it."""

from __future__ import annotations

from argparse import Namespace
from typing import Any, Final

from lispmob.api.client import Client
from lispmob.lispctl.command import Command, show
from lispmob.terminal.text import WIDTH, fold, table

SHORT_S: Final = 600.0  # ours: counts over less than this say little about an hour
_PURPOSES: Final = {
    "register": "registers and keepalives",
    "probe": "probes",
    "lookup": "lookups",
    "nat": "questions about NATs",
    "other": "other",
}


def run(client: Client, arguments: Namespace) -> int:
    """Print the counts."""
    return show(client.call("energy"), arguments, energy_lines)


def energy_lines(energy: dict[str, Any], width: int = WIDTH) -> list[str]:
    """The costs for people, per hour."""
    rows = [
        (
            cost["uplink"],
            _PURPOSES.get(cost["purpose"], cost["purpose"]),
            f"{cost['sent_per_hour']:.0f}",
            f"{cost['received_per_hour']:.0f}",
            f"{cost['octets_per_hour'] / 1000:.1f}",
            f"{cost['wake_ups_per_hour']:.0f}",
        )
        for cost in energy["costs"]
    ]
    headers = ("UPLINK", "FOR", "SENT/H", "RECEIVED/H", "KB/H", "WAKE-UPS/H")
    lines = table(headers, rows, right=headers[2:], folded="FOR", width=width) if rows else ["nothing was sent yet"]
    minutes = energy["counted_s"] / 60
    counted = f"counted for {minutes:.0f} minutes" if minutes >= 1 else f"counted for {energy['counted_s']:.0f} seconds"
    if energy["counted_s"] < SHORT_S:
        counted += ": a start sends more than the hours after it"
    lines += fold(counted, first="")
    return [*lines, *fold(_price(energy), first="")]


def _price(energy: dict[str, Any]) -> str:
    noticed = energy["unnoticed_up_to_s"]
    profile = f"profile {energy['profile']}"
    if noticed is None:
        return f"{profile}; probing is off: a path that dies is noticed by its user alone"
    return f"{profile}; a path that dies while nothing is sent over it is noticed within {noticed:.0f} seconds"


COMMAND = Command("energy", "show what registers, keepalives and probes cost per hour, by uplink", run)

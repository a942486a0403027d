"""lispctl netcheck: what is between each uplink and the Internet."""

from __future__ import annotations

from argparse import Namespace
from typing import Any

from lispmob.api.cli.command import Command, show
from lispmob.api.cli.text import table
from lispmob.api.client import Client


def run(client: Client, arguments: Namespace) -> int:
    """Print what was found out."""
    return show(client.call("netcheck"), arguments, netcheck_lines)


def netcheck_lines(uplinks: list[dict[str, Any]]) -> list[str]:
    """The findings for people."""
    if not uplinks:
        return ["no uplink has an address"]
    rows = [
        (
            one["uplink"],
            one["address"],
            _seen(one),
            _way(one),
            one["mapping"] or "-",
            one["filtering"] or "-",
            _lifetime(one),
            _seconds(one["keepalive_s"]),
            one["rtr"] or "-",
            "-" if one["rtr_rtt_ms"] is None else f"{one['rtr_rtt_ms']:.0f} ms",
            _checksum(one),
            one["dialect"] or "-",
        )
        for one in uplinks
    ]
    nat = ("SEEN AS", "WAY", "MAPPING", "FILTERING", "LIFETIME", "KEEPALIVE")
    columns = ("UPLINK", "ADDRESS", *nat, "RTR", "RTT", "UDP CHECKSUM", "")
    return table(columns, rows, right=("KEEPALIVE", "RTT"))


def _seen(one: dict[str, Any]) -> str:
    if one["seen_address"] is None:
        return "-"
    return f"{one['seen_address']} port {one['seen_port']}"


def _way(one: dict[str, Any]) -> str:
    if one["state"] == "stranded":
        return "NAT, and no RTR"
    if one["has_nat"] is None:
        return "not known"
    return "NAT" if one["has_nat"] else "firewall" if one["has_firewall"] else "open"


def _checksum(one: dict[str, Any]) -> str:
    passes = one["passes_zero_checksum"]
    return "-" if passes is None else "may be 0" if passes else "needed"


def _lifetime(one: dict[str, Any]) -> str:
    least, below = one["lifetime_at_least_s"], one["lifetime_below_s"]
    if least is None and below is None:
        return "-"
    return f"{_seconds(least or 0)} or more" if below is None else f"{_seconds(least or 0)} to {_seconds(below)}"


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.0f} s"


COMMAND = Command("netcheck", "show NATs and firewalls on the way of each uplink, and what is done about them", run)

"""lispctl netcheck: what lies between each uplink and the Internet."""

from __future__ import annotations

from argparse import Namespace
from typing import Any

from lispmob.api.client import Client
from lispmob.lispctl.command import Command, show
from lispmob.terminal.text import clean, fold, paint


def run(client: Client, arguments: Namespace) -> int:
    """Print the findings."""
    return show(client.call("netcheck"), arguments, netcheck_lines)


def netcheck_lines(uplinks: list[dict[str, Any]]) -> list[str]:
    """The findings for people."""
    if not uplinks:
        return ["no uplink has an address"]
    return [line for uplink in uplinks for line in _uplink(uplink)]


def _uplink(one: dict[str, Any]) -> list[str]:
    """One address as a report; unknown facts are left out."""
    known = [
        ("way", _way(one)),
        ("seen as", _seen(one)),
        ("mapping", clean(one["mapping"])),
        ("filtering", clean(one["filtering"])),
        ("NAT keeps", _lifetime(one)),
        ("kept by", "-" if one["keepalive_s"] is None else f"a packet each {_seconds(one['keepalive_s'])}"),
        ("RTR", _rtr(one)),
        ("checksum", _checksum(one)),
        ("dialect", clean(one["dialect"])),
    ]
    width = max(len(name) for name, _ in known)
    head = paint(f"{clean(one['uplink'])} {clean(one['address'])}", "bold")
    lines = [fold(text, first=f"  {name:<{width}}  ") for name, text in known if text != "-"]
    return [head, *(line for part in lines for line in part)]


def _rtr(one: dict[str, Any]) -> str:
    if one["rtr"] is None:
        return "-"
    rtt = "" if one["rtr_rtt_ms"] is None else f", {one['rtr_rtt_ms']:.0f} ms away"
    return f"{clean(one['rtr'])}{rtt}"


def _seen(one: dict[str, Any]) -> str:
    if one["seen_address"] is None:
        return "-"
    return f"{one['seen_address']} port {one['seen_port']}"


def _way(one: dict[str, Any]) -> str:
    if (prefix := one.get("nat64")) is not None:  # an older lispd does not report it
        return _translator(one, clean(prefix))
    if one["state"] == "stranded":
        return "NAT, and no RTR"
    if one["has_nat"] is None:
        return "not known"
    return "NAT" if one["has_nat"] else "firewall" if one["has_firewall"] else "open"


def _translator(one: dict[str, Any], prefix: str) -> str:
    """The NAT64 of an uplink that has only IPv6, while the Map-Server has only IPv4."""
    if one["state"] == "stranded":
        return f"NAT64 behind {prefix}, and no RTR"
    if one["seen_address"] is None:
        return f"IPv6 only; no Map-Server was heard behind {prefix} (NAT64)"
    return f"NAT64: to IPv4 behind {prefix}"


def _checksum(one: dict[str, Any]) -> str:
    passes = one["passes_zero_checksum"]
    if passes is None:
        return "-"
    return "packets without a UDP checksum get through" if passes else "packets without a UDP checksum get lost"


def _lifetime(one: dict[str, Any]) -> str:
    least, below = one["lifetime_at_least_s"], one["lifetime_below_s"]
    if least is None and below is None:
        return "-"
    return f"{_seconds(least or 0)} or more" if below is None else f"{_seconds(least or 0)} to {_seconds(below)}"


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.0f} s"


COMMAND = Command("netcheck", "show NATs and firewalls on the path of each uplink, and how lispd copes", run)

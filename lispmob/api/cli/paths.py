"""lispctl paths: every pair of a locator of ours and a remote one, as probes find it, and what it takes."""

from __future__ import annotations

from argparse import Namespace
from typing import Any

from lispmob.api.cli.command import Command, show
from lispmob.api.cli.text import clean, duration, milliseconds, paint, table
from lispmob.api.client import Client

_COLOURS = {"up": "good", "down": "bad"}


def run(client: Client, arguments: Namespace) -> int:
    """Print the paths."""
    return show(client.call("paths"), arguments, path_lines)


def path_lines(paths: list[dict[str, Any]]) -> list[str]:
    """The paths for people."""
    if not paths:
        return ["no locator of others is in use, or probing is off"]
    has_mtu = any(path.get("mtu_bytes") is not None for path in paths)
    rows = [
        (
            f"{path['interface']} {path['local']}",
            path["remote"],
            path["state"],
            milliseconds(path["rtt_ms"]),
            milliseconds(path["jitter_ms"]),
            "-" if path["loss"] is None else f"{path['loss'] * 100:.1f}%",
            path["probes"],
            *((_mtu(path),) if has_mtu else ()),
            duration(path["heard_s"]),
            "yes" if path.get("is_preferred", True) else "waits",
            path.get("cost", 0),
            f"{clean(path['why'])}, {duration(path['since_s'])} ago",
        )
        for path in paths
    ]
    figures = ("RTT", "JITTER", "LOSS", "PROBES", *(("MTU",) if has_mtu else ()), "HEARD")
    headers = ("LOCAL", "REMOTE", "STATE", *figures, "USED", "COST", "WHY")
    lines = table(headers, rows, right=(*figures, "COST"))
    return [lines[0], *(_coloured(line, path["state"]) for line, path in zip(lines[1:], paths, strict=True))]


def _mtu(path: dict[str, Any]) -> str:
    """Octets of an outer packet, and who says so."""
    if (octets := path.get("mtu_bytes")) is None:
        return "-"
    return f"{octets} ({path.get('mtu_source', 'default')})"


def _coloured(line: str, state: str) -> str:
    return paint(line, _COLOURS[state]) if state in _COLOURS else line


COMMAND = Command("paths", "round trip, loss, jitter and MTU of every local x remote pair of locators", run)

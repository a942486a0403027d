"""lispctl paths: every pair of a local and a remote locator, with the state, delay and MTU found by probes."""

from __future__ import annotations

from argparse import Namespace
from typing import Any

from lispmob.api.client import Client
from lispmob.lispctl.command import Command, show
from lispmob.terminal.text import clean, duration, fold, milliseconds, paint, plural

_COLOURS = {"up": "good", "down": "bad"}


def run(client: Client, arguments: Namespace) -> int:
    """Print the paths."""
    return show(client.call("paths"), arguments, path_lines)


def path_lines(paths: list[dict[str, Any]]) -> list[str]:
    """The paths for people."""
    if not paths:
        return ["no locator of others is in use, or probing is off"]
    return [line for path in paths for line in _path(path)]


def _path(path: dict[str, Any]) -> list[str]:
    """The ends of a path, and below them its facts."""
    local = f"{clean(path['interface'])} {clean(path['local'])} ->"
    state = clean(path["state"])
    known = [f"{state}: {clean(path['why'])}, {duration(path['since_s'])} ago"]
    if path["rtt_ms"] is not None:
        known.append(f"round trip {milliseconds(path['rtt_ms'])}, jitter {milliseconds(path['jitter_ms'])}")
    if path["loss"] is not None:
        known.append(f"{path['loss'] * 100:.1f}% of {plural(path['probes'], 'probe')} lost")
    if path["heard_s"] is not None:
        known.append(f"data heard {duration(path['heard_s'])} ago")
    if path.get("mtu_bytes") is not None:
        known.append(f"MTU {_mtu(path)}")
    if path.get("seal", "not known") != "not known":
        known.append(clean(path["seal"]))
    if path.get("cost", 0):
        known.append(f"cost {path['cost']}")
    if not path.get("is_preferred", True):
        known.append("waits behind a better uplink")
    lines = fold("; ".join(known), first="  ")
    return [*fold(f"{local} {clean(path['remote'])}", rest="  "), *(_coloured(line, state) for line in lines)]


def _mtu(path: dict[str, Any]) -> str:
    """The largest outer packet in octets, and the source of that number."""
    return f"{path['mtu_bytes']} ({clean(path.get('mtu_source', 'default'))})"


def _coloured(line: str, state: str) -> str:
    return paint(line, _COLOURS[state]) if state in _COLOURS else line


COMMAND = Command("paths", "round trip, loss, jitter and MTU of every local x remote pair of locators", run)

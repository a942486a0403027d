"""lispctl status: everything at a glance."""

from __future__ import annotations

from argparse import Namespace
from typing import Any

from lispmob.api.cli.command import Command, show
from lispmob.api.cli.text import clean, duration, milliseconds, moment, octets, paint, plural
from lispmob.api.cli.uplinks import uplink_lines
from lispmob.api.client import Client

_STATE_COLOURS = {"registered": "good", "offline": "bad", "failed": "bad"}


def run(client: Client, arguments: Namespace) -> int:
    """Print the status."""
    return show(client.call("status"), arguments, status_lines)


def status_lines(status: dict[str, Any]) -> list[str]:
    """The status for people."""
    state = paint(clean(status["state"]), _STATE_COLOURS.get(status["state"], "warn"))
    lines = [f"lispd {clean(status['version'])}: {state}, up {duration(status['uptime_s'])}", ""]
    for eid in status["eids"]:
        lines.append(f"{paint('EID', 'bold')} {clean(eid['prefix'])}")
        lines += [f"  {_registration(entry)}" for entry in eid["registrations"]] or ["  no Map-Server"]
    lines += ["", paint("Uplinks", "bold")]
    lines += [f"  {line}" for line in uplink_lines(status["uplinks"])]
    lines += ["", *_facts(status)]
    return lines


def _registration(entry: dict[str, Any]) -> str:
    state = paint(clean(entry["state"]), _STATE_COLOURS.get(entry["state"], "warn"))
    parts = [f"{state} at {clean(entry['map_server'])}"]
    if entry["since"] is not None:
        parts[0] += f" since {moment(entry['since'])}"
    if entry["last_notify"] is not None:
        parts.append(f"last Map-Notify {moment(entry['last_notify'])}")
    if entry["rtt_ms"] is not None:
        parts.append(f"answered in {milliseconds(entry['rtt_ms'])}")
    if entry["next_in_s"] is not None:
        parts.append(f"next in {duration(entry['next_in_s'])}")
    if entry["problem"] is not None:
        parts.append(paint(clean(entry["problem"]), "bad"))
    return ", ".join(parts)


def _facts(status: dict[str, Any]) -> list[str]:
    routing, path, last = status["routing"], status["datapath"], status["last_handover"]
    locators = ", ".join(_locator(entry) for entry in status["locators"])
    facts = [
        ("Locators", f"{locators or 'none'}; version {status['locator_set_version']}"),
        ("Routing", _routing(routing)),
        ("Datapath", f"{clean(path['tier'])}: {clean(path['why'])}"),
        ("Marks", _marks(path)),
        ("Sent", f"{plural(path['packets_out'], 'packet')}, {octets(path['octets_out'])}"),
        ("Received", f"{plural(path['packets_in'], 'packet')}, {octets(path['octets_in'])}"),
        ("Dropped", f"{plural(path['drops'], 'packet')}" + ("; see lispctl counters" if path["drops"] else "")),
        ("Map-cache", f"{status['map_cache_size']} of at most {plural(status['map_cache_limit'], 'entry', 'entries')}"),
        ("Last move", _last_move(last)),
    ]
    return [f"{paint(f'{name:<9}', 'bold')}  {text}" for name, text in facts]


def _locator(locator: dict[str, Any]) -> str:
    relay = f", through RTR {clean(locator['rtr'])}" if locator.get("rtr") is not None else ""
    return f"{clean(locator['address'])} ({clean(locator['interface'])}{relay})"


def _marks(path: dict[str, Any]) -> str:
    """Of an older lispd nothing is known."""
    if path.get("marks") == "program":
        return "steering program"
    what = "a device per uplink" if path.get("marks") == "devices" else "without effect"
    return f"{what} ({clean(path.get('marks_why') or 'the reason is not known')})"


def _routing(routing: dict[str, Any]) -> str:
    overlay = ", ".join(clean(prefix) for prefix in routing["overlay_prefixes"])
    what = "everything" if routing["mode"] == "full" else overlay or "nothing but EIDs"
    return (
        f"{clean(routing['mode'])}: {what} through {clean(routing['tun'])} (MTU {routing['mtu_bytes']}), "
        f"without a mapping: {clean(routing['fallback'])}"
    )


def _last_move(move: dict[str, Any] | None) -> str:
    if move is None:
        return "none"
    reasons = "; ".join(clean(reason) for reason in move["reasons"])
    return (
        f"{moment(move['started_at'], with_date=True)}, {reasons}\n{'':11}"
        f"gap out {milliseconds(move['gap_out_ms'])}, in {milliseconds(move['gap_in_ms'])}"
    )


COMMAND = Command("status", "show registration, uplinks, routing and traffic at a glance", run)

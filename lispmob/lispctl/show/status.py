"""lispctl status: an overview of the node."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from typing import Any

from lispmob.api.client import Client
from lispmob.lispctl.command import Command, interval_s, show
from lispmob.lispctl.show.uplinks import uplink_lines
from lispmob.terminal.text import WIDTH, clean, duration, facts, fold, milliseconds, moment, octets, paint, plural

_STATE_COLOURS = {"registered": "good", "offline": "bad", "failed": "bad", "idle": "dim"}
_VERDICT_COLOURS = {"working": "good", "degraded": "warn", "not-working": "bad"}
_SEVERITY_COLOURS = {"notice": "dim", "degraded": "warn", "broken": "bad"}

_WITHOUT_LISP = {
    "native": "what has no mapping leaves without LISP",
    "proxy": "what has no mapping goes to the proxies",
    "drop": "what has no mapping is dropped",
}

EXIT_CODES = {"working": 0, "degraded": 4, "not-working": 5}  # as in problems/problem.py; a test keeps the two equal


WATCH_S = 2.0
_CLEAR = "\x1b[H\x1b[2J"


def add_arguments(parser: ArgumentParser) -> None:
    """Options of this command."""
    parser.add_argument(
        "--watch",
        nargs="?",
        type=interval_s,
        const=WATCH_S,
        metavar="S",
        help="show it again every S seconds (default: 2) until Ctrl-C; with --json each is a line",
    )


def run(client: Client, arguments: Namespace) -> int:
    """Print the status. The exit code is the verdict, except with --json, where programs read it from the output."""
    if arguments.watch is not None:
        _watch(client, arguments)
    status = client.call("status")
    show(status, arguments, status_lines)
    return 0 if arguments.json else EXIT_CODES.get(status.get("verdict", "working"), 0)


def _watch(client: Client, arguments: Namespace) -> None:
    """Print changes until interrupted or lispd ends, which the client reports."""
    import json
    import sys
    import time

    while True:
        status = client.call("status")
        if arguments.json:
            print(json.dumps(status), flush=True)
        else:
            clear = _CLEAR if sys.stdout.isatty() else ""
            print(clear + "\n".join(status_lines(status)), flush=True)
        time.sleep(arguments.watch)


def status_lines(status: dict[str, Any]) -> list[str]:
    """The status for people: the verdict, the problems, and then the facts."""
    verdict = status.get("verdict", "working")  # an older lispd has none
    state = paint(clean(status["state"]), _STATE_COLOURS.get(status["state"], "warn"))
    lines = [
        *(paint(line, _VERDICT_COLOURS.get(verdict, "warn")) for line in fold(clean(status.get("headline", verdict)))),
        f"lispd {clean(status['version'])}: {state}, up {duration(status['uptime_s'])}",
        "",
    ]
    if problems := status.get("problems"):
        lines += [paint("Problems", "bold"), *problems_lines(problems), ""]
    has_ipv6 = any(":" in locator["address"] for locator in status["locators"])
    for eid in status["eids"]:
        lines.append(f"{paint('EID', 'bold')} {clean(eid['prefix'])}")
        told = [_registration(entry, is_told_above=bool(problems), has_ipv6=has_ipv6) for entry in eid["registrations"]]
        lines += [line for block in told for line in block] or ["  no Map-Server"]
    lines += ["", paint("Uplinks", "bold")]
    lines += [f"  {line}" for line in uplink_lines(status["uplinks"], WIDTH - 2)]
    lines += ["", *facts(_facts(status))]
    return lines


def problems_lines(problems: list[dict[str, Any]]) -> list[str]:
    """What is wrong, why, and how to mend it: cause and remedy once for those that share them."""
    alike: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for problem in problems:
        alike.setdefault((problem["severity"], problem["cause"], problem["remedy"]), []).append(problem)
    return [line for group in alike.values() for line in _group_lines(group)]


def _group_lines(group: list[dict[str, Any]]) -> list[str]:
    lines = [line for problem in group for line in _what_lines(problem)]
    if group[0]["cause"]:
        lines += fold(clean(group[0]["cause"]), first="    why: ")
    if group[0]["remedy"]:
        lines += fold(clean(group[0]["remedy"]), first="    do:  ")
    return lines


def _what_lines(problem: dict[str, Any]) -> list[str]:
    """A notice is printed less loudly."""
    mark = "!" if problem["severity"] != "notice" else "-"
    what, *more = fold(f"{clean(problem['what'])} (for {duration(problem['since_s'])})", first=f"  {mark} ")
    colour = _SEVERITY_COLOURS.get(problem["severity"], "warn")
    return [paint(what, colour), *(paint(line, colour) for line in more)]


def _registration(entry: dict[str, Any], *, is_told_above: bool, has_ipv6: bool) -> list[str]:
    """The registration, and the latest answer to it; the reason of a failure, unless it is among the problems."""
    state = clean(entry["state"])
    head = f"{state} at {clean(entry['map_server'])}"
    if state == "idle" and entry["map_server"].count(":") > 1 and not has_ipv6:
        head += ": no uplink has IPv6"
    if entry["since"] is not None:
        head += f" since {moment(entry['since'])}"
    parts = []
    if entry["last_notify"] is not None:
        parts.append(f"last Map-Notify {moment(entry['last_notify'])}")
    if entry["rtt_ms"] is not None:
        parts.append(f"answered in {milliseconds(entry['rtt_ms'])}")
    if entry["next_in_s"] is not None:
        parts.append(f"next in {duration(entry['next_in_s'])}")
    if entry["problem"] is not None and not is_told_above:
        parts.append(clean(entry["problem"]))
    lines = [f"  {paint(state, _STATE_COLOURS.get(state, 'warn'))}{head[len(state) :]}"]
    return lines + (fold(", ".join(parts), first="    ") if parts else [])


def _facts(status: dict[str, Any]) -> list[tuple[str, str]]:
    routing, path, last = status["routing"], status["datapath"], status["last_handover"]
    locators = ", ".join(_locator(entry) for entry in status["locators"])
    return [
        ("Locators", f"{locators or 'none'}; version {status['locator_set_version']}"),
        ("Routing", _routing(routing)),
        ("Datapath", f"{clean(path['tier'])}: {clean(path['why'])}"),
        ("Marks", _marks(path)),
        *((("Sealed", clean(status["sealed"])),) if status.get("sealed", "not known") != "not known" else ()),
        ("Sent", f"{plural(path['packets_out'], 'packet')}, {octets(path['octets_out'])}"),
        ("Received", f"{plural(path['packets_in'], 'packet')}, {octets(path['octets_in'])}"),
        ("Dropped", f"{plural(path['drops'], 'packet')}" + ("; see lispctl counters" if path["drops"] else "")),
        ("Map-cache", f"{status['map_cache_size']} of at most {plural(status['map_cache_limit'], 'entry', 'entries')}"),
        ("Last move", _last_move(last)),
    ]


def _locator(locator: dict[str, Any]) -> str:
    relay = f", through RTR {clean(locator['rtr'])}" if locator.get("rtr") is not None else ""
    if locator.get("nat64") is not None:
        relay = f", behind NAT64{relay}"
    return f"{clean(locator['address'])} ({clean(locator['interface'])}{relay})"


def _marks(path: dict[str, Any]) -> str:
    """The marks of a path; an older lispd gives none."""
    if path.get("marks") == "program":
        return "steering program"
    what = "a device per uplink" if path.get("marks") == "devices" else "without effect"
    return f"{what} ({clean(path.get('marks_why') or 'the reason is not known')})"


def _routing(routing: dict[str, Any]) -> str:
    overlay = ", ".join(clean(prefix) for prefix in routing["overlay_prefixes"])
    what = "everything" if routing["mode"] == "full" else overlay or "nothing but EIDs"
    without = _WITHOUT_LISP.get(routing["fallback"], clean(routing["fallback"]))
    if routing["fallback"] == "auto":
        without = "what has no mapping is refused at once"
        if routing["mode"] == "full":
            without += " inside of overlay-prefixes, and leaves without LISP elsewhere"
    return f"{clean(routing['mode'])}: {what} through {clean(routing['tun'])} (MTU {routing['mtu_bytes']}), {without}"


def _last_move(move: dict[str, Any] | None) -> str:
    if move is None:
        return "none"
    reasons = "; ".join(clean(reason) for reason in move["reasons"])
    return (
        f"{moment(move['started_at'], with_date=True)}, {reasons}\n"
        f"gap out {milliseconds(move['gap_out_ms'])}, in {milliseconds(move['gap_in_ms'])}"
    )


COMMAND = Command("status", "show registration, uplinks, routing and traffic at a glance", run, add_arguments)

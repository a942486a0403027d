"""What the subcommands of lisphub print for people: at most 80 columns wide, from the answers of `operator.py`."""

from __future__ import annotations

import time
from typing import Any, Final

from lispmob.terminal.text import clean, duration, facts, fold, paint, plural, table

Json = dict[str, Any]

SUBSCRIBED_SHOWN: Final = 8  # ours: of the EID-Prefixes that a node subscribed to
_STATE_COLOURS: Final = {"joined": "good", "configured": "good", "invited": "warn", "expired": "bad"}
_EVENT_COLOURS: Final = {"duplicate": "bad", "auth-failed": "bad", "refused": "bad", "revoked": "warn"}


def when(seconds: float | None, now: float | None = None) -> str:
    """A time in the reader's own time zone: "12:03:11" today, "2026-11-28 12:03" else; "-" for None."""
    if seconds is None:
        return "-"
    local, today = time.localtime(seconds), time.localtime(time.time() if now is None else now)
    return time.strftime("%H:%M:%S" if local[:3] == today[:3] else "%Y-%m-%d %H:%M", local)


def status_lines(status: Json) -> list[str]:
    """The hub at a glance: what is wrong comes first."""
    problems = status["problems"]
    head = (
        f"lisphub {clean(status['version'])}: {status['sites_registered']} of {plural(status['sites'], 'site')} "
        f"registered, up {duration(status['uptime_s'])}"
    )
    lines = [paint(head, "warn" if problems else "good"), ""]
    if problems:
        lines += [paint("Problems", "bold"), *(line for problem in problems for line in _problem(problem)), ""]
    return [*lines, *facts(_facts(status))]


def _problem(problem: Json) -> list[str]:
    subject = f"{clean(problem['subject'])}: " if problem["subject"] else ""
    times = f"{problem['count']} times, last" if problem["count"] > 1 else "once,"
    often = f" ({times} {when(problem['last'])})" if problem["since"] is not None else ""
    lines = [paint(line, "bad") for line in fold(f"{subject}{clean(problem['text'])}{often}", first="  ! ")]
    return [*lines, *(fold(clean(problem["remedy"]), first="    do:  ") if problem["remedy"] else [])]


def _facts(status: Json) -> list[tuple[str, str]]:
    roles = ["Map-Server", "Map-Resolver"]
    roles += ["RTR"] if status["is_rtr"] else []
    roles += ["proxy"] if status["is_proxy"] else []
    invited = [f"{count} {state}" for state, count in status["invitations"].items() if count]
    pools = [f"{clean(pool['prefix'])}, {_left(pool['left'])}" for pool in status["pools"]]
    moves = [
        f"{when(move['at'])} {clean(move.get('site'))}: {clean(move['eid'])} to "
        f"{clean(', '.join(move['rlocs']) or 'nowhere')}"
        for move in status["last_moves"]
    ]
    through = f", {status['behind_rtr']} of them through an RTR" if status["behind_rtr"] else ""
    reading = "" if status["is_complete"] else "; the state file is being read"
    return [
        ("Serves as", ", ".join(roles)),
        *([("Public key", clean(status["public_key"]))] if status.get("public_key") else []),
        ("Addresses", clean(", ".join(status["addresses"])) or "all of this machine"),
        ("Sites", f"{status['sites']}" + (f"; invitations: {', '.join(invited)}" if invited else "")),
        ("Registered", f"{plural(status['registered'], 'EID-Prefix', 'EID-Prefixes')}{through}{reading}"),
        ("Subscriptions", _subscriptions(status)),
        ("Pools", "\n".join(pools) or "none: no node can be invited"),
        ("Domain", clean(status["domain"]) if status["domain"] else "none"),
        ("Last moves", "\n".join(moves) or "none since the hub started"),
    ]


def _left(count: int) -> str:
    return f"{plural(count, 'EID')} left" if count else paint("used up: no further node can be invited", "warn")


def _subscriptions(status: Json) -> str:
    """The number of subscribers, and the last publication; empty for the answer of an older hub."""
    count, last = status.get("subscriptions", 0), status.get("published")
    said = f"; last published {when(last['at'])}: {clean(last['eid'])}" if last else ""
    return f"{plural(count, 'subscription')}{said}" if count or last else "none"


def site_lines(answer: Json) -> list[str]:
    """One site a row."""
    if not answer["sites"]:
        return ["no sites; make one with: lisphub invite NAME"]
    rows = []
    for site in answer["sites"]:
        registered = set(site["registered"])
        is_here = "yes" if registered else "no"
        if registered and not registered.issuperset(site["eids"]) and site["origin"] == "invited":
            is_here = "in part"
        is_waiting = site["state"] == "invited"
        state = f"invited until {when(site['expires_at'])}" if is_waiting else site["state"]
        since = site["joined_at"] or site["invited_at"]
        rows.append([site["name"], site["eids"], state, is_here, when(since)])
    lines = table(("NAME", "EIDS", "STATE", "REGISTERED", "SINCE"), rows)
    for name in answer["displaced"]:
        lines += fold(f"{clean(name)} was invited, and a site of hub.conf has its name or an EID of it", first="! ")
    return lines


def node_lines(answer: Json) -> list[str]:
    """One node a paragraph: its path, since when, its EIDs, and its locators."""
    if not answer["nodes"]:
        return ["no node is registered"]
    groups: dict[tuple[str, str | None, tuple[str, ...], str], list[Json]] = {}
    for node in answer["nodes"]:
        places = tuple(map(_place, node["rlocs"]))
        groups.setdefault((node["site"] or "-", node["xtr_id"], places, node["way"]), []).append(node)
    lines: list[str] = []
    for (name, _, places, way), nodes in sorted(groups.items(), key=lambda item: str(item[0][0])):
        moves = max(node["moves"] for node in nodes)
        told = [
            f"behind a NAT, through the RTR {', '.join(nodes[0]['rtrs'])}" if way == "rtr" else "open",
            f"since {when(min((node['since'] for node in nodes if node['since'] is not None), default=None))}",
            *(
                [f"{plural(moves, 'move')}, the last {when(max(node['moved_at'] or 0.0 for node in nodes))}"]
                if moves
                else []
            ),
            f"heard {duration(min(node['heard_s'] for node in nodes))} ago",
        ]
        subscribed = sorted({prefix for node in nodes for prefix in node.get("subscriptions", ())})
        lines += [paint(clean(name), "bold"), *fold(clean(", ".join(told)), first="  ")]
        lines += fold(clean(", ".join(node["eid"] for node in nodes)), first="  EIDs  ")
        lines += fold(clean(", ".join(places) or ("not told" if way == "rtr" else "nowhere")), first="  at    ")
        if subscribed:
            more = f" and {len(subscribed) - SUBSCRIBED_SHOWN} more" if len(subscribed) > SUBSCRIBED_SHOWN else ""
            lines += fold(f"changes of {clean(', '.join(subscribed[:SUBSCRIBED_SHOWN]))}{more}", first="  hears ")
    return lines


def _place(rloc: Json) -> str:
    return f"{rloc['address']}" + (f" ({rloc['priority']}/{rloc['weight']})" if not rloc["is_behind_nat"] else "")


def event_line(event: Json) -> str:
    """One event a line."""
    kind = event["type"]
    fields = {name: value for name, value in event.items() if name not in ("number", "at", "type")}
    told = (
        f"{name} {', '.join(value) if isinstance(value, list) else value}" for name, value in fields.items() if value
    )
    first, *more = fold(clean("; ".join(told)), first=f"{when(event['at'])}  {clean(kind):<12}  ")
    return "\n".join([paint(first, _EVENT_COLOURS[kind]) if kind in _EVENT_COLOURS else first, *more])


def counter_lines(answer: Json) -> list[str]:
    """One counter a line, without those at 0."""
    counters = answer["counters"]
    width = max(map(len, counters), default=0)
    return [f"{clean(name):<{width}}  {value}" for name, value in counters.items()] or ["every counter stands at 0"]


def invitation_lines(answer: Json) -> list[str]:
    """The invitation for the operator to pass on."""
    return [
        f"{paint(clean(answer['name']), 'bold')}: {', '.join(map(clean, answer['eids']))}",
        "",
        *fold(f"On that machine, once, until {when(answer['expires_at'])}:"),
        "",
        f"  sudo lispctl join {answer['line']}",
        "",
        *fold("The first machine that uses this line joins: hand it over in private."),
    ]

"""lispctl events: past events, and new ones as they happen."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from typing import Any

from lispmob.api.client import Client
from lispmob.lispctl.command import Command
from lispmob.terminal.text import clean, fold, moment, paint


def add_arguments(parser: ArgumentParser) -> None:
    """Options of this command."""
    parser.add_argument("-f", "--follow", action="store_true", help="continue with new events until interrupted")
    parser.add_argument(
        "--kinds",
        default="",
        metavar="KIND,...",
        help="only these kinds, such as moved,registered,miss,smr-received",
    )


def run(client: Client, arguments: Namespace) -> int:
    """Print events, one on each line in both forms."""
    kinds = tuple(kind for kind in arguments.kinds.split(",") if kind)
    if arguments.follow:
        events = client.follow(*kinds, recent=256)
    else:
        events = iter(client.call("events", kinds=kinds)["events"])
    for event in events:
        print(_as_json(event) if arguments.json else "\n".join(event_lines(event)), flush=arguments.follow)
    return 0


def event_lines(event: dict[str, Any]) -> list[str]:
    """One event for people: time, kind, key=value; folded on a terminal, and otherwise on one line, for grep."""
    tail = " ".join(f"{clean(key)}={_value(value)}" for key, value in event["fields"].items())
    at, kind = moment(event["at"], with_date=True), clean(event["kind"])
    text = f"{kind}  {tail}".rstrip()
    first, *more = fold(text, first=f"{at}  ", rest="    ") if sys.stdout.isatty() else [f"{at}  {text}"]
    head, found, rest = first.partition(kind)
    return [f"{head}{paint(found, 'bold')}{rest}", *more]


def _value(value: Any) -> str:
    if isinstance(value, list):
        return ",".join(clean(item) for item in value) or "-"
    text = clean(value)
    return f'"{text}"' if " " in text else text


def _as_json(event: dict[str, Any]) -> str:
    import json

    return json.dumps(event)


COMMAND = Command("events", "show what happened lately, or follow what happens", run, add_arguments)

"""lispctl replay: feeds a recording to a separate core; it needs no lispd, and sends nothing."""

from __future__ import annotations

import json
import time
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lispmob.api.client import Client
from lispmob.lispctl.command import Command
from lispmob.terminal.text import clean, paint, plural

if TYPE_CHECKING:
    from lispmob.recording.player import Step

DIFFERS = 7
LONGEST_PAUSE_S = 3600.0


def add_arguments(parser: ArgumentParser) -> None:
    """Options of this command."""
    parser.add_argument("file", type=Path, help="a file of `lispctl record`")
    parser.add_argument(
        "--speed",
        type=_speed,
        metavar="N",
        help="N times the original speed, such as 1 or 60 (default: without pauses)",
    )
    parser.add_argument("-a", "--all", action="store_true", help="show inputs without events, too")
    parser.epilog = "Exit code 7: the core does something else than in the recording, or raises an error."


def _speed(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0.001 <= value <= 1e6:
        raise ArgumentTypeError(f"{text!r} is not a speed from 0.001 to 1000000")
    return value


class Pace:
    """The speed of a replay: a multiple of the original's; None: without pauses."""

    def __init__(self, speed: float | None) -> None:
        self._speed = speed
        self._first: float | None = None

    def wait_s(self, at: float | None, gone_s: float) -> float:
        """How long to wait before an input recorded at `at`, when the replay has lasted for `gone_s`."""
        if self._speed is None or at is None:
            return 0.0
        self._first = at if self._first is None else self._first
        return min(max(0.0, (at - self._first) / self._speed - gone_s), LONGEST_PAUSE_S)


def run_alone(arguments: Namespace) -> int:
    """Feed the recording, and print what happens. Raises BadRecording."""
    from lispmob.recording.player import Player

    player = Player(arguments.file)
    count, first, began, pace = 0, None, time.monotonic(), Pace(arguments.speed)
    for step in player.steps():
        count += 1
        time.sleep(pace.wait_s(step.at, time.monotonic() - began))
        first = step.line if first is None and not step.is_same else first
        _show(step, arguments)
    told = {"inputs": count, "differs_at": first, "version": player.version, "counters": dict(player.node.counters)}
    print(json.dumps({"replayed": told}) if arguments.json else _summary(told))
    return 0 if first is None else DIFFERS


def _show(step: Step, arguments: Namespace) -> None:
    if arguments.json:
        events = [{"kind": happened.kind, "fields": dict(happened.fields)} for happened in step.events]
        error = None if step.error is None else repr(step.error)
        if events or arguments.all or not step.is_same:
            same = {"line": step.line, "at": step.at, "input": step.name, "is_same": step.is_same}
            print(json.dumps({**same, "events": events, "error": error}))
        return
    at = "" if step.at is None else f"{step.at:14.3f}"
    head = f"{at:>14}  {step.name}"
    if arguments.all or not step.is_same:
        mark = "" if step.is_same else paint("  differs from what it did then", "bad")
        print(f"{head}  {plural(len(step.effects), 'effect')}{mark}")
    for event in step.events:
        tail = " ".join(f"{clean(key)}={_word(value)}" for key, value in event.fields.items())
        print(f"{head}  {paint(clean(event.kind), 'bold')}  {tail}".rstrip())
    if step.error is not None:
        print(f"{head}  {paint(clean(repr(step.error)), 'bad')}")


def _word(value: Any) -> str:
    return ",".join(map(clean, value)) or "-" if isinstance(value, list | tuple) else clean(value)


def _summary(told: dict[str, Any]) -> str:
    said = f"{plural(told['inputs'], 'input')} of lispd {clean(told['version'])}"
    if told["differs_at"] is None:
        return f"{said}: the core did the same as then"
    return paint(f"{said}: from line {told['differs_at']} on the core does something else", "bad")


def run(_client: Client, arguments: Namespace) -> int:
    """The same, called with a connection that it does not use."""
    return run_alone(arguments)


COMMAND = Command(
    "replay", "replay a recording in a core of its own, and show what it does", run, add_arguments, alone=run_alone
)

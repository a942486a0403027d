"""lispctl wait: ends when the node is registered or works; for scripts, and for units that need it."""

from __future__ import annotations

import time
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from typing import Any

from lispmob.api.client import DEFAULT_SOCKET, Client
from lispmob.errors import LispError, NotRunning
from lispmob.lispctl.command import Command, show

LOOK_S = 0.2  # ours: between two queries; each costs lispd less than a millisecond


class TimeOver(LispError):
    """The state was not reached in time."""

    exit_code = 6


def add_arguments(parser: ArgumentParser) -> None:
    """Options of this command."""
    parser.add_argument(
        "state", choices=("registered", "working"), help="registered: with all Map-Servers; working: without a problem"
    )
    parser.add_argument(
        "--timeout", type=seconds, default=30.0, metavar="S", help="give up after this many seconds (default: 30)"
    )
    parser.epilog = "It waits for lispd to start, too. Exit code 6: timeout."


def seconds(text: str) -> float:
    """A number of seconds, with or without an "s" behind it."""
    try:
        value = float(text.removesuffix("s"))
    except ValueError:
        value = -1.0
    if not 0 <= value <= 86400:
        raise ArgumentTypeError(f"{text!r} is not a number of seconds, 0 to 86400")
    return value


def check(arguments: Namespace) -> None:
    """Wait until lispd listens. Raises NotRunning at the timeout."""
    arguments.until = time.monotonic() + arguments.timeout
    while True:
        try:
            Client(getattr(arguments, "socket", DEFAULT_SOCKET)).close()
            return
        except NotRunning:
            if time.monotonic() >= arguments.until:
                raise
        time.sleep(LOOK_S)


def run(client: Client, arguments: Namespace) -> int:
    """Wait for the state. Raises TimeOver."""
    while not _is(status := client.call("status"), arguments.state):
        if time.monotonic() >= arguments.until:
            raise TimeOver(f"not {arguments.state} after {arguments.timeout:g} s: {_how(status)}")
        time.sleep(max(0.0, min(LOOK_S, arguments.until - time.monotonic())))
    told = {name: status.get(name) for name in ("state", "verdict", "headline")}
    return show(told, arguments, lambda one: [f"{arguments.state}: {_how(one)}" if _how(one) else arguments.state])


def _is(status: dict[str, Any], wanted: str) -> bool:
    if wanted == "registered":
        return bool(status["state"] == "registered")
    return status["state"] == "registered" and status.get("verdict") == "working"


def _how(status: dict[str, Any]) -> str:
    return f"{status['state']}, {status.get('headline', '')}".rstrip(", ")


COMMAND = Command("wait", "wait until the node is registered, or works", run, add_arguments, check)

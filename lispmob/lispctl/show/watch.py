"""lispctl watch: the node on a full screen, twice a second: uplinks, paths, peers, rates, and the last moves."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from lispmob.api.client import Client
from lispmob.lispctl.command import Command, interval_s

INTERVAL_S = 0.5


def add_arguments(parser: ArgumentParser) -> None:
    """Options of this command."""
    parser.add_argument(
        "--interval", type=interval_s, default=INTERVAL_S, metavar="S", help="seconds between frames (default: 0.5)"
    )
    parser.add_argument("--count", type=int, default=0, metavar="N", help="end after N frames (default: never)")
    parser.epilog = (
        "Ctrl-C ends it. With --json each frame is a line; with rich (the extra `demo`) the screen is rich's."
    )


def run(client: Client, arguments: Namespace) -> int:
    """Show frame after frame."""
    from lispmob.lispctl.watching import watch

    return watch(client, arguments)


COMMAND = Command("watch", "show the node on a full screen, twice a second", run, add_arguments)

"""lispctl: look into a running lispd, and steer it.

Exit codes: 0 done, 1 the daemon said no, 2 wrong usage, 3 lispd is not running, 130 interrupted.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from typing import Final

from lispmob.api.cli import (
    counters,
    database,
    events,
    handovers,
    lookup,
    map_cache,
    netcheck,
    nudge,
    paths,
    rehearse,
    reload,
    run,
    status,
    uplinks,
    version,
    why,
)
from lispmob.api.cli.command import Command, common_options
from lispmob.api.client import DEFAULT_SOCKET, Client
from lispmob.errors import LispError, NotRunning

COMMANDS: Final[tuple[Command, ...]] = (
    status.COMMAND,
    uplinks.COMMAND,
    paths.COMMAND,
    why.COMMAND,
    rehearse.COMMAND,
    run.COMMAND,
    netcheck.COMMAND,
    handovers.COMMAND,
    map_cache.COMMAND,
    database.COMMAND,
    lookup.COMMAND,
    events.COMMAND,
    counters.COMMAND,
    nudge.COMMAND,
    reload.COMMAND,
    version.COMMAND,
)


def build_parser() -> argparse.ArgumentParser:
    """The parser; completion files and man pages are made from it too."""
    common = common_options()
    parser = argparse.ArgumentParser(
        prog="lispctl", description="Look into a running lispd, and steer it.", parents=[common]
    )
    commands = parser.add_subparsers(metavar="COMMAND", required=True, dest="command")
    for command in COMMANDS:
        sub = commands.add_parser(command.name, help=command.summary, description=command.summary, parents=[common])
        command.add_arguments(sub)
        sub.set_defaults(run=command.run)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    try:
        arguments = build_parser().parse_args(argv)
    except SystemExit as done:  # argparse printed its help or its complaint
        return done.code if isinstance(done.code, int) else 2
    arguments.json = getattr(arguments, "json", False)
    try:
        with Client(getattr(arguments, "socket", DEFAULT_SOCKET)) as client:
            code: int = arguments.run(client, arguments)
        sys.stdout.flush()
    except NotRunning as error:
        return _complain(error, 3)
    except LispError as error:
        return _complain(error, 1)
    except BrokenPipeError:  # `lispctl map-cache | head`: the reader has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or the exit would flush into the pipe again
        return 0
    except KeyboardInterrupt:
        return 130
    return code


def _complain(error: LispError, code: int) -> int:
    print(f"lispctl: {error}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())

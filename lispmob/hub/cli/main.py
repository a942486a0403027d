"""The command lisphub: the hub itself without a subcommand, and otherwise a question to the one that runs."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from lispmob.hub.cli import commands
from lispmob.hub.cli.parser import build_parser


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit code."""
    arguments = build_parser().parse_args(argv)
    if arguments.command is not None:
        return commands.run(arguments)
    from lispmob.hub import daemon as service  # late: a question does without all of it

    return service.main(argv)


if __name__ == "__main__":
    sys.exit(main())

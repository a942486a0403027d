"""The command lisphub: the hub itself without a subcommand, otherwise a request to the running one."""

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
    from lispmob.hub import daemon as service  # late: a request needs none of it

    return service.main(argv)


if __name__ == "__main__":
    sys.exit(main())

"""lispctl metrics: figures for Prometheus."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from lispmob.api.client import DEFAULT_SOCKET, Client
from lispmob.errors import LispError
from lispmob.lispctl.command import Command, show


def add_arguments(parser: ArgumentParser) -> None:
    """Options of this command."""
    parser.add_argument(
        "--listen", metavar="[ADDRESS:]PORT", help="serve them over HTTP until interrupted (address: 127.0.0.1)"
    )


def run(client: Client, arguments: Namespace) -> int:
    """Print the figures, or serve them; each scrape opens a new connection, since lispd may restart."""
    from lispmob.metrics import node
    from lispmob.metrics.family import Family

    if arguments.json and arguments.listen is not None:
        raise LispError("--json prints the figures once; to serve them leave it out")
    if arguments.listen is None:
        answers = {what: client.call(what) for what in ("status", "counters")}
        if arguments.json:
            return show([family.as_json() for family in node.families(answers)], arguments, list)
    from lispmob.metrics import serving  # late: an optional package, and 100 ms

    if arguments.listen is None:
        return serving.run(None, lambda: node.families(answers), up="lispd_up")
    path = getattr(arguments, "socket", DEFAULT_SOCKET)

    def read() -> list[Family]:
        with Client(path) as one:
            return node.families({what: one.call(what) for what in ("status", "counters")})

    client.close()
    return serving.run(arguments.listen, read, up="lispd_up")


COMMAND = Command("metrics", "print the figures for Prometheus, or serve them", run, add_arguments)

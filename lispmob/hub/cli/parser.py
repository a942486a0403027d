"""The command line of lisphub; completions and manual pages are made from it too."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Final

from lispmob.hub.places import DEFAULT_PATH
from lispmob.options import HelpfulParser, ShowVersion

COMMANDS: Final = {
    "setup": "write hub.conf for a new hub, and start it",
    "invite": "make an invitation: one line that lets one machine join",
    "renumber": "give a site new EIDs from the current pools",
    "revoke": "revoke an invited site, or an invitation that is not used yet",
    "status": "show the state of the hub: services, problems, latest moves",
    "sites": "list the sites, and which of them are registered",
    "nodes": "list the nodes: where each is, since when, and how it is reached",
    "events": "show what happened",
    "counters": "show the counters, with refused messages by reason",
    "web": "serve a live web page of the nodes",
    "metrics": "print the figures for Prometheus, or serve them",
    "words": "print the names of invited sites, for shell completion",
}

_SYNONYMS: Final = {"state": "status", "add": "invite", "remove": "revoke", "delete": "revoke", "peers": "nodes"}


def build_parser() -> HelpfulParser:
    """Without a subcommand lisphub runs the hub itself."""
    parser = HelpfulParser(
        prog="lisphub", description="Map-Server, Map-Resolver and proxy for mobile nodes (RFC 9301)."
    )
    parser.add_argument("-c", "--config", type=Path, default=DEFAULT_PATH, help="configuration (default: %(default)s)")
    parser.add_argument("--version", action=ShowVersion)
    parser.add_argument("--check", action="store_true", help="check the configuration and exit")
    parser.add_argument("--show", action="store_true", help="show the registrations and exit")
    parser.add_argument("--reload", action="store_true", help="make the running hub read its configuration, and exit")
    parser.add_argument("--worker", help=argparse.SUPPRESS)  # a process that the hub starts itself
    parser.synonyms = _SYNONYMS
    commands = parser.add_subparsers(metavar="COMMAND", dest="command")
    common = _common_options()
    made = {
        name: commands.add_parser(
            name,
            help=summary,
            description=summary[0].upper() + summary[1:] + ".",
            parents=[] if name == "setup" else common,  # it asks no hub
        )
        for name, summary in COMMANDS.items()
    }
    _add_setup(made["setup"])
    made["invite"].add_argument("name", metavar="NAME", help="of the machine: letters, digits and hyphens")
    made["invite"].add_argument(
        "--again", action="store_true", help="make a new invitation for an existing site, and replace its machine"
    )
    made["invite"].add_argument(
        "--valid", metavar="TIME", help="how long it is valid, such as 30m, 12h or 7d (default: as hub.conf says, 24h)"
    )
    made["invite"].add_argument("--no-qr", action="store_true", help="print no QR code")
    for command in ("renumber", "revoke"):
        made[command].add_argument("name", metavar="NAME", help="of the site")
    made["events"].add_argument("-n", "--count", type=_count, default=50, metavar="N", help="the last N (default: 50)")
    made["events"].add_argument("-f", "--follow", action="store_true", help="continue with new events")
    made["counters"].add_argument("-a", "--all", action="store_true", help=argparse.SUPPRESS)
    made["metrics"].add_argument(
        "--listen", metavar="[ADDRESS:]PORT", help="serve them over HTTP until interrupted (address: 127.0.0.1)"
    )
    made["web"].add_argument(
        "--listen",
        default="8342",
        metavar="[ADDRESS:]PORT",
        help="where to listen (default: port 8342, for this machine only)",
    )
    made["web"].add_argument(
        "--name", action="append", default=[], metavar="HOST[:PORT]", help="another name of this server; repeatable"
    )
    made["web"].add_argument(
        "--token-file",
        type=Path,
        metavar="FILE",
        help="file with a permanent token (default: a new token at each start)",
    )
    asked = commands.add_parser("help", help="show this, or the help of a command")
    asked.add_argument("about", nargs="?", metavar="COMMAND", choices=list(COMMANDS))
    return parser


def _common_options() -> list[HelpfulParser]:
    common = HelpfulParser(add_help=False, argument_default=argparse.SUPPRESS)
    common.add_argument("-c", "--config", type=Path, help="configuration, which names the socket")
    common.add_argument("--socket", type=Path, metavar="PATH", help="the hub's socket (default: as hub.conf says)")
    common.add_argument("--json", action="store_true", help="print JSON, for programs")
    return [common]


def _add_setup(setup: argparse.ArgumentParser) -> None:
    setup.add_argument(
        "-c", "--config", type=Path, default=argparse.SUPPRESS, help=f"the file to write (default: {DEFAULT_PATH})"
    )
    setup.add_argument(
        "--address", action="append", metavar="ADDRESS", help="address at which nodes reach this hub; repeatable"
    )
    setup.add_argument(
        "--pool", action="append", metavar="PREFIX", help="prefix that EIDs are taken from; one for each family"
    )
    setup.add_argument("--domain", metavar="DOMAIN", help="domain for the names of the machines, such as home.example")
    setup.add_argument("--no-rtr", action="store_true", help="serve no nodes behind NATs")
    setup.add_argument("--no-service", action="store_true", help="write the file, but start nothing")
    setup.add_argument("--force", action="store_true", help="replace an existing hub.conf; the old one is kept")
    setup.add_argument("-y", "--yes", action="store_true", help="ask nothing; choose what is not given")


def _count(text: str) -> int:
    if not text.isdigit() or not 1 <= int(text) <= 1000:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 to 1000")
    return int(text)

"""lispctl: inspect and control a running lispd.

Exit codes: 0 success, 1 the daemon refused, 2 wrong usage, 3 lispd is not running, 130 interrupted. `status` without
--json ends with 4 when lispd works in part, and with 5 when it does not work; `wait` ends with 6 at its timeout,
`replay` with 7 when the core acts differently from the recording, and `believed` with 8 when another system has a wrong
mapping. `run` is replaced by its command; 126: the command cannot be executed, 127: it does not exist. `config` and
`join` need no lispd. `config` ends with 4 when a conversion leaves work to the user, and with 78 when a file has
mistakes; the help of `join` lists its codes.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from contextlib import closing
from importlib import import_module
from typing import Final

from lispmob.api.client import DEFAULT_SOCKET, Client
from lispmob.errors import LispError, NotRunning
from lispmob.lispctl.command import Command, common_options
from lispmob.lispctl.commands import PLACES
from lispmob.options import HelpfulParser, ShowVersion

LINKED: Final = ("map", "mapstat")
_SYNONYMS: Final = {"state": "status", "show": "status", "cache": "map-cache", "routes": "map-cache", "log": "events"}


def build_parser(only: str | None = None) -> argparse.ArgumentParser:
    """The parser; completion files and man pages are made from it too. `only`: include just this command."""
    common = common_options()
    parser = HelpfulParser(prog="lispctl", description="Show and control a running lispd.", parents=[common])
    parser.add_argument("--version", action=ShowVersion)
    parser.synonyms = _SYNONYMS
    commands = parser.add_subparsers(metavar="COMMAND", required=True, dest="command")
    for name in PLACES if only is None else (only,):
        command = load(name)
        sub = commands.add_parser(
            command.name,
            help=command.summary,
            description=f"{command.summary[0].upper()}{command.summary[1:]}.",
            parents=[common],
        )
        command.add_arguments(sub)
        sub.set_defaults(run=command.run, check=command.check, alone=command.alone)
    asked = commands.add_parser("help", help="show this, or the help of a command")
    asked.add_argument("about", nargs="*", metavar="COMMAND", help="a command, and an action of it")
    return parser


def load(name: str) -> Command:
    """The command of this name. Raises KeyError."""
    file, attribute = PLACES[name]
    command: Command = getattr(import_module(f"lispmob.lispctl.{file}"), attribute)
    return command


def command_in(line: Sequence[str]) -> str | None:
    """The command on a line, as far as it is plain: the first word that is not a common option."""
    words = iter(line)
    for word in words:
        if word == "--socket":
            next(words, None)
        elif word != "--json" and not word.startswith("--socket="):
            return word if word in PLACES else None
    return None


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    try:
        line = _by_name(sys.argv) if argv is None else argv
        parser = build_parser(command_in(line))
        arguments = parser.parse_args(line)
        if arguments.command == "help":
            parser.parse_args([*arguments.about, "--help"])
    except SystemExit as done:  # argparse printed its help or an error
        return done.code if isinstance(done.code, int) else 2
    arguments.json = getattr(arguments, "json", False)
    try:
        arguments.check(arguments)
        if arguments.alone is not None:
            alone: int = arguments.alone(arguments)
            sys.stdout.flush()
            return alone
        with closing(Client(getattr(arguments, "socket", DEFAULT_SOCKET))) as client:
            code: int = arguments.run(client, arguments)
        sys.stdout.flush()
    except NotRunning as error:
        return _complain(f"{error}{why_not_started(arguments)}", 3)
    except LispError as error:
        return _complain(str(error), getattr(error, "exit_code", 1))
    except BrokenPipeError:  # `lispctl map-cache | head`: the reader has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or the exit would flush into the pipe again
        return 0
    except KeyboardInterrupt:
        return 130
    return code


def _by_name(line: Sequence[str]) -> list[str]:
    """The words of the line; a link to lispctl named as an OpenLISP command runs that command."""
    name = os.path.basename(line[0])
    return [name, *line[1:]] if name in LINKED else list(line[1:])


def why_not_started(arguments: argparse.Namespace, configuration: str = "/etc/lispmob/lispd.conf") -> str:
    """What would stop `systemctl start lispd`, as far as this user can see it."""
    if getattr(arguments, "socket", DEFAULT_SOCKET) != DEFAULT_SOCKET:
        return ""
    try:
        with open(configuration, encoding="utf-8", errors="replace") as lines:
            is_example = any(line.split("#")[0].split()[-2:] == ["key:", "CHANGE-ME"] for line in lines)
    except FileNotFoundError:
        return f"\nfirst write {configuration}: your EID, your Map-Server and its key"
    except OSError:
        return "\nif it does not start, its journal says why: sudo journalctl -u lispd"
    if is_example:
        return f"\nbut first put your Map-Server and its key into {configuration}: the key is still CHANGE-ME"
    return "\nif it does not start, its journal says why: journalctl -u lispd"


def _complain(text: str, code: int) -> int:
    from lispmob.terminal.text import complain

    complain("lispctl", text)
    return code


if __name__ == "__main__":
    sys.exit(main())

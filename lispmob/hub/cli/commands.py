"""Runs a subcommand of lisphub.

Exit codes: 0 done, 1 the hub said no, 2 wrong usage, 3 lisphub is not running, 4 status: something is wrong, 77 not
permitted, 78 the configuration has errors, 130 interrupted.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from lispmob.errors import ConfigError, LispError, NotRunning
from lispmob.hub.asking import VALID_S, MayNotAsk, ask
from lispmob.hub.cli import screens
from lispmob.hub.cli.parser import build_parser
from lispmob.hub.places import DEFAULT_PATH, DEFAULT_SOCKET
from lispmob.terminal.text import complain, fold

EXIT_FAILED: Final = 1
EXIT_USAGE: Final = 2
EXIT_NOT_RUNNING: Final = 3  # as lispctl
EXIT_PROBLEMS: Final = 4  # as lispctl status, degraded
EXIT_NO_PERMISSION: Final = 77
EXIT_CONFIG: Final = 78
FOLLOW_S: Final = 1.0  # ours: between two requests for new events
_UNITS_S: Final = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}

Json = dict[str, Any]


class WrongUsage(LispError):
    """An invalid argument."""

    exit_code = EXIT_USAGE


def run(arguments: argparse.Namespace) -> int:
    """Run one subcommand; returns the exit code."""
    try:
        return _COMMANDS[arguments.command](arguments)
    except NotRunning as error:
        return _complain(error, EXIT_NOT_RUNNING)
    except (MayNotAsk, PermissionError) as error:
        return _complain(error, EXIT_NO_PERMISSION)
    except ConfigError as error:
        return _complain(error, EXIT_CONFIG)
    except LispError as error:
        return _complain(error, getattr(error, "exit_code", EXIT_FAILED))
    except BrokenPipeError:  # `lisphub nodes | head`: the reader has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        return 130


def socket_of(arguments: argparse.Namespace) -> Path:
    """The hub's socket.

    Reading hub.conf takes longer than a request, so it is read only if no hub listens at the usual place. A user who
    may not read it is told about that place.
    """
    given = getattr(arguments, "socket", None)
    if given is not None:
        return Path(given)
    if arguments.config == DEFAULT_PATH and DEFAULT_SOCKET.exists():
        return DEFAULT_SOCKET
    from lispmob.hub.config import load_hub

    try:
        return load_hub(arguments.config).control_socket
    except ConfigError:
        return DEFAULT_SOCKET


def asked(arguments: argparse.Namespace, what: str, **more: object) -> Json:
    """The hub's answer. Raises LispError with the hub's refusal."""
    answer = ask(socket_of(arguments), what, **more)
    if answer.get("error") is not None:
        raise LispError(str(answer["error"]))
    return answer


def _show(answer: Json, arguments: argparse.Namespace, as_lines: Callable[[Json], list[str]]) -> int:
    print(json.dumps(answer, indent=2) if _is_json(arguments) else "\n".join(as_lines(answer)))
    return 0


def _is_json(arguments: argparse.Namespace) -> bool:
    return bool(getattr(arguments, "json", False))


def _status(arguments: argparse.Namespace) -> int:
    answer = asked(arguments, "status")
    _show(answer, arguments, screens.status_lines)
    return EXIT_PROBLEMS if answer["problems"] and not _is_json(arguments) else 0


def _sites(arguments: argparse.Namespace) -> int:
    return _show(asked(arguments, "sites"), arguments, screens.site_lines)


def _nodes(arguments: argparse.Namespace) -> int:
    return _show(asked(arguments, "nodes"), arguments, screens.node_lines)


def _counters(arguments: argparse.Namespace) -> int:
    return _show(asked(arguments, "counters"), arguments, screens.counter_lines)


def _events(arguments: argparse.Namespace) -> int:
    last = 0
    count = arguments.count
    while True:
        answer = asked(arguments, "events", count=count, after=last)
        if not arguments.follow and _is_json(arguments):
            return _show(answer, arguments, lambda _: [])
        for event in answer["events"]:
            print(json.dumps(event) if _is_json(arguments) else screens.event_line(event))
            last = event["number"]
        if not arguments.follow:
            return 0
        sys.stdout.flush()
        count = 1000
        time.sleep(FOLLOW_S)


def _invite(arguments: argparse.Namespace) -> int:
    more: dict[str, object] = {"name": arguments.name, "is_again": arguments.again}
    if arguments.valid is not None:
        more["valid_s"] = _seconds(arguments.valid)
    answer = asked(arguments, "invite", **more)
    _show(answer, arguments, screens.invitation_lines)
    if sys.stdout.isatty() and not arguments.no_qr and not _is_json(arguments):
        _print_qr(answer["line"])
    return 0


def _print_qr(line: str) -> None:
    """A QR code for a phone's camera; nothing without the library, because the line does as well."""
    with contextlib.suppress(ImportError):
        import segno

        print()
        segno.make_qr(line, error="l").terminal(compact=True)


def _revoke(arguments: argparse.Namespace) -> int:
    answer = asked(arguments, "revoke", name=arguments.name)

    def lines(answer: Json) -> list[str]:
        what = "is shut out" if answer["had_joined"] else "cannot join any more"
        return fold(f"{answer['name']} {what}; free again: {', '.join(answer['eids'])}")

    return _show(answer, arguments, lines)


def _renumber(arguments: argparse.Namespace) -> int:
    answer = asked(arguments, "renumber", name=arguments.name)

    def lines(answer: Json) -> list[str]:
        said = f"{answer['name']} has {', '.join(answer['eids'])} now; its node takes that over within a minute"
        return fold(said)

    return _show(answer, arguments, lines)


def _words(arguments: argparse.Namespace) -> int:
    """Such a name is a DNS label, so a shell that expands it again finds nothing to expand."""
    names = [site["name"] for site in asked(arguments, "sites")["sites"] if site["origin"] == "invited"]
    return _show({"names": names}, arguments, lambda answer: list(answer["names"]))


def _setup(arguments: argparse.Namespace) -> int:
    from lispmob.hub.cli import setup  # late: other subcommands do not need it

    return setup.run(arguments)


def _metrics(arguments: argparse.Namespace) -> int:
    from lispmob.metrics import hub, serving  # late: an extra, and 100 ms

    return serving.run(
        arguments.listen, lambda: hub.families({what: asked(arguments, what) for what in ("status", "counters")})
    )


def _web(arguments: argparse.Namespace) -> int:
    from lispmob.hub.cli import page  # late: an extra, and 300 ms

    def read() -> Json:
        return {"status": asked(arguments, "status"), "nodes": asked(arguments, "nodes")["nodes"]}

    return page.run(arguments, read)


def _help(arguments: argparse.Namespace) -> int:
    build_parser().parse_args([arguments.about, "--help"] if arguments.about is not None else ["--help"])
    raise AssertionError("argparse ends with the help")


def _seconds(text: str) -> float:
    found = re.fullmatch(r"([0-9]{1,6})([smhd])", text)
    if found is None:
        raise WrongUsage(f"{text!r} is no time such as 30m, 12h or 7d")
    seconds = float(found[1]) * _UNITS_S[found[2]]
    if not VALID_S[0] <= seconds <= VALID_S[1]:
        raise WrongUsage(f"{text}: an invitation can be valid for one minute to one year")
    return seconds


def _complain(error: object, code: int) -> int:
    complain("lisphub", str(error))
    return code


_COMMANDS: Final[dict[str, Callable[[argparse.Namespace], int]]] = {
    "setup": _setup,
    "invite": _invite,
    "renumber": _renumber,
    "revoke": _revoke,
    "status": _status,
    "sites": _sites,
    "nodes": _nodes,
    "events": _events,
    "counters": _counters,
    "help": _help,
    "web": _web,
    "metrics": _metrics,
    "words": _words,
}

"""The form of a lispctl command."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from lispmob.errors import LispError

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from lispmob.api.client import Client
    from lispmob.options import HelpfulParser


Run: TypeAlias = "Callable[[Client, Namespace], int]"
AddArguments: TypeAlias = "Callable[[ArgumentParser], None]"
Check: TypeAlias = "Callable[[Namespace], None]"
Alone: TypeAlias = "Callable[[Namespace], int]"


def common_options() -> HelpfulParser:
    """The options that may stand anywhere on the line: parents=[common_options()] of every parser."""
    import argparse

    from lispmob.api.client import DEFAULT_SOCKET
    from lispmob.options import HelpfulParser

    common = HelpfulParser(add_help=False, argument_default=argparse.SUPPRESS)
    common.add_argument("--json", action="store_true", help="print JSON, for programs")
    common.add_argument("--socket", metavar="PATH", help=f"the daemon's socket (default: {DEFAULT_SOCKET})")
    return common


def no_arguments(_parser: ArgumentParser) -> None:
    """For commands without arguments of their own."""


def no_run(_client: Client, _arguments: Namespace) -> int:
    """For commands that run without a daemon: this is never called."""
    raise AssertionError


def no_check(_arguments: Namespace) -> None:
    """For commands whose arguments argparse has checked."""


def interval_s(text: str) -> float:
    """An argument: the seconds between two screens, 0.1 to 3600. Raises ArgumentTypeError, as argparse wants."""
    from argparse import ArgumentTypeError

    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0.1 <= value <= 3600:
        raise ArgumentTypeError(f"{text!r} is not a number of seconds from 0.1 to 3600")
    return value


class WrongUsage(LispError):
    """An argument that argparse takes and that is impossible all the same."""

    exit_code = 2  # as argparse's


class Command(NamedTuple):  # no dataclass: importing that module costs a fifth of the start
    """`run` prints, and returns the exit code; `arguments.json` asks for JSON.

    `check` runs before the daemon is asked: it raises LispError for impossible arguments. `alone`: runs instead of
    `run`, for a command that needs no daemon.
    """

    name: str
    summary: str
    run: Run
    add_arguments: AddArguments = no_arguments
    check: Check = no_check
    alone: Alone | None = None


def show(result: Any, arguments: Namespace, as_lines: Callable[[Any], list[str]]) -> int:
    """Print a result as JSON for programs or as lines for people."""
    if arguments.json:
        import json

        print(json.dumps(result, indent=2))
    else:
        print("\n".join(as_lines(result)))
    return 0

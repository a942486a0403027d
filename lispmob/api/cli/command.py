"""What a command of lispctl is."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from lispmob.api.client import Client


Run: TypeAlias = "Callable[[Client, Namespace], int]"
AddArguments: TypeAlias = "Callable[[ArgumentParser], None]"


def no_arguments(_parser: ArgumentParser) -> None:
    """For commands without arguments of their own."""


class Command(NamedTuple):  # no dataclass: importing that module costs a fifth of the start
    """`run` prints, and returns the exit code; `arguments.json` asks for JSON."""

    name: str
    summary: str
    run: Run
    add_arguments: AddArguments = no_arguments


def show(result: Any, arguments: Namespace, as_lines: Callable[[Any], list[str]]) -> int:
    """Print a result as JSON for programs or as lines for people."""
    if arguments.json:
        import json

        print(json.dumps(result, indent=2))
    else:
        print("\n".join(as_lines(result)))
    return 0

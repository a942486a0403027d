"""A command line parser with `--version`, and with suggestions for unknown words."""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, Final, NoReturn

from lispmob.package_version import package_version

SUGGESTIONS_MAX: Final = 2  # ours: more are no help
FEW_CHOICES: Final = 8  # ours: what fits a line


def _formatter(prog: str) -> argparse.HelpFormatter:
    """argparse's own, made once for each option. With the width given, it does not import shutil for it (3 ms)."""
    return argparse.HelpFormatter(prog, width=_columns() - 2)


def _columns() -> int:
    """The width of the terminal, as shutil.get_terminal_size() has it."""
    with suppress(ValueError):
        if (told := int(os.environ.get("COLUMNS", ""))) > 0:
            return told
    with suppress(OSError, AttributeError, ValueError):
        if (seen := os.get_terminal_size(sys.__stdout__.fileno()).columns) > 0:  # type: ignore[union-attr]
            return seen
    return 80


def meant(word: str, known: Sequence[str], also: Mapping[str, str] | None = None) -> str | None:
    """The known word most similar to this one; `also`: names that other programs use."""
    return next(iter(all_meant(word, known, also)), None)


def all_meant(word: str, known: Sequence[str], also: Mapping[str, str] | None = None) -> list[str]:
    """The known words similar to this one, the most similar first."""
    if also is not None and word.lower() in also:
        return [also[word.lower()]]
    from difflib import get_close_matches  # late: 5 ms, needed only for a mistyped word

    begun = [option for option in known if len(word) > 1 and option.startswith(word.lower())]
    if begun:
        return begun[:SUGGESTIONS_MAX]
    return get_close_matches(word.lower(), known, SUGGESTIONS_MAX, 0.6)


class HelpfulParser(argparse.ArgumentParser):
    """argparse's parser, with suggestions. `synonyms`: other words for its choices."""

    synonyms: Mapping[str, str] = {}

    def __init__(self, **options: Any) -> None:
        options.setdefault("formatter_class", _formatter)
        super().__init__(**options)

    def error(self, message: str) -> NoReturn:
        """Print usage and error, and exit with 2."""
        choice = re.search(r"argument ([^:]*): invalid choice: '([^']*)' \(choose from (.*)\)", message)
        if choice is not None:
            message = self._unknown_choice(*choice.groups())
        elif message.startswith("unrecognized arguments: -"):
            message += _or(all_meant(message.split()[2].partition("=")[0], list(self._option_string_actions)))
        elif message == "the following arguments are required: COMMAND":
            self.print_help(sys.stderr)
            self.exit(2)
        from lispmob.terminal.text import complain

        self.print_usage(sys.stderr)
        complain(self.prog, f"error: {message}")
        self.exit(2)

    def _unknown_choice(self, name: str, word: str, listed: str) -> str:
        """The error for an unknown choice: it lists few choices, and of many only the similar ones."""
        known = re.findall(r"[\w.-]+", listed)
        likely = all_meant(word, known, self.synonyms)
        what = f"there is no {name.lower()} {word!r}"
        if likely:
            return what + _or(likely)
        if len(known) > FEW_CHOICES:
            return f"{what}; all of them: {self.prog.split()[0]} --help"
        return f"{what}; it is one of {', '.join(known)}"

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As argparse's. A subcommand's unknown argument is reported with the subcommand's usage."""
        found, left = self.parse_known_args(args, namespace)
        if left:
            self._of_command(found).error(f"unrecognized arguments: {' '.join(left)}")
        return found

    def _of_command(self, found: argparse.Namespace) -> argparse.ArgumentParser:
        """The parser of the command that was given; this one without commands."""
        for action in self._actions:
            if isinstance(action.choices, Mapping):
                parser = action.choices.get(getattr(found, action.dest, ""))
                if isinstance(parser, argparse.ArgumentParser):
                    return parser
        return self


def _or(words: Sequence[str]) -> str:
    return f"; did you mean {' or '.join(map(repr, words))}?" if words else ""


class ShowVersion(argparse.Action):
    """`--version`, which looks up the version only when it is used."""

    def __init__(self, option_strings: Sequence[str], **_: Any) -> None:
        super().__init__(option_strings, argparse.SUPPRESS, nargs=0, help="show the version and exit")

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> NoReturn:
        """Print it, and exit with 0."""
        print(f"{parser.prog} {package_version()}")  # noqa: T201 - the answer to a question
        parser.exit(0)

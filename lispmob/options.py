"""A command line that helps: `--version`, and what was meant by a word that is none."""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from lispmob.package_version import package_version


def meant(word: str, known: Sequence[str], also: Mapping[str, str] | None = None) -> str | None:
    """The known word that is most like this one; `also`: what other programs call them."""
    if also is not None and word.lower() in also:
        return also[word.lower()]
    from difflib import get_close_matches  # late: 5 ms, and only who mistypes needs it

    return next(iter(get_close_matches(word.lower(), known, n=1, cutoff=0.6)), None)


class HelpfulParser(argparse.ArgumentParser):
    """argparse's own, which says what was meant. `synonyms`: other words for its choices."""

    synonyms: Mapping[str, str] = {}

    def error(self, message: str) -> NoReturn:
        """Print usage and complaint, and end with 2."""
        found = re.search(r"invalid choice: '([^']*)' \(choose from (.*)\)", message)
        if found is not None:
            known = re.findall(r"[\w.-]+", found[2])
            if (word := meant(found[1], known, self.synonyms)) is not None:
                message += f"; did you mean '{word}'?"
        super().error(message)


class ShowVersion(argparse.Action):
    """`--version`, which looks for the version when it is asked for and not before."""

    def __init__(self, option_strings: Sequence[str], **_: Any) -> None:
        super().__init__(option_strings, argparse.SUPPRESS, nargs=0, help="show the version, and end")

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> NoReturn:
        """Print it, and end with 0."""
        print(f"{parser.prog} {package_version()}")  # noqa: T201 - the answer to a question
        parser.exit(0)

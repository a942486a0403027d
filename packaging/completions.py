"""Write shell completion for the commands that people type with shtab, from the parsers that the programs use.

completions.py DIRECTORY     (DIRECTORY/lispctl.bash, _lispctl, lispctl.fish; so on for the other commands)

What stands for an uplink or a peer is completed with those that the running lispd knows.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Final

import shtab

from lispmob.desktop import main as lispmob_indicator
from lispmob.flow import cli as lispflow
from lispmob.hub.cli import parser as lisphub
from lispmob.lispctl import main as lispctl
from lispmob.tools import echo_cli as lisp_echo
from lispmob.tools import lig

PARSERS: Final = {
    "lisphub": lisphub.build_parser,
    "lispctl": lispctl.build_parser,
    "lispflow": lispflow.build_parser,
    "lig": lig.build_parser,
    "lisp-echo": lisp_echo.build_parser,
    "lispmob-indicator": lispmob_indicator.build_parser,
}


WORDS: Final = {
    "UPLINK": "lispctl words uplinks",
    "NAME|EID": "lispctl words peers",
    "EID": "lispctl words peers",
    "lisphub revoke NAME": "lisphub words",
    "lisphub renumber NAME": "lisphub words",
}
"""What an argument is called in the help, alone or behind its command, and which command prints the words for it."""


def know_words(parser: argparse.ArgumentParser) -> None:
    """Have the arguments of a parser, and of its commands, completed with what there is."""
    for action in parser._actions:  # noqa: SLF001 - argparse has no public list
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001
            for sub in action.choices.values():
                know_words(sub)
            continue
        name = str(action.metavar or action.dest.upper())
        command = WORDS.get(name) or WORDS.get(f"{parser.prog} {name}")
        if command is not None:
            action.complete = shtab.cmd(f"{command} 2>/dev/null")  # type: ignore[attr-defined]


def fresh(text: str) -> str:
    """For zsh: ask at each completion what there is, and not once when the file is loaded."""
    for words in sorted(set(WORDS.values())):
        command = f"{words} 2>/dev/null"
        text = text.replace(f"($({command}))", f"{{compadd -- \\$({command})}}")
    return text


def main(directory: Path) -> None:
    """Write all of them."""
    directory.mkdir(parents=True, exist_ok=True)
    for program, build_parser in PARSERS.items():
        parser = build_parser()
        know_words(parser)
        for shell, name in (("bash", f"{program}.bash"), ("zsh", f"_{program}"), ("fish", f"{program}.fish")):
            text = shtab.complete(parser, shell)
            (directory / name).write_text(fresh(text) if shell == "zsh" else text, "utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))

"""Write shell completion for the commands that people type with shtab, from the parsers that the programs use.

completions.py DIRECTORY     (DIRECTORY/lisphub.bash, _lisphub, and so on for lispctl, lispflow, lig and lisp-echo)
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

import shtab

from lispmob.api.cli import main as lispctl
from lispmob.flow import cli as lispflow
from lispmob.hub.cli import parser as lisphub
from lispmob.tools import echo_cli as lisp_echo
from lispmob.tools import lig

PARSERS: Final = {
    "lisphub": lisphub.build_parser,
    "lispctl": lispctl.build_parser,
    "lispflow": lispflow.build_parser,
    "lig": lig.build_parser,
    "lisp-echo": lisp_echo.build_parser,
}


def main(directory: Path) -> None:
    """Write all of them."""
    directory.mkdir(parents=True, exist_ok=True)
    for program, build_parser in PARSERS.items():
        parser = build_parser()
        for shell, name in (("bash", f"{program}.bash"), ("zsh", f"_{program}")):
            (directory / name).write_text(shtab.complete(parser, shell), "utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))

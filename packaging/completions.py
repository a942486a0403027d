"""Write shell completion for lispctl and lispflow with shtab, from the parsers that the programs use.

completions.py DIRECTORY     (DIRECTORY/lispctl.bash, _lispctl, lispflow.bash, _lispflow)
"""

from __future__ import annotations

import sys
from pathlib import Path

import shtab

from lispmob.api.cli import main as lispctl
from lispmob.flow import cli as lispflow


def main(directory: Path) -> None:
    """Write all of them."""
    directory.mkdir(parents=True, exist_ok=True)
    for program, parser in (("lispctl", lispctl.build_parser()), ("lispflow", lispflow.build_parser())):
        for shell, name in (("bash", f"{program}.bash"), ("zsh", f"_{program}")):
            (directory / name).write_text(shtab.complete(parser, shell), "utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))

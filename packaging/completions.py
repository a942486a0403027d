"""Write shell completion for lispctl with shtab, from the parser that the program uses.

completions.py DIRECTORY     (DIRECTORY/lispctl.bash, _lispctl)
"""

from __future__ import annotations

import sys
from pathlib import Path

import shtab

from lispmob.api.cli.main import build_parser


def main(directory: Path) -> None:
    """Write both."""
    directory.mkdir(parents=True, exist_ok=True)
    parser = build_parser()
    for shell, name in (("bash", "lispctl.bash"), ("zsh", "_lispctl")):
        (directory / name).write_text(shtab.complete(parser, shell), "utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))

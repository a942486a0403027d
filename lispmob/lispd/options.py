"""The command line of lispd; completions and manual pages are made from it too."""

from __future__ import annotations

import argparse
from pathlib import Path

from lispmob.config.node import DEFAULT_PATH
from lispmob.options import HelpfulParser, ShowVersion


def build_parser() -> argparse.ArgumentParser:
    """The options of `lispd`."""
    parser = HelpfulParser(prog="lispd", description="A LISP mobile node: keeps its addresses while it moves.")
    parser.add_argument("--version", action=ShowVersion)
    parser.add_argument("-c", "--config", type=Path, default=DEFAULT_PATH, help="configuration (%(default)s)")
    parser.add_argument("--check", action="store_true", help="check the configuration, report mistakes, and exit")
    parser.add_argument(
        "--clean-up",
        action="store_true",
        help="remove what lispd has left in the kernel, and exit; not while lispd runs",
    )
    parser.add_argument("--log-level", choices=("debug", "info", "warning", "error"), help="instead of the file's")
    return parser

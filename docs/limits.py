"""Lists every timer and limit of the machines with its value: `python -m docs.limits > docs/limits.md`."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any, Final

PACKAGE: Final = Path(__file__).resolve().parents[1] / "lispmob"
FOLDERS: Final = ("control", "natt", "node", "protocol", "flow", "joining", "names")
HUB_FOLDERS: Final = ("hub/map_server", "hub/rtr", "hub/publishing", "hub/ddt", "hub/inviting")
HEAD: Final = """# Timers and limits

Every number at the top of a machine's file, as the code has it: seconds where the name ends in `_S`, octets where it
ends in `_OCTETS`. Where it comes from, an RFC or a reason of ours, is in the code beside it. Drawn by `make docs`; a
test fails when this page is stale, so that no number changes unnoticed.
"""


def numbers_in(path: Path) -> Iterator[tuple[str, str]]:
    """The public constants of a module that are numbers, or tuples of numbers, in the order of the file."""
    names = [
        target.id
        for statement in ast.parse(path.read_text()).body
        for target in getattr(statement, "targets", None) or [getattr(statement, "target", None)]
        if isinstance(target, ast.Name) and target.id.isupper() and not target.id.startswith("_")
    ]
    if not names:
        return
    module = import_module(".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts))
    for name in names:
        if is_number(value := getattr(module, name)):
            yield name, repr(value)


def is_number(value: Any) -> bool:
    """True for a number, and for a tuple of them; a truth value is none."""
    if isinstance(value, tuple):
        return bool(value) and all(map(is_number, value))
    return isinstance(value, int | float) and not isinstance(value, bool)


def page() -> str:
    """The whole page as Markdown."""
    parts = [HEAD]
    for title, folders in (("The node", FOLDERS), ("The hub", HUB_FOLDERS)):
        parts.append(f"## {title}\n")
        for folder in folders:
            for path in sorted((PACKAGE / folder).rglob("*.py")):
                rows = [f"| `{name}` | {value} |" for name, value in numbers_in(path)]
                if rows:
                    parts.append("\n".join([f"| `{path.relative_to(PACKAGE)}` | |", "|---|---|", *rows, ""]))
    return "\n".join(parts)


if __name__ == "__main__":
    sys.stdout.write(page())

"""The documented list of event kinds is the list that the code publishes."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from lispmob.api.event_kinds import KINDS

PACKAGE = Path(__file__).resolve().parents[2] / "lispmob"
FOLDERS = ("protocol", "control", "natt", "node", "lispd", "datapath", "api")


def words(node: ast.expr) -> Iterator[str]:
    """The texts that an expression can have as its value."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
    elif isinstance(node, ast.IfExp):
        yield from (*words(node.body), *words(node.orelse))


def published() -> set[str]:
    """The kinds of which the node's code makes events: directly, by a function of its own, or through a variable."""
    found: set[str] = set()
    sources = [path for folder in FOLDERS for path in (PACKAGE / folder).rglob("*.py")]
    for path in sources:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
                named = [keyword.value for keyword in node.keywords if keyword.arg == "kind"]
                if name in ("Event", "_event"):
                    found |= {word for arg in (*node.args[:1], *named) for word in words(arg)}
            elif isinstance(node, ast.Assign) and [getattr(target, "id", "") for target in node.targets] == ["kind"]:
                found |= {word for word in words(node.value) if "-" in word}
    return found


def test_every_kind_that_is_published_may_be_asked_for_and_no_other() -> None:
    assert published() == KINDS

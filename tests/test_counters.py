"""What is counted is counted once: read off the source, for there are some hundred places."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent.parent / "lispmob"


def counted() -> Iterator[tuple[str, ast.AugAssign]]:
    """Every change of a counter that has a name in the source, with its place."""
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.AugAssign) and isinstance(node.target, ast.Subscript):
                owner = node.target.value
                name = owner.attr if isinstance(owner, ast.Attribute) else getattr(owner, "id", "")
                if name.lstrip("_") == "counters":
                    yield f"{path.relative_to(PACKAGE)}:{node.lineno}", node


def test_a_counter_grows_and_where_its_step_is_a_number_by_one() -> None:
    found = list(counted())
    wrong = [
        place
        for place, node in found
        if not isinstance(node.op, ast.Add) or (isinstance(node.value, ast.Constant) and node.value.value != 1)
    ]

    assert wrong == []
    assert len(found) > 100

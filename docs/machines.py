"""Draws every state machine from its own table of transitions: `python -m docs.machines > docs/machines.md`."""

from __future__ import annotations

import pkgutil
import sys
from collections.abc import Iterator
from importlib import import_module
from types import ModuleType

from lispmob import control, flow, natt, node

HEAD = """# The state machines

Drawn from the `TRANSITIONS` tables of the code by `make docs`; a test fails when this page is stale.
"""


def machines() -> Iterator[tuple[str, ModuleType]]:
    """Modules of the node that declare a table of transitions, by their place in the tree."""
    for package in (control, natt, node, flow):
        for found in sorted(
            pkgutil.walk_packages(package.__path__, f"{package.__name__}."), key=lambda found: found.name
        ):
            module = import_module(found.name)
            table = getattr(module, "TRANSITIONS", None)
            if table is not None and any(state.__class__.__module__ == module.__name__ for state in table):
                yield found.name.replace(".", "/"), module


def page() -> str:
    """The whole page as Markdown with Mermaid pictures."""
    parts = [HEAD]
    for name, module in machines():
        summary = (module.__doc__ or "").strip().splitlines()[0]
        lines = [f"## `{name}.py`\n", f"{summary}\n", "```mermaid", "stateDiagram-v2"]
        for state, successors in module.TRANSITIONS.items():
            lines += [
                f"    {state.value} --> {successor.value}" for successor in sorted(successors, key=lambda s: s.value)
            ]
        parts.append("\n".join([*lines, "```\n"]))
    return "\n".join(parts)


if __name__ == "__main__":
    sys.stdout.write(page())

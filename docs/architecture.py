"""Draws the packages and who imports whom: `python -m docs.architecture > docs/architecture.md`."""

from __future__ import annotations

import ast
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
PACKAGE: Final = ROOT / "lispmob"

LAYERS: Final = (
    "wire crypto mapping terminal netlink metrics",
    "protocol bus datapath",
    "control control_port iface_monitor api",
    "natt problems flow names",
    "node mh",
    "recording config",
    "joining tools lab",
    "hub lispd",
    "convert",
    "lispctl desktop",
)
"""From the ground up. A package imports what stands before it here, and nothing after it."""

HEAD: Final = """# The architecture

Drawn from the imports by `make docs`; a test fails when this page is stale. [design.md](design.md) says why it is built
like this, [datapath.md](datapath.md) what is in the C and BPF part, [glossary.md](glossary.md) what the words mean.

A package imports only what stands below it, and no file imports in a circle (`tests/test_layering.py`). `errors`,
`closing`, `options`, `partial_imports` and `logs` are single files that every package may use; they are left out here.
"""

SEARCHES: Final = (
    ("who writes the LISP header of a data packet", "lm_send_put_lisp_header", "lispmob/datapath/c/engine/send.c"),
    ("who decides which uplink a flow takes", "lm_uplinks_choose", "lispmob/datapath/c/table/uplink.c"),
    ("what marks mean for a flow", "class Policy(", "lispmob/mh/policy.py"),
    ("what happens when an address goes", "def steps_of", "lispmob/lispd/handover.py"),
    ("who accepts a Map-Reply", "Whether to accept a Map-Reply", "lispmob/protocol/acceptance.py"),
    ("what the kernel must hold", "What the kernel must hold", "lispmob/mh/plan.py"),
    ("how a Map-Register is built and repeated", "class Registration:", "lispmob/control/registration.py"),
    ("a Map-Request on the wire", "class MapRequest", "lispmob/wire/map_request.py"),
    ("what a NAT on the path requires", "class UplinkMachine", "lispmob/natt/machine.py"),
    ("how the Map-Server answers", "What the Map-Server says to a question", "lispmob/hub/map_server/answering.py"),
)
"""A question, a text to search the tree for, and the file where it is found."""


def modules() -> dict[str, Path]:
    """Every module of the package by its dotted name."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        name = path.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".")
        found[name.removesuffix(".__init__")] = path
    return found


def imports_of_modules() -> Mapping[str, set[str]]:
    """For every module the modules of ours that it imports, wherever in the file it does so."""
    known = modules()
    return {name: set(_imports(path, known)) - {name} for name, path in known.items()}


def _imports(path: Path, known: Mapping[str, Path]) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in known)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                if whole in known or node.module in known:
                    yield whole if whole in known else node.module


def arrows() -> dict[str, set[str]]:
    """For every package the packages that it imports."""
    found: dict[str, set[str]] = defaultdict(set)
    for module, needed in imports_of_modules().items():
        if (one := _package(module)) is not None:
            found[one] |= {other for each in needed if (other := _package(each)) is not None and other != one}
    return dict(found)


def _package(module: str) -> str | None:
    parts = module.split(".")
    return parts[1] if len(parts) > 1 and (PACKAGE / parts[1]).is_dir() else None


def page() -> str:
    """The whole page as Markdown with a Mermaid picture."""
    drawn = arrows()
    lines = [HEAD, "```mermaid", "flowchart BT"]
    for one in sorted(drawn):
        lines += [f"    {one} --> {other}" for other in sorted(_direct(one, drawn))]
    lines += ["```", "", "An arrow that follows from two others is left out.", ""]
    lines += ["## Packages", "", "| package | what it is | imports |", "|---|---|---|"]
    for one in (name for layer in LAYERS for name in layer.split()):
        lines.append(f"| `{one}/` | {_first_line(PACKAGE / one)} | {', '.join(sorted(drawn.get(one, ())))} |")
    lines += ["", "Folders inside of them:", ""]
    for folder in sorted(path.parent for path in PACKAGE.glob("*/*/__init__.py")):
        lines.append(f"- `{folder.relative_to(PACKAGE).as_posix()}/`: {_first_line(folder)}")
    lines += ["", "## Where is it?", "", "| question | search for | it is in |", "|---|---|---|"]
    lines += [f"| {question} | `{text}` | `{file}` |" for question, text, file in SEARCHES]
    return "\n".join(lines) + "\n"


def _direct(one: str, drawn: Mapping[str, set[str]]) -> set[str]:
    """Without what is reached by another arrow anyway."""
    return {other for other in drawn[one] if not any(other in _reached(each, drawn) for each in drawn[one] - {other})}


def _reached(one: str, drawn: Mapping[str, set[str]]) -> set[str]:
    found: set[str] = set()
    rest = [one]
    while rest:
        for other in drawn.get(rest.pop(), set()) - found:
            found.add(other)
            rest.append(other)
    return found


def _first_line(folder: Path) -> str:
    text = ast.get_docstring(ast.parse((folder / "__init__.py").read_text())) or ""
    return " ".join(text.partition("\n\n")[0].split())


if __name__ == "__main__":
    sys.stdout.write(page())

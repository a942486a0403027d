"""Makes the page about the library of flows from its docstrings: `python -m docs.library > docs/library.md`."""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterator
from enum import Enum
from types import ModuleType
from typing import Any, Final

from lispmob import flow
from lispmob.flow import aio, errors
from lispmob.flow.quality import DSCP, FlowClass

HEAD: Final = """# The library `lispmob.flow`

Made from the docstrings by `make docs`; a test fails when this page is stale. [flows.md](flows.md) says what flows are.
"""
_WIDTH: Final = 120
_QUOTED: Final = re.compile(r": '([^']*)'")  # annotations are texts
_PLACE: Final = re.compile(r"\b(?:lispmob\.flow\.\w+|pathlib|collections\.abc|typing|socket)\.(?=[A-Za-z])")


def page() -> str:
    """The whole page as Markdown."""
    parts = [HEAD, "```python", *_example(flow), "```\n", "## Blocking: `lispmob.flow`\n"]
    parts += _functions(flow, ("allocate", "register", "inherited"))
    parts += _class("flow.Flow", flow.Flow)
    parts += _class("flow.Name", flow.Name)
    parts += ["## For asyncio: `lispmob.flow.aio`\n", f"{_text(aio)}\n"]
    parts += _functions(aio, ("allocate", "register"), "aio.")
    parts += _class("aio.Flow", aio.Flow)
    parts += _class("aio.Name", aio.Name)
    parts += ["## Wishes\n", f"### `flow.Quality`\n\n{_text(flow.Quality)}\n", *_wishes()]
    parts += ["## Errors\n", f"{_text(errors)}\n", *_errors()]
    return "\n".join(parts).rstrip() + "\n"


def _example(module: ModuleType) -> list[str]:
    """The indented lines of the module's docstring."""
    lines = inspect.cleandoc(module.__doc__ or "").splitlines()
    found = [line[4:] for line in lines if line.startswith("    ") or not line]
    first = next(number for number, line in enumerate(found) if line)
    last = max(number for number, line in enumerate(found) if line)
    return found[first : last + 1]


def _functions(module: ModuleType, names: tuple[str, ...], prefix: str = "flow.") -> Iterator[str]:
    for name in names:
        function = getattr(module, name)
        word = "await " if inspect.iscoroutinefunction(function) else ""
        yield f"### `{prefix}{name}`\n"
        yield f"```python\n{word}{prefix}{name}{_signature(function)}\n```\n"
        yield f"{_text(function)}\n"


def _class(title: str, described: type) -> Iterator[str]:
    yield f"### `{title}`\n\n{_text(described)}\n"
    for name, member in vars(described).items():
        if name.startswith("_") or not inspect.getdoc(member):
            continue
        if isinstance(member, property):
            yield f"* `{name}`: {_line(member)}"
        elif inspect.isfunction(member):
            word = "await " if inspect.iscoroutinefunction(member) else ""
            yield f"* `{word}{name}{_signature(member, joiner=' ')}`: {_line(member)}"
    yield ""


def _wishes() -> Iterator[str]:
    yield "| name | class | DSCP |\n|---|---|---|"
    for name in flow.__all__:
        value = getattr(flow, name)
        if isinstance(value, flow.Quality):
            chosen = FlowClass(value.flow_class)
            yield f"| `flow.{name}` | `{chosen.name.lower()}` | {DSCP[chosen]} |"
    yield ""


def _errors() -> Iterator[str]:
    for name in flow.__all__:
        value = getattr(flow, name)
        if inspect.isclass(value) and issubclass(value, errors.FlowError) and not issubclass(value, Enum):
            yield f"* `flow.{name}`: {_line(value)}"


def _signature(function: Any, joiner: str = "\n    ") -> str:
    """The parameters without `self`, in one line where they fit."""
    signature = inspect.signature(function)
    kept = [one for name, one in signature.parameters.items() if name != "self"]
    shown = str(signature.replace(parameters=kept, return_annotation=inspect.Signature.empty))
    result = "" if signature.return_annotation in (None, "None") else f" -> {signature.return_annotation}"
    shown = _PLACE.sub("", _QUOTED.sub(r": \1", shown) + result).replace("PosixPath(", "Path(")
    if joiner == " " or len(shown) < _WIDTH - 30:
        return shown
    inside, _, rest = shown[1:].rpartition(")")
    return "(" + joiner + f",{joiner}".join(_parameters(inside)) + f"\n){rest}"


def _parameters(inside: str) -> list[str]:
    """Split at the commas that stand in no brackets."""
    found, depth = [""], 0
    for letter in inside:
        depth += (letter in "([") - (letter in ")]")
        if letter == "," and not depth:
            found.append("")
        else:
            found[-1] += letter
    return [part.strip() for part in found]


def _text(described: Any) -> str:
    return inspect.getdoc(described) or ""


def _line(described: Any) -> str:
    return " ".join(_text(described).split())


if __name__ == "__main__":
    sys.stdout.write(page())

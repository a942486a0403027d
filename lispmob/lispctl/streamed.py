"""Prints long answers of the daemon while they arrive."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

from lispmob.terminal.text import table_blocks

if TYPE_CHECKING:
    from lispmob.api.client import Entries

FIRST_ENTRIES = 50  # ours: this many are shown before the others have arrived
MORE_ENTRIES = 1000


def print_json(found: Entries) -> None:
    """As one JSON value, each entry on a line of its own."""
    import json

    lines = (json.dumps(entry) for entry in found.entries)
    first = next(lines, None)
    if first is None:
        print('{\n  "entries": []', end="")
    else:
        print('{\n  "entries": [\n    ' + first, end="", flush=True)
        for line in lines:
            print(",\n    " + line, end="")
        print("\n  ]", end="")
    rest = (f",\n  {json.dumps(name)}: {json.dumps(value)}" for name, value in found.rest.items())
    print("".join(rest) + "\n}")


def print_table(
    headers: Sequence[str],
    entries: Iterable[dict[str, Any]],
    row: Callable[[dict[str, Any]], tuple[Any, ...]],
    *,
    right: Sequence[str] = (),
    title: str = "",
) -> bool:
    """Print a table: the first rows at once, which set the column widths; False when there is no row."""
    least: list[int] = []
    coming: Iterator[dict[str, Any]] = iter(entries)
    while batch := list(islice(coming, MORE_ENTRIES if least else FIRST_ENTRIES)):
        is_first = not least
        header, blocks = table_blocks(headers, list(map(row, batch)), right=right, least=least)
        head = [*([title] if title else []), *header] if is_first else []
        print("\n".join([*head, *(line for block in blocks for line in block)]), flush=True)
    return bool(least)

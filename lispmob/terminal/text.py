"""How lispctl writes for people: aligned columns, a little colour on a terminal, durations and times of day."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Any, Final, TypeAlias

NARROWEST: Final = 16  # a folded column
PAGE: Final = 80
LEAST: Final = 40  # ours: what is narrower breaks our lines itself


def columns_of(stream: Any) -> int:
    """How wide lines may be: PAGE, or what a narrower terminal has. A pipe or a file has PAGE."""
    try:
        found = os.get_terminal_size(stream.fileno()).columns if stream.isatty() else PAGE
    except (OSError, ValueError):
        found = PAGE
    return max(LEAST, min(PAGE, found or PAGE))


WIDTH: Final = columns_of(sys.stdout)
"""Every screen fits into so many columns, as far as single words do."""

_COLOURS: Final = {"good": "32", "bad": "31", "warn": "33", "dim": "2", "bold": "1"}


def has_colour() -> bool:
    """True when standard output is a terminal that wants colour (https://no-color.org)."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def paint(text: str, kind: str) -> str:
    """The text in a colour, or plain."""
    return f"\x1b[{_COLOURS[kind]}m{text}\x1b[0m" if has_colour() else text


def clean(value: Any) -> str:
    """A value from the daemon as one printable piece: some of it came from the network, and terminals obey escapes."""
    text = "-" if value is None else value if isinstance(value, str) else str(value)
    return text if text.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def cells(text: str) -> int:
    """How many columns of a terminal a text takes: two for a wide sign, none for an accent that combines."""
    if text.isascii():
        return len(text)
    from unicodedata import combining, east_asian_width

    return sum(0 if combining(sign) else 2 if east_asian_width(sign) in "WF" else 1 for sign in text)


def pad(text: str, width: int, *, to_right: bool = False) -> str:
    """The text with blanks up to so many columns."""
    blanks = " " * max(0, width - cells(text))
    return blanks + text if to_right else text + blanks


def fold(text: str, width: int = WIDTH, *, first: str = "", rest: str | None = None) -> list[str]:
    """Lines of at most `width` columns, broken between words; `first` and `rest` stand in front of them."""
    rest = " " * cells(first) if rest is None else rest
    lines, line = [], first
    is_empty = True
    for word in text.split(" "):
        if not is_empty and cells(line) + 1 + cells(word) > width:
            lines.append(line)
            line, is_empty = rest, True
        line += word if is_empty else f" {word}"
        is_empty = False
    return [*lines, line.rstrip()]


def complain(program: str, text: str) -> None:
    """Say on standard error what went wrong; on a terminal the lines are broken between words."""
    lines = f"{program}: {text}".splitlines()
    if sys.stderr.isatty():
        lines = [part for line in lines for part in fold(line, columns_of(sys.stderr), rest="  ")]
    sys.stderr.write("\n".join(lines) + "\n")


Cell: TypeAlias = Any
"""A value, or a list of values that stand one beneath the other."""


def table(
    headers: Sequence[str],
    rows: Sequence[Sequence[Cell]],
    *,
    right: Sequence[str] = (),
    folded: str | None = None,
    width: int = WIDTH,
) -> list[str]:
    """Lines of aligned columns; those named in `right` are aligned to the right, and `folded` is broken to fit.

    A table that is too wide all the same becomes paragraphs: the first value, and beneath it the others with their
    names.
    """
    header, blocks = table_blocks(headers, rows, right=right, folded=folded, width=width)
    return [*header, *(line for block in blocks for line in block)]


def table_blocks(
    headers: Sequence[str],
    rows: Sequence[Sequence[Cell]],
    *,
    right: Sequence[str] = (),
    folded: str | None = None,
    width: int = WIDTH,
    least: list[int] | None = None,
) -> tuple[list[str], list[list[str]]]:
    """The same as the line of headers, none when it is in paragraphs, and the lines of each row.

    `least`: widths that the columns have at least, of earlier parts of the same table; it holds these ones afterwards.
    """
    grid = [
        [[clean(value) for value in cell] if isinstance(cell, list) else [clean(cell)] for cell in row] for row in rows
    ]
    widths = [
        max([cells(header), *(cells(line) for row in grid for line in row[place])])
        for place, header in enumerate(headers)
    ]
    if least is not None:
        widths = [max(pair) for pair in zip(widths, least or widths, strict=True)]
        least[:] = widths
    room = width - (sum(widths) + 2 * (len(widths) - 1))
    whole = grid
    if room < 0 and folded is not None:
        place = headers.index(folded)
        most = max(widths[place] + room, NARROWEST, cells(folded))
        grid = [
            [
                [line for text in cell for line in fold(text, most)] if at == place else cell
                for at, cell in enumerate(row)
            ]
            for row in grid
        ]
        widths[place] = max([most, *(cells(line) for row in grid for line in row[place])])  # a word is not broken
        room = width - (sum(widths) + 2 * (len(widths) - 1))
    if room < 0:
        return [], [_paragraph(headers, row, width) for row in whole]
    to_right = {place for place, header in enumerate(headers) if header in right}

    def line(values: Sequence[str]) -> str:
        padded = (pad(value, widths[place], to_right=place in to_right) for place, value in enumerate(values))
        return "  ".join(padded).rstrip()

    return [paint(line(headers), "dim")], [
        [line([cell[at] if at < len(cell) else "" for cell in row]) for at in range(max(map(len, row)))] for row in grid
    ]


def _paragraph(headers: Sequence[str], row: Sequence[Sequence[str]], width: int) -> list[str]:
    named = [
        f"{header.lower()} {', '.join(cell)}".strip()
        for header, cell in zip(headers[1:], row[1:], strict=True)
        if cell != ["-"]
    ]
    return [paint(", ".join(row[0]), "bold"), *fold("; ".join(named), width, first="  ")]


def facts(pairs: Sequence[tuple[str, str]]) -> list[str]:
    """Names in a column of their own, and beside each its text, folded."""
    width = max((cells(name) for name, _ in pairs), default=0)
    lines = []
    for name, text in pairs:
        blank = " " * (width + 2)
        first, *more = [line for part in text.split("\n") for line in fold(part, WIDTH - width - 2)]
        lines += [f"{paint(pad(name, width), 'bold')}  {first}".rstrip(), *(blank + line for line in more)]
    return lines


def duration(seconds: float | None) -> str:
    """ "4.2s", "3m 20s", "2h 5m", "3d 4h"; "-" for None."""
    if seconds is None:
        return "-"
    if seconds < 60:
        return f"{seconds:.1f}s" if seconds < 10 else f"{seconds:.0f}s"
    whole = int(seconds)
    for unit_s, unit, lower_s, lower in ((86400, "d", 3600, "h"), (3600, "h", 60, "m"), (60, "m", 1, "s")):
        if whole >= unit_s:
            rest = whole % unit_s // lower_s
            return f"{whole // unit_s}{unit} {rest}{lower}" if rest else f"{whole // unit_s}{unit}"
    raise AssertionError(seconds)


def milliseconds(value: float | None) -> str:
    """ "12.3 ms", "-" for None."""
    return "-" if value is None else f"{value:.1f} ms"


def moment(iso: str | None, *, with_date: bool = False) -> str:
    """A time of day of the daemon (ISO 8601) in the reader's own time zone; "-" for None."""
    if iso is None:
        return "-"
    from datetime import datetime

    try:
        local = datetime.fromisoformat(iso).astimezone()
    except ValueError:
        return clean(iso)
    text = local.strftime("%Y-%m-%d %H:%M:%S" if with_date else "%H:%M:%S")
    return f"{text}.{local.microsecond // 1000:03d}" if with_date else text


def octets(count: int) -> str:
    """ "999 B", "12.3 kB", "4.5 GB": powers of 1000."""
    if count < 1000:
        return f"{count} B"
    value = float(count)
    for unit in ("kB", "MB", "GB", "TB"):
        value /= 1000
        if value < 999.95 or unit == "TB":
            return f"{value:.1f} {unit}"
    raise AssertionError(count)


def plural(count: int, noun: str, plural_noun: str | None = None) -> str:
    """ "1 entry", "2 entries"."""
    return f"{count} {noun if count == 1 else plural_noun or noun + 's'}"


def locators(entries: Sequence[dict[str, Any]]) -> list[str]:
    """RLOCs, one each: "203.0.113.5 (1/100)", priority and weight in parentheses."""
    found = []
    for entry in entries:
        mark = "" if entry.get("is_reachable", True) else " down"
        rtt = f" {milliseconds(entry['rtt_ms'])}" if entry.get("rtt_ms") is not None else ""
        found.append(f"{entry['address']} ({entry['priority']}/{entry['weight']}){rtt}{mark}")
    return found or ["-"]

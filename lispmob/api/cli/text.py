"""How lispctl writes for people: aligned columns, a little colour on a terminal, durations and times of day."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Any, Final

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


def table(headers: Sequence[str], rows: Sequence[Sequence[Any]], *, right: Sequence[str] = ()) -> list[str]:
    """Lines of aligned columns; the columns named in `right` are aligned to the right."""
    cells = [[clean(value) for value in row] for row in rows]
    widths = [max(len(header), *(len(row[i]) for row in cells), 0) for i, header in enumerate(headers)]
    to_right = {i for i, header in enumerate(headers) if header in right}

    def line(row: Sequence[str]) -> str:
        padded = (row[i].rjust(width) if i in to_right else row[i].ljust(width) for i, width in enumerate(widths))
        return "  ".join(padded).rstrip()

    return [paint(line(headers), "dim"), *(line(row) for row in cells)]


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


def locators(entries: Sequence[dict[str, Any]]) -> str:
    """RLOCs in one cell: "203.0.113.5 (1/100)", priority and weight in parentheses."""
    found = []
    for entry in entries:
        mark = "" if entry.get("is_reachable", True) else " down"
        rtt = f" {milliseconds(entry['rtt_ms'])}" if entry.get("rtt_ms") is not None else ""
        found.append(f"{entry['address']} ({entry['priority']}/{entry['weight']}){rtt}{mark}")
    return ", ".join(found) or "-"

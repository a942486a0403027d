"""Draws moves as SVG: a time line with the steps of each, and a bar for the silence of each direction."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from lispmob.terminal.text import clean, moment

WIDTH: Final = 960
LEFT: Final = 90  # of the scale
RIGHT: Final = 30
TOP: Final = 34
STEP_HEIGHT: Final = 14
COLOURS: Final = {"register": "#1f6feb", "notify": "#2da44e", "smr": "#8250df", "uplink": "#bc4c00"}
OTHER: Final = "#57606a"
INK: Final = "#1f2328"
BARS: Final = (("out", "first-packet-out", "#fb8f44"), ("in", "first-packet-in", "#54aeff"))


def plot(moves: Sequence[dict[str, Any]]) -> str:
    """An SVG document of these moves, oldest first; each has its own scale, in ms since the change was noticed."""
    blocks, height = [], 10
    for move in moves:
        lines, taken = _move(move, height)
        blocks += lines
        height += taken
    if not moves:
        blocks, height = [_text(20, 30, "no move since lispd started")], 50
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}"'
    style = "font-family:sans-serif;font-size:11px"
    return "\n".join(
        [f'{head} style="{style}">', '<rect width="100%" height="100%" fill="white"/>', *blocks, "</svg>", ""]
    )


def _move(move: dict[str, Any], top: int) -> tuple[list[str], int]:
    """The elements of one move, and its height."""
    steps, bars = move["steps"], _bars(move)
    times = [0.0, *(step["at_ms"] for step in steps), *(edge for _, begin, end, _ in bars for edge in (begin, end))]
    low, high = min(times), max(times)
    span = max(high - low, 1.0)

    def x(at_ms: float) -> float:
        return float(round(LEFT + (at_ms - low) / span * (WIDTH - LEFT - RIGHT), 1))

    reasons = "; ".join(clean(reason) for reason in move["reasons"])
    title = f"#{move['id']}  {moment(move['started_at'], with_date=True)}  {reasons}"
    lines = [_text(10, top + 14, title, weight="bold")]
    y = top + TOP
    for name, begin, end, colour in bars:
        width = max(1.0, round(x(end) - x(begin), 1))
        lines.append(f'<rect x="{x(begin)}" y="{y - 9}" width="{width}" height="10" fill="{colour}"/>')
        lines.append(_text(10, y, f"gap {name}"))
        lines.append(_text(x(begin) + 3, y, f"{end - begin:.1f} ms"))
        y += STEP_HEIGHT
    axis = y + 2
    lines.append(f'<line x1="{LEFT}" y1="{axis}" x2="{WIDTH - RIGHT}" y2="{axis}" stroke="#8c959f"/>')
    for at_ms in _ticks(low, high):
        lines.append(f'<line x1="{x(at_ms)}" y1="{axis - 3}" x2="{x(at_ms)}" y2="{axis + 3}" stroke="#8c959f"/>')
        lines.append(_text(x(at_ms), axis + 14, f"{at_ms:g} ms", anchor="middle", colour=OTHER))
    y = axis + 14 + STEP_HEIGHT
    for step in steps:
        colour, at = COLOURS.get(step["what"], OTHER), x(step["at_ms"])
        said = f"{step['at_ms']:+.1f} ms  {clean(step['what'])}  {clean(step['detail'])}".rstrip()
        # put the text on the side of its mark that has room
        is_late = at > WIDTH * 0.6
        lines.append(f'<line x1="{at}" y1="{axis}" x2="{at}" y2="{y - 4}" stroke="{colour}" stroke-opacity="0.35"/>')
        lines.append(f'<circle cx="{at}" cy="{y - 4}" r="3" fill="{colour}"/>')
        lines.append(_text(at + (-7 if is_late else 7), y, said, anchor="end" if is_late else "start", colour=colour))
        y += STEP_HEIGHT
    return lines, y + 12 - top


def _bars(move: dict[str, Any]) -> list[tuple[str, float, float, str]]:
    """(direction, begin, end, colour) of each known silence: it ended with the first packet after it."""
    found = []
    for name, what, colour in BARS:
        if (gap := move[f"gap_{name}_ms"]) is not None:
            ends = [step["at_ms"] for step in move["steps"] if step["what"] == what]
            end = ends[0] if ends else gap
            found.append((name, end - gap, end, colour))
    return found


def _ticks(low: float, high: float) -> list[float]:
    """Round numbers within the scale: 1, 2 or 5 times a power of ten apart, at most a dozen."""
    span = max(high - low, 1.0)
    apart = next(base * 10**power for power in range(-1, 9) for base in (1, 2, 5) if span / (base * 10**power) <= 10)
    first = -int(-low // apart) * apart if low > 0 else int(low / apart) * apart
    return [round(first + number * apart, 6) for number in range(int((high - first) / apart) + 1)]


def _text(x: float, y: float, text: str, *, anchor: str = "start", colour: str = INK, weight: str = "normal") -> str:
    from xml.sax.saxutils import escape

    style = f'text-anchor="{anchor}" fill="{colour}" font-weight="{weight}"'
    return f'<text x="{x}" y="{y}" {style} xml:space="preserve">{escape(text)}</text>'

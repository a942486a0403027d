"""The tables at the end of the demonstration."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from lispmob.lab.demo.screen import Table
from lispmob.lab.handover import Handover
from lispmob.lab.report import Check, Value, Verdict

_WORDS: Final = {Verdict.REACHED: "ok", Verdict.MISSED: "goal missed", Verdict.ABSENT: "FAILED"}


def moves_table(handovers: Sequence[Handover]) -> Table:
    """Every move: packets lost, and milliseconds from the loss to the first packet by the new path."""
    rows = []
    for handover in handovers:
        out, back = handover.ways()
        figures = (out.gap_s, back.gap_s, out.silence_s, back.silence_s)
        rows.append((handover.title, str(out.lost), str(back.lost), *(_ms(figure) for figure in figures)))
    columns = ("move", "lost out", "lost in", "gap out ms", "gap in ms", "silence out ms", "silence in ms")
    return Table("Moves (gap: from the loss to the first packet that arrives afterwards)", columns, tuple(rows))


def checks_table(checks: Sequence[Check]) -> Table:
    """Every claim: result, measurement, goal."""
    rows = tuple(
        (check.name, _WORDS[check.verdict], _text(check.value), _text(check.goal), check.unit) for check in checks
    )
    return Table("Checks", ("claim", "verdict", "measured", "goal", "unit"), rows)


def _ms(seconds: float | None) -> str:
    return "never" if seconds is None else f"{seconds * 1000:.1f}"


def _text(value: Value) -> str:
    if value is None:
        return "-"
    return f"{value:.2f}" if isinstance(value, float) else str(value)

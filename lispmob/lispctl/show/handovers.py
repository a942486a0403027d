"""lispctl handovers: the timeline of the latest moves."""

from __future__ import annotations

from argparse import ArgumentParser, ArgumentTypeError, Namespace
from typing import Any

from lispmob.api.client import Client
from lispmob.errors import LispError
from lispmob.lispctl.command import Command, show
from lispmob.terminal.text import clean, milliseconds, moment, paint, plural


def add_arguments(parser: ArgumentParser) -> None:
    """Options of this command."""
    parser.add_argument("-n", "--last", type=_count, metavar="N", help="only the last N moves")
    parser.add_argument("--plot", metavar="FILE", help="draw them into an SVG file")


def _count(text: str) -> int:
    if not text.isdecimal():
        raise ArgumentTypeError(f"{text!r} is not a number of moves")
    return int(text)


def run(client: Client, arguments: Namespace) -> int:
    """Print the moves."""
    moves = client.call("handovers")
    if arguments.last is not None:
        moves = moves[-arguments.last :] if arguments.last > 0 else []
    if arguments.plot is None:
        return show(moves, arguments, handover_lines)
    from lispmob.lispctl.handover_plot import plot

    try:
        with open(arguments.plot, "w", encoding="utf-8") as file:
            file.write(plot(moves))
    except OSError as error:
        raise LispError(f"{arguments.plot}: {error.strerror}") from None
    return show(moves, arguments, lambda drawn: [f"drew {plural(len(drawn), 'move')} into {arguments.plot}"])


def handover_lines(moves: list[dict[str, Any]]) -> list[str]:
    """The moves for people, oldest first."""
    if not moves:
        return ["no move since lispd started"]
    lines: list[str] = []
    for move in moves:
        reasons = "; ".join(clean(reason) for reason in move["reasons"])
        head = f"#{move['id']}  {moment(move['started_at'], with_date=True)}"
        lines.append(f"{paint(head, 'bold')}  {reasons}")
        width = max((len(clean(step["what"])) for step in move["steps"]), default=0)
        for step in move["steps"]:
            line = f"  {step['at_ms']:+10.1f} ms  {clean(step['what']):<{width}}  {clean(step['detail'])}"
            lines.append(line.rstrip())
        lines.append(
            f"  forwarding moved after {milliseconds(move.get('moved_after_ms'))}; "
            f"gap out {milliseconds(move['gap_out_ms'])}, in {milliseconds(move['gap_in_ms'])}"
        )
        if move.get("left") or move.get("took"):
            left, took = (", ".join(map(clean, move[key])) or "nothing" for key in ("left", "took"))
            lines.append(f"  from {left} to {took}; {plural(move['lost'], 'packet')} lost here")
    return lines


COMMAND = Command("handovers", "show the timeline of the latest moves and the gaps they left", run, add_arguments)

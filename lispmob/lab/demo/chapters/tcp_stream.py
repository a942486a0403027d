"""The TCP stream that was opened before the moves: whether it is alive and intact."""

from __future__ import annotations

from typing import Final

from lispmob.lab.demo.stage import Stage
from lispmob.lab.report import fact

CLAIMS: Final = ("tcp-stream.alive",)


def play(stage: Stage) -> None:
    """Wait for the last octets of the connection, and compare."""
    stage.start_tcp()  # if played alone, it is a stream without a move
    assert stage.tcp is not None
    result = stage.tcp.finish()
    stage.report.event(
        "tcp-stream",
        result.stalled_at or stage.report.began_at,
        octets_sent=result.sent,
        octets_returned=result.returned,
        is_intact=result.is_intact,
        longest_stall_ms=round(result.longest_stall_s * 1000, 2),
        error=result.error,
    )
    stage.report.check(fact("tcp-stream.alive", ok=result.is_alive, value=result.returned, unit="octets returned"))
    stage.screen.say(
        f"  {result.returned} of {result.sent} octets came back{'' if result.is_intact else ', changed'}; "
        f"longest stall {result.longest_stall_s * 1000:.0f} ms{f'; {result.error}' if result.error else ''}"
    )

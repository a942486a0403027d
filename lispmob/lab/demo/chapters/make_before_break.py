"""Make-before-break: uplink 1 is lost while uplink 2 is up, in every way in which it can be lost."""

from __future__ import annotations

import time
from typing import Final

from lispmob.lab import move as moves
from lispmob.lab.demo.stage import A, B, Stage
from lispmob.lab.move import LEAVES_ROOM, Kind, Move
from lispmob.lab.report import fact, figure
from lispmob.lab.tcp_stream import TcpStream

CLAIMS: Final = ("make-before-break.lost", "make-before-break.worst-tcp-gap-ms")
_LOSSES: Final = (Kind.ROUTE_REMOVED, Kind.ADDRESS_REMOVED, Kind.LINK_DOWN)
_REST_S: Final = {True: 1.0, False: 3.0}  # so that the limits on SMRs are full again before the next loss
_UPLINK: Final = "wlan0"
_PORT: Final = 47_300
_PACE_S: Final = 0.001  # so that a packet is always in flight when the uplink goes
_MORE: Final = 1  # removals of the address beyond the observed one; `lab/bench/removals.py` performs a hundred
_TCP_GOAL_MS: Final = 250.0  # a round trip of 80 ms until a loss is detected, and another to repair it


def play(stage: Stage) -> None:
    """Lose uplink 1 and restore it, three times over.

    The claim counts the moves after which the old link still carries packets: the removal of a default route or an
    address, and the return of an uplink. A link that is cut destroys the packets in flight to it; the report has that
    loss as the cost of that move. A TCP stream runs during all moves; its stalls are measured by the kernel's counts.
    """
    stage.start_tcp()
    lost = 0
    with TcpStream(stage.party(A), stage.party(B), port=_PORT, pace_s=_PACE_S) as stream:
        for kind in _LOSSES:
            name = kind.value.replace(" ", "-")
            loss, back = Move(kind, "a", _UPLINK), Move(Kind.RESTORED, "a", _UPLINK)
            for move, title in ((loss, name), (back, f"{name}.restored")):
                handover = stage.observe(title, move)
                time.sleep(_REST_S[handover.is_break])
                if move.kind in LEAVES_ROOM:
                    lost += handover.lost
        for _ in range(_MORE):
            for kind in (Kind.ADDRESS_REMOVED, Kind.RESTORED):
                moves.perform(stage.lab, Move(kind, "a", _UPLINK))
                time.sleep(_REST_S[kind is not Kind.RESTORED])
        result = stream.finish()
    stage.report.check(fact(CLAIMS[0], ok=lost == 0, value=lost, unit="packets", goal=0))
    worst_ms = result.longest_tcp_gap_s * 1000 if result.is_alive else None
    stage.report.check(figure(CLAIMS[1], worst_ms, "ms", _TCP_GOAL_MS))

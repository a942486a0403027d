"""Make-before-break: uplink 1 is lost while uplink 2 is up, in every way in which it can be lost."""

from __future__ import annotations

import time
from typing import Final

from lispmob.lab.demo.stage import Stage
from lispmob.lab.move import LEAVES_ROOM, Kind, Move
from lispmob.lab.report import fact

CLAIMS: Final = ("make-before-break.lost",)
_LOSSES: Final = (Kind.ROUTE_REMOVED, Kind.ADDRESS_REMOVED, Kind.LINK_DOWN)
_REST_S: Final = {True: 1.0, False: 3.0}  # the limits on SMRs are full again before an uplink is lost the next time
_UPLINK: Final = "wlan0"


def play(stage: Stage) -> None:
    """Lose uplink 1 and get it back, three times over.

    The claim counts the moves after which the old link still carries packets: a default route or an address that is
    taken away, and an uplink that comes back. A link that is cut destroys what is on its way to it; that loss is in the
    report, as what that move costs.
    """
    stage.start_tcp()
    lost = 0
    for kind in _LOSSES:
        name = kind.value.replace(" ", "-")
        for move, title in ((Move(kind, "a", _UPLINK), name), (Move(Kind.RESTORED, "a", _UPLINK), f"{name}.restored")):
            handover = stage.observe(title, move)
            time.sleep(_REST_S[handover.is_break])
            if move.kind in LEAVES_ROOM:
                lost += handover.lost
    stage.report.check(fact("make-before-break.lost", ok=lost == 0, value=lost, unit="packets", goal=0))

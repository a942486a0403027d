"""The journal of moves: what happened, in which order, and how long packets were interrupted. Pure.

A move begins when the interface monitor reports a change. Each later step (register, notify, SMR, first packet, and the
datapath's switch to the remaining uplinks) is recorded in milliseconds from the arrival of the event (the kernel's, or
NetworkManager's). The gap of a direction is the pause between the last packet before the event and the first one after
it; it is `None` until a packet has passed, and it counts only when packets were flowing before the event (within
`FLOWING_S`): silence is not a loss.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from enum import Enum
from typing import Final

import msgspec

KEPT_MOVES: Final = 64  # ours: a day of travel; each is under 2 KiB
KEPT_STEPS: Final = 64  # ours: a longer list could not be read anyway
SETTLED_S: Final = 5.0  # ours: later losses are not caused by the move
FLOWING_S: Final = 1.0  # ours: in a slower stream no gap is noticed


class Direction(Enum):
    """The direction of a packet, seen from the node."""

    OUT = "out"
    IN = "in"


class Step(msgspec.Struct, frozen=True):
    """One step of a move; `at_ms` counts from the event that began it."""

    at_ms: float
    what: str
    detail: str


class Handover(msgspec.Struct):
    """One move. `began` is monotonic seconds, `began_wall` the same moment as seconds since 1970.

    `left` and `took`: the uplinks in use before and after. `lost`: packets that the datapath could not send meanwhile.
    """

    number: int
    began: float
    began_wall: float
    reasons: tuple[str, ...]
    steps: list[Step] = msgspec.field(default_factory=list)
    moved_after_ms: float | None = None
    gap_out_ms: float | None = None
    gap_in_ms: float | None = None
    left: tuple[str, ...] = ()
    took: tuple[str, ...] = ()
    unsent_before: int = 0
    lost: int = 0


class HandoverJournal:
    """Collects moves, newest last; bounded."""

    def __init__(self) -> None:
        self._moves: deque[Handover] = deque(maxlen=KEPT_MOVES)
        self._number = 0

    @property
    def moves(self) -> Sequence[Handover]:
        """All stored moves, oldest first."""
        return self._moves

    def on_change(
        self, reasons: Sequence[str], now: float, wall: float, left: Sequence[str] = (), unsent: int = 0
    ) -> Handover:
        """The uplinks changed: a new move begins. `unsent`: the total of packets that the datapath could not send."""
        self._number += 1
        move = Handover(self._number, now, wall, tuple(reasons), left=tuple(left), unsent_before=unsent)
        self._moves.append(move)
        for reason in reasons:
            self._note(move, "uplink", reason, now)
        return move

    def on_moved(self, now: float, took: Sequence[str] = ()) -> None:
        """The datapath sends by the remaining uplinks of the newest move."""
        if self._moves:
            self._moves[-1].moved_after_ms = self._after_ms(self._moves[-1], now)
            self._moves[-1].took = tuple(took)

    def on_unsent(self, unsent: int, now: float) -> None:
        """The total of packets that the datapath could not send; long after a move it no longer counts for it."""
        if self._moves and now - self._moves[-1].began <= SETTLED_S:
            self._moves[-1].lost = max(0, unsent - self._moves[-1].unsent_before)

    def on_step(self, what: str, detail: str, now: float) -> None:
        """A step of the newest move; ignored before the first move."""
        if self._moves:
            self._note(self._moves[-1], what, detail, now)

    def on_packet(self, direction: Direction, at: float, last_before: float | None) -> None:
        """The first packet since the event passed at `at`; the last one before it at `last_before`."""
        if not self._moves:
            return
        move = self._moves[-1]
        self._note(move, "first-packet", direction.value, at)
        if last_before is None or move.began - last_before > FLOWING_S:
            return
        gap_ms = round((at - last_before) * 1000, 3)
        if direction is Direction.OUT:
            move.gap_out_ms = gap_ms
        else:
            move.gap_in_ms = gap_ms

    def _note(self, move: Handover, what: str, detail: str, now: float) -> None:
        if len(move.steps) < KEPT_STEPS:
            move.steps.append(Step(self._after_ms(move, now), what, detail))

    @staticmethod
    def _after_ms(move: Handover, now: float) -> float:
        return round(max(0.0, now - move.began) * 1000, 3)

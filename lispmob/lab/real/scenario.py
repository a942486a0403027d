"""A scenario: a network as users have it, an event, and the figure that shows whether lispd copes with it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from lispmob.lab.real.world import Gap, World
from lispmob.lab.report import Check, fact, figure

GAP_GOAL_S = 5.0
"""Within this time after a start or a loss, packets pass in both directions, if there is a working path."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """`name` is the check's name after "real."; `play` builds its part of the world and returns the check."""

    name: str
    title: str  # a line for listings
    play: Callable[[str, World], Check]

    @property
    def check(self) -> str:
        return f"real.{self.name}"

    def run(self, world: World) -> Check:
        """Play it in a new world. Raises KernelRefused or ProcessFailed."""
        return self.play(self.check, world)


def lost_check(name: str, sent: int, lost: int) -> Check:
    """No packet of `sent` may be lost; nothing sent is a failure, too."""
    return fact(name, ok=sent > 0 and lost == 0, value=lost, unit=f"packets lost of {sent}", goal=0)


def gap_check(name: str, gap: Gap, goal_s: float = GAP_GOAL_S) -> Check:
    """The worse direction of a gap, compared with its goal."""
    return figure(name, gap.worst_s, "s", goal_s)

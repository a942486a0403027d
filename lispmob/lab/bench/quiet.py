"""Detects whether other programs use the machine during a measurement; the report then contains a warning."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_STAT: Final = Path("/proc/stat")
_LOOK_S: Final = 1.0
_BUSY_MOST: Final = 0.05  # ours: of all processors, before anything of ours runs
_STEAL_MOST: Final = 0.01


@dataclass(frozen=True, slots=True)
class Ticks:
    """The counters of the first line of /proc/stat, since boot, in ticks of all processors."""

    busy: int
    idle: int
    steal: int

    @classmethod
    def parse(cls, text: str) -> Ticks:
        """Parse /proc/stat (proc(5)): busy is user, nice, system, irq and softirq."""
        user, nice, system, idle, wait, irq, softirq, steal = (int(word) for word in text.splitlines()[0].split()[1:9])
        return cls(user + nice + system + irq + softirq, idle + wait, steal)

    def shares_since(self, before: Ticks) -> tuple[float, float]:
        """Busy and stolen time, each as a share of all processors' time; 0 when no time has passed."""
        busy, steal = self.busy - before.busy, self.steal - before.steal
        whole = busy + steal + self.idle - before.idle
        return (busy / whole, steal / whole) if whole else (0.0, 0.0)


class Quiet:
    """Observes the machine before and after a run. Times are CLOCK_MONOTONIC, shares are of all processors."""

    def __init__(
        self,
        read: Callable[[], str] = lambda: _STAT.read_text(encoding="ascii"),
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._read = read
        self._sleep = sleep
        self.busy_before = self._busy_for_a_moment()
        self._begun = self._ticks()

    def warnings(self) -> list[str]:
        """To be called after the run: warnings for readers of the figures; none on a quiet machine."""
        _, stolen = self._ticks().shares_since(self._begun)
        told = [
            f"{when} the run other programs kept {100 * busy:.0f} % of the processors busy"
            for when, busy in (("before", self.busy_before), ("after", self._busy_for_a_moment()))
            if busy > _BUSY_MOST
        ]
        if stolen > _STEAL_MOST:
            told.append(f"the host took away {100 * stolen:.0f} % of the processors' time during the run")
        return told

    def _busy_for_a_moment(self) -> float:
        before = self._ticks()
        self._sleep(_LOOK_S)
        return self._ticks().shares_since(before)[0]

    def _ticks(self) -> Ticks:
        return Ticks.parse(self._read())

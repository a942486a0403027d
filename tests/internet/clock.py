"""Virtual time: what is due, in order, and the hosts' own deadlines. Seeded: a run can be repeated."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from itertools import count
from random import Random
from typing import Protocol

MAX_STEPS = 400_000  # a test that needs more is in an endless loop


class Host(Protocol):
    """A host with timers."""

    def wake_at(self) -> float | None: ...
    def on_timer(self, now: float) -> None: ...


class Clock:
    """One agenda for everything in memory. At one moment what is due precedes timers, and hosts keep their order."""

    def __init__(self, seed: int = 0, now: float = 0.0) -> None:
        self.now = now
        self.random = Random(seed)
        self.hosts: list[Host] = []
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._order = count()

    def at(self, moment: float, do: Callable[[], None]) -> None:
        """Do this at that moment."""
        heapq.heappush(self._due, (moment, next(self._order), do))

    def after(self, seconds: float, do: Callable[[], None]) -> None:
        """Do this in so many seconds."""
        self.at(self.now + seconds, do)

    def run(self, seconds: float) -> None:
        """Advance the time by so many seconds."""
        self.run_to(self.now + seconds)

    def run_to(self, end: float) -> None:
        """Advance the time to this moment."""
        for _ in range(MAX_STEPS):
            timers = [(at, host) for host in self.hosts if (at := host.wake_at()) is not None]
            at, host = min(timers, key=lambda timer: timer[0], default=(float("inf"), None))
            due = self._due[0][0] if self._due else float("inf")
            if min(at, due) > end:
                self.now = end
                return
            self.now = max(self.now, min(at, due))
            if due <= at:
                heapq.heappop(self._due)[2]()
            elif host is not None:
                host.on_timer(self.now)
        raise AssertionError(f"more than {MAX_STEPS} steps until {end} s")

    def run_until(self, is_true: Callable[[], bool], within_s: float, step_s: float = 0.001) -> float:
        """The seconds until the condition held; AssertionError when it takes longer."""
        start = self.now
        while not is_true():
            assert self.now - start < within_s, f"not within {within_s} s"
            self.run(step_s)
        return self.now - start

"""One direction of a line, pure: delays and drops frames."""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from random import Random


@dataclass(frozen=True, slots=True)
class Impairment:
    """What a line does to the frames of each direction."""

    delay_s: float = 0.0
    jitter_s: float = 0.0  # added to the delay, uniform in [0, jitter_s); so frames may overtake each other
    loss: float = 0.0  # probability for a frame; a segmentation super-frame counts as one
    rate_bit_s: float = 0.0  # 0: unlimited
    queue_frames: int = 10_000  # a frame that finds more waiting frames is dropped
    is_cut: bool = False  # no frame enters; frames in flight arrive

    def __post_init__(self) -> None:
        if min(self.delay_s, self.jitter_s, self.rate_bit_s) < 0 or not 0 <= self.loss <= 1 or self.queue_frames < 1:
            raise ValueError(f"not a line that can exist: {self}")


@dataclass(slots=True)
class Counters:
    """The frames of one direction, by what happened to them."""

    passed: int = 0
    lost: int = 0
    overflowed: int = 0
    refused: int = 0  # the kernel refused to send it


class Line:
    """One direction of a line. Times are seconds of any one clock."""

    def __init__(self, impairment: Impairment, random: Random) -> None:
        self.impairment = impairment
        self.counters = Counters()
        self._random = random
        self._waiting: list[tuple[float, int, bytes]] = []
        self._order = 0
        self._free_at = 0.0

    def take(self, frame: bytes, arrived_at: float) -> None:
        """A frame enters the line at `arrived_at`; it is queued until its time, or counted as lost."""
        line = self.impairment
        if line.is_cut or (line.loss and self._random.random() < line.loss):
            self.counters.lost += 1
            return
        if len(self._waiting) >= line.queue_frames:
            self.counters.overflowed += 1
            return
        sent_at = arrived_at
        if line.rate_bit_s:
            sent_at = self._free_at = max(arrived_at, self._free_at) + 8 * len(frame) / line.rate_bit_s
        due_at = sent_at + line.delay_s + (self._random.random() * line.jitter_s if line.jitter_s else 0.0)
        # Breaks ties, so that frames with the same time keep their order.
        self._order += 1
        heapq.heappush(self._waiting, (due_at, self._order, frame))

    def wake_at(self) -> float | None:
        """When the next frame leaves; None without a waiting frame."""
        return self._waiting[0][0] if self._waiting else None

    def release(self, now: float) -> list[bytes]:
        """The frames that are due, in their order."""
        out = []
        while self._waiting and self._waiting[0][0] <= now:
            out.append(heapq.heappop(self._waiting)[2])
        return out

"""The quality of one path from its probes: round trip, its variation, and loss."""

from __future__ import annotations

from collections import deque
from typing import Final

import msgspec

WINDOW: Final = 64  # ours: half an hour of probes at the default interval; one of them is 1.6 percent
SMOOTHING: Final = 1 / 8  # RFC 6298, 2.3: alpha
VARIATION_SMOOTHING: Final = 1 / 4  # RFC 6298, 2.3: beta
JITTER_SMOOTHING: Final = 1 / 16  # RFC 3550, 6.4.1


class PathQuality(msgspec.Struct):
    """Running estimates; all None until the first answer, loss until the first outcome."""

    rtt_s: float | None = None
    rtt_variation_s: float = 0.0
    rtt_min_s: float | None = None
    rtt_last_s: float | None = None
    jitter_s: float | None = None
    _outcomes: deque[bool] = msgspec.field(default_factory=lambda: deque(maxlen=WINDOW))

    @property
    def loss(self) -> float | None:
        """The share of unanswered probes among the last 64."""
        return self._outcomes.count(False) / len(self._outcomes) if self._outcomes else None

    @property
    def probes(self) -> int:
        """How many outcomes the loss is computed from."""
        return len(self._outcomes)

    def on_answer(self, rtt_s: float) -> None:
        """A probe was answered in time."""
        self._outcomes.append(True)
        self._measure(rtt_s)

    def on_lost(self) -> None:
        """No answer came in time."""
        self._outcomes.append(False)

    def on_late(self, rtt_s: float) -> None:
        """The answer to a probe that had counted as lost: the path is slow, not lossy."""
        for place in range(len(self._outcomes) - 1, -1, -1):
            if not self._outcomes[place]:
                self._outcomes[place] = True
                break
        self._measure(rtt_s)

    def _measure(self, rtt_s: float) -> None:
        if self.rtt_s is None:
            self.rtt_s, self.rtt_variation_s, self.rtt_min_s = rtt_s, rtt_s / 2, rtt_s
        else:
            deviation_s = abs(self.rtt_s - rtt_s)
            self.rtt_variation_s += VARIATION_SMOOTHING * (deviation_s - self.rtt_variation_s)
            self.rtt_s += SMOOTHING * (rtt_s - self.rtt_s)
            self.rtt_min_s = min(rtt_s, self.rtt_min_s or rtt_s)
        if self.rtt_last_s is not None:
            difference_s = abs(rtt_s - self.rtt_last_s)
            before_s = self.jitter_s or 0.0
            self.jitter_s = before_s + JITTER_SMOOTHING * (difference_s - before_s)
        self.rtt_last_s = rtt_s

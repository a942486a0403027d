"""Whether a path that works loses packets all the time: from the last probes, without any probe of its own.

Probes come in volleys when an answer is missing, and a volley ends with the first answer, so a count of all probes says
little. Therefore only the first probe of each second counts: it was sent whatever became of the others.

A path begins to be lossy when such probes were lost in several separate seconds. It ends when the share is small, when
a number of seconds in a row had none, or when none was lost for minutes. A path that dies is another problem.
"""

from __future__ import annotations

from typing import Final, NamedTuple

SECONDS_MIN: Final = 10  # ours: with probes in them; less shows nothing about a share
LOSSY_MIN: Final = 8  # ours: of these with a loss, so that neither a lost probe nor an interruption counts
STRONG: Final = 0.30  # ours: of a share so large, fewer losses prove as much
STRONG_MIN: Final = 5
BEGINS: Final = 0.20  # ours: with less, the paths that often lose a twentieth would come and go
ENDS: Final = 0.04  # ours
CLEAN_ROW: Final = 30  # ours: at a loss of 15 percent, a loss is followed by so many once in 130 times
COUNTS_S: Final = 900.0  # ours: thirty probes at the default interval
QUIET_S: Final = 600.0  # ours: twenty of them
SECONDS_MAX: Final = 64  # ours: with fewer, small losses come and go


class Loss(NamedTuple):
    """The share of the probes that were not answered, how many count, and over how many seconds until now."""

    share: float
    probes: int
    over_s: float


class RecentLosses:
    """The outcomes of the recent probes of one path. Times are monotonic seconds, those when the probes were sent."""

    def __init__(self) -> None:
        self._firsts: dict[int, tuple[float, bool]] = {}  # by second: when it was sent; is it lost
        self._is_lossy = False

    @property
    def is_lossy(self) -> bool:
        """As of the last outcome."""
        return self._is_lossy

    def is_known(self, now: float) -> bool:
        """True when the recent probes are enough to tell."""
        return len(self._recent(now)) >= SECONDS_MIN

    def loss(self, now: float) -> Loss | None:
        """The loss of a path that is lossy now; None if it is not, or is not known to be."""
        recent = self._recent(now)
        lost_at = [sent_at for sent_at, is_lost in recent if is_lost]
        if not self._is_lossy or not lost_at or now - max(lost_at) > QUIET_S:
            return None
        return Loss(_share(recent), len(recent), now - recent[0][0])

    def on_outcome(self, is_answered: bool, sent_at: float, now: float) -> bool:
        """A probe was answered, or not in time. True when that made the path lossy, or no longer lossy."""
        second = int(sent_at)
        known = self._firsts.get(second)
        if known is None or sent_at < known[0]:
            self._firsts[second] = sent_at, not is_answered
            while len(self._firsts) > SECONDS_MAX:
                del self._firsts[min(self._firsts)]
        return self._judge(now)

    def on_late(self, sent_at: float, now: float) -> bool:
        """The answer to a probe that had counted as lost: the path is slow. The same as in `on_outcome`."""
        if self._firsts.get(int(sent_at)) == (sent_at, True):
            self._firsts[int(sent_at)] = sent_at, False
        return self._judge(now)

    def clear(self) -> None:
        """The path is dead, or may be another one."""
        self._firsts.clear()
        self._is_lossy = False

    def _recent(self, now: float) -> list[tuple[float, bool]]:
        return sorted(first for first in self._firsts.values() if now - first[0] <= COUNTS_S)

    def _judge(self, now: float) -> bool:
        was_lossy, recent = self._is_lossy, self._recent(now)
        lost_at = [sent_at for sent_at, is_lost in recent if is_lost]
        share = _share(recent)
        if was_lossy:
            last = recent[-CLEAN_ROW:]
            is_clean = len(last) == CLEAN_ROW and not any(is_lost for _, is_lost in last)
            is_quiet = not lost_at or now - max(lost_at) > QUIET_S
            if is_clean or is_quiet or share <= ENDS:
                self.clear()  # what was lost before must not count again
        else:
            is_proven = len(lost_at) >= LOSSY_MIN or (share >= STRONG and len(lost_at) >= STRONG_MIN)
            self._is_lossy = is_proven and len(recent) >= SECONDS_MIN and share >= BEGINS
        return self._is_lossy != was_lossy


def _share(firsts: list[tuple[float, bool]]) -> float:
    return sum(is_lost for _, is_lost in firsts) / len(firsts) if firsts else 0.0

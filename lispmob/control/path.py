"""One path, from an RLOC of ours to one of somebody else's: is it alive, and when to ask.

A live path is asked once per interval, unless data proves it. When an answer stays away, a volley follows: several
probes within the first half of one more timeout, so that a path that loses a tenth of its packets is not taken for
dead, and a dead one is still left after two timeouts. Data that goes unanswered starts the volley at once, and the
verdict then takes two round trips. A path that has just died over and over must answer more than once.
"""

from __future__ import annotations

from enum import Enum
from typing import Final, NamedTuple

from lispmob.control.path_quality import PathQuality
from lispmob.values import dataclass
from lispmob.wire.address import EidPrefix, IpAddress

VOLLEY: Final = 7  # ours: with 10 percent lost each way, all of them and the first get lost once in 600,000 rounds
UNSTABLE_S: Final = 300.0  # ours: deaths within this time make the next coming-up harder
ANSWERS_MAX: Final = 5
QUICKEST_S: Final = 0.02  # ours: below this a busy host, not the path, would be measured
DOWN_FIRST_S: Final = 2.0
LONGEST_PATIENCE_S: Final = 1.0  # ours: false alarms make us slower to ask, but not slower than this


class Pair(NamedTuple):
    """A local and a remote RLOC of one family."""

    local: IpAddress
    remote: IpAddress


@dataclass(frozen=True, slots=True)
class ProbeConfig:
    """How to probe; the defaults are LISPmob's. `measures`: ask at every interval, even while data proves the path."""

    interval_s: float = 30.0
    tries: int = 2
    timeout_s: float = 1.0
    backoff_max_s: float = 60.0
    jitter: float = 0.25
    measures: bool = False

    def __post_init__(self) -> None:
        assert min(self.interval_s, self.tries, self.timeout_s, self.backoff_max_s) > 0, self
        assert 0 <= self.jitter < 1, self


class State(Enum):
    """What is known of a path. Only DOWN keeps packets off it."""

    UNKNOWN = "unknown"
    UP = "up"
    VERIFYING = "verifying"
    DOWN = "down"


TRANSITIONS: Final[dict[State, frozenset[State]]] = {
    State.UNKNOWN: frozenset({State.UP, State.VERIFYING}),
    State.UP: frozenset({State.VERIFYING, State.UNKNOWN}),
    State.VERIFYING: frozenset({State.UP, State.DOWN, State.UNKNOWN}),
    State.DOWN: frozenset({State.UP, State.UNKNOWN}),
}


class Path:
    """The timetable of one pair. It says how many probes are due; `probing.py` sends them."""

    def __init__(self, pair: Pair, eid: EidPrefix, first_at: float) -> None:
        self.pair = pair
        self.eid = eid
        self.state = State.UNKNOWN
        self.quality = PathQuality()
        self.since = first_at
        self.why = "new"
        self.wake_at = first_at
        self.last_heard: float | None = None
        self._deaths: list[float] = []
        self._answers = 0
        self._was_answered = False
        self._awaited_until: float | None = None  # an answer to the single probe of a round
        self._tries_left = 0
        self._volley_left = 0
        self._volley_pause_s = 0.0
        self._round_ends_at = 0.0
        self._backoff_s = 0.0
        self._alarms = 0

    @property
    def is_down(self) -> bool:
        """True when packets should not go this way."""
        return self.state is State.DOWN

    def timeout_s(self, config: ProbeConfig) -> float:
        """How long an answer may take: the configured time, or longer on a path that is known to be slow."""
        if self.quality.rtt_s is None:
            return config.timeout_s
        return max(config.timeout_s, self.quality.rtt_s + 4 * self.quality.rtt_variation_s)

    def patience_s(self, config: ProbeConfig) -> float | None:
        """How long data may go unanswered before that is suspicious; None before the first round trip is known."""
        if self.quality.rtt_s is None:
            return None
        usual_s = max(self.quality.rtt_s, QUICKEST_S)
        return min(usual_s * float(1 << self._alarms), max(LONGEST_PATIENCE_S, 4 * usual_s), config.interval_s)

    def on_due(self, config: ProbeConfig, jitter: float, now: float) -> bool:
        """The time has come (`wake_at`): True when one probe is to be sent now. Call again until it is not due."""
        if self.state is State.VERIFYING:
            return self._verify(config, now)
        if self._awaited_until is not None and self.state is not State.DOWN:
            self._suspect("no answer", self.timeout_s(config), max(config.tries - 1, 1), now)
            return self._verify(config, now)
        if self.state is State.DOWN:
            if not self._was_answered:
                self._answers = 0
                self._backoff_s = min(self._backoff_s * 2, config.backoff_max_s)
            self._was_answered = False
            self.wake_at = now + _spread(self._backoff_s, config, jitter)
            return True
        if self.last_heard is not None and not config.measures and self.state is State.UP:
            proven_until = self.last_heard + _spread(config.interval_s, config, jitter)
            if proven_until > now:
                self.wake_at = proven_until
                return False
        self._awaited_until = self.wake_at = now + self.timeout_s(config)
        return True

    def on_answer(self, rtt_s: float, is_late: bool, config: ProbeConfig, jitter: float, now: float) -> None:
        """A probe was answered; `is_late`: after it had been counted as lost."""
        (self.quality.on_late if is_late else self.quality.on_answer)(rtt_s)
        if self.state is State.DOWN:
            self._answers += 1
            self._was_answered = True
            if self._answers < self._answers_needed(now):
                self.wake_at = min(self.wake_at, now + self.timeout_s(config) / 4)
                return
        self._awaited_until = None
        self._to(State.UP, "answered", now)
        self.wake_at = now + _spread(config.interval_s, config, jitter)

    def on_heard(self, config: ProbeConfig, now: float) -> None:
        """Data came in from the other end: proof while the path is up, a reason to ask while it is not."""
        self.last_heard = now
        self._alarms = 0
        if self.state is State.DOWN:
            self.wake_at = min(self.wake_at, max(now, self.since + config.timeout_s))

    def on_hint(self, why: str, now: float) -> None:
        """Somebody says that the path may be dead (a status bit, an ICMP error): ask now, believe nothing."""
        if self.state in (State.UP, State.UNKNOWN) and self._awaited_until is None:
            self.last_heard = None
            self.why = why
            self.wake_at = min(self.wake_at, now)

    def on_unanswered(self, config: ProbeConfig, now: float) -> None:
        """Data has been sent for longer than our patience, and nothing came back."""
        self._alarms = min(self._alarms + 1, 16)
        if self.state is not State.UP:
            return
        self.last_heard = None
        rtt_s = self.quality.rtt_s or config.timeout_s
        verdict_s = max(1.9 * rtt_s + 4 * self.quality.rtt_variation_s, QUICKEST_S)
        self._suspect("data unanswered", min(verdict_s, self.timeout_s(config)), 1, now)

    def on_slept(self, now: float) -> None:
        """Time has passed without us: nothing is known any more."""
        self._awaited_until, self.last_heard, self._deaths = None, None, []
        self._to(State.UNKNOWN, "slept", now)
        self.wake_at = now

    def _suspect(self, why: str, round_s: float, rounds: int, now: float) -> None:
        self._awaited_until = None
        self._tries_left = rounds
        self._volley_left = 0
        self._volley_pause_s = round_s / (2 * VOLLEY)
        self._round_ends_at = now
        self._to(State.VERIFYING, why, now)
        self.wake_at = now

    def _verify(self, config: ProbeConfig, now: float) -> bool:
        """The next probe of a volley, the next volley, or the verdict."""
        if self._volley_left == 0 and now >= self._round_ends_at:
            if self._tries_left == 0:
                self._die(config, now)
                return False
            self._tries_left -= 1
            self._volley_left = VOLLEY
        if self._volley_left == 0:
            self.wake_at = self._round_ends_at
            return False
        self._volley_left -= 1
        # A volley that the rate limit has stretched is given its time all the same.
        self._round_ends_at = now + self._volley_pause_s * (VOLLEY + 1)
        self.wake_at = now + self._volley_pause_s if self._volley_left else self._round_ends_at
        return True

    def _die(self, config: ProbeConfig, now: float) -> None:
        lately = [at for at in self._deaths if now - at < UNSTABLE_S]
        self._deaths = [*lately[-ANSWERS_MAX:], now]
        self._answers, self._was_answered = 0, False
        self._backoff_s = min(DOWN_FIRST_S, config.interval_s) / 2
        self._to(State.DOWN, self.why, now)
        self.wake_at = now + self._backoff_s * 2

    def _answers_needed(self, now: float) -> int:
        return min(max(1, sum(1 for at in self._deaths if now - at < UNSTABLE_S)), ANSWERS_MAX)

    def _to(self, new: State, why: str, now: float) -> None:
        self.why = why
        if new is self.state:
            return
        assert new in TRANSITIONS[self.state], (self.state, new)
        self.state, self.since = new, now


def _spread(pause_s: float, config: ProbeConfig, jitter: float) -> float:
    """The pause, give or take the configured share of it."""
    return pause_s * (1 + config.jitter * (2 * jitter - 1))

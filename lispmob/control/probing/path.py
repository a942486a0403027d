"""One path, from a local RLOC to a peer's: whether it works, and when it is probed.

How it works:

1. A path that is up is probed once per interval, unless data proves it: received data proves one direction, and a
   nonce that the peer echoes in data (RFC 9300, 10.1) proves both.
2. A probe without an answer is followed by a volley: several probes within the first half of another timeout. A path
   that loses a tenth of its packets survives that, and a dead one is left after two timeouts.
3. When two-way traffic stops, the volley starts at once. The verdict comes 1.3 round trips later, or more
   where round trips vary.
4. When traffic was one-way, one probe is sent out of turn, and the rounds after it are shorter. A busy peer
   answers probes slowly.
5. A path that failed several times within minutes must answer more than once before it is used again.
"""

from __future__ import annotations

from enum import Enum
from typing import Final, NamedTuple

import msgspec

from lispmob.control.probing.path_quality import PathQuality
from lispmob.control.probing.patience import QUICKEST_S
from lispmob.control.probing.recent_losses import RecentLosses
from lispmob.protocol.agenda import Agenda
from lispmob.wire.address import EidPrefix, IpAddress

VOLLEY: Final = 7  # ours: with 10 percent lost each way, all of them and the first get lost once in 600,000 rounds
UNSTABLE_S: Final = 300.0  # ours: failures within this time make recovery harder
ANSWERS_MAX: Final = 5
DOWN_FIRST_S: Final = 2.0
VOLLEY_SPREAD: Final = 0.2  # ours, of a round trip: all seven are sent within it
LAST_ANSWER: Final = 1.1  # ours, in round trips: the wait for the last of them
STEADY_AFTER: Final = 8  # ours, in probes: until then the variation is a first guess
QUICKEST_VERDICT_S: Final = 1.9 * QUICKEST_S  # ours: the least time for a busy peer, however near it is
PRESSED_VERDICT: Final = 1.9  # ours, in round trips: for one-way traffic, where failure is less certain
PRESSED_S: Final = 0.25  # ours: with a timeout of one round at most, a dead path is left within two of them
SPARED_MAX: Final = 20  # ours, in intervals: data with a forged source could otherwise replace probes for ever
ECHO_REST: Final = 10  # ours, in intervals: a peer that sends to another locator of ours cannot echo to this one
PROOF_ROUND_TRIPS: Final = 3.0  # ours: so that two peers that ask each other back come to an end
PROOF_LASTS_S: Final = 0.5  # ours: older proof does not count against a peer that seems to be in doubt
SILENCE: Final = "data unanswered"


class Due(Enum):
    """What to send now."""

    NOTHING = "nothing"
    PROBE = "probe"
    ECHO = "echo"  # a request for an echo, in data


class Pair(NamedTuple):
    """A local and a remote RLOC of one family."""

    local: IpAddress
    remote: IpAddress


class ProbeConfig(msgspec.Struct, frozen=True):
    """How to probe; the defaults are LISPmob's. `measures`: probe at every interval, even while data proves the path.

    `echoes`: if data comes from the other end, and it supports echoes, request an echo in data instead of probing (RFC
    9300, 10.1).
    """

    interval_s: float = 30.0
    tries: int = 2
    timeout_s: float = 1.0
    backoff_max_s: float = 60.0
    jitter: float = 0.25
    measures: bool = False
    echoes: bool = False

    def __post_init__(self) -> None:
        assert min(self.interval_s, self.tries, self.timeout_s, self.backoff_max_s) > 0, self
        assert 0 <= self.jitter < 1, self


class State(Enum):
    """The state of a path. Only DOWN keeps packets off it."""

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
    """The schedule of one pair, kept in an agenda. It says how many probes are due; `probing.py` sends them."""

    def __init__(self, pair: Pair, eid: EidPrefix, first_at: float, agenda: Agenda[Path] | None = None) -> None:
        self._agenda = Agenda[Path]() if agenda is None else agenda
        self.pair = pair
        self.eid = eid
        self.state = State.UNKNOWN
        self.quality = PathQuality()
        self.losses = RecentLosses()
        self.since = first_at
        self.why = "new"
        self.answered_at: float | None = None
        self.proof: int | None = None  # nonce of the last answered probe: known to the peer, and seldom to others
        self.proven_by: IpAddress | None = None  # the foreign address that has repeated it since
        self.proven_at: dict[IpAddress, float] = {}  # when each sender first repeated it
        self.wake_at = first_at
        self.last_heard: float | None = None
        self.can_echo = False
        self._echo_asked_at: float | None = None
        self._echo_rest_until = 0.0
        self._spared_times = 0  # consecutive probes that data has replaced
        self._deaths: list[float] = []
        self._answers = 0
        self._was_answered = False
        self._awaited_until: float | None = None  # deadline for the answer to the single probe of a round
        self._tries_left = 0
        self._volley_left = 0
        self._volley_pause_s = self._volley_rest_s = 0.0
        self._round_ends_at = 0.0
        self._backoff_s = 0.0
        self._is_pressed = False

    @property
    def wake_at(self) -> float:
        """When to call on_due."""
        return self._wake_at

    @wake_at.setter
    def wake_at(self, at: float) -> None:
        self._wake_at = at
        self._agenda.set(self, at)

    @property
    def is_down(self) -> bool:
        """True when packets must not use this path."""
        return self.state is State.DOWN

    @property
    def is_answered(self) -> bool:
        """True while the last verdict is that probes are answered."""
        return self.state is State.UP or (self.state is State.VERIFYING and self.answered_at is not None)

    @property
    def is_asking(self) -> bool:
        """True while an echo is awaited."""
        return self._echo_asked_at is not None

    def timeout_s(self, config: ProbeConfig) -> float:
        """How long an answer may take: the configured time, or longer on a path that is known to be slow."""
        if self.quality.rtt_s is None:
            return config.timeout_s
        return max(config.timeout_s, self.quality.rtt_s + 4 * self.quality.rtt_variation_s)

    def is_unproven(self, now: float) -> bool:
        """True for a path that counts as up without a recent answer or data."""
        proofs = [at for at in (self.last_heard, self.answered_at) if at is not None]
        lasts_s = max(PROOF_LASTS_S, PROOF_ROUND_TRIPS * (self.quality.rtt_s or 0.0))
        return self.state is State.UP and (not proofs or now - max(proofs) > lasts_s)

    def on_due(self, config: ProbeConfig, jitter: float, now: float, peer_heard_at: float | None = None) -> Due:
        """The deadline `wake_at` has passed: what to send now. Call it again until nothing is due.

        `peer_heard_at`: when data last came from the other end, over any pair.
        """
        if self.state is State.UP and self._awaited_until is None:
            if self._echo_asked_at is not None:
                is_heard = peer_heard_at is not None and peer_heard_at > self._echo_asked_at
                self.why = "nonce not echoed" if is_heard else self.why
                self._echo_asked_at, self._echo_rest_until = None, now + ECHO_REST * config.interval_s
            elif (due := self._spared(config, jitter, now, peer_heard_at)) is not None:
                return due
        return Due.PROBE if self._asks(config, jitter, now) else Due.NOTHING

    def _spared(self, config: ProbeConfig, jitter: float, now: float, peer_heard_at: float | None) -> Due | None:
        """What replaces a due probe because of data; None: nothing, send it."""
        if config.measures:
            return None
        if self.can_echo and config.echoes:  # then only a proof of both directions counts
            if now < self._echo_rest_until or peer_heard_at is None or now - peer_heard_at > config.interval_s:
                return None
            self._echo_asked_at = now
            self.wake_at = now + self.timeout_s(config)
            return Due.ECHO
        proven_until = now if self.last_heard is None else self.last_heard + _spread(config.interval_s, config, jitter)
        if proven_until <= now or self._spared_times >= SPARED_MAX:
            return None
        self._spared_times += 1
        self.wake_at = proven_until
        return Due.NOTHING

    def _asks(self, config: ProbeConfig, jitter: float, now: float) -> bool:
        if self.state is State.VERIFYING:
            return self._verify(config, now)
        if self._awaited_until is not None and self.state is not State.DOWN:
            if self._is_pressed:
                self._suspect("no answer", self._pressed_round_s(config), 1, now)
            else:
                self._suspect("no answer", self.timeout_s(config), max(config.tries - 1, 1), now)
            return self._verify(config, now)
        if self.state is State.DOWN:
            if not self._was_answered:
                self._answers = 0
                self._backoff_s = min(self._backoff_s * 2, config.backoff_max_s)
            self._was_answered = False
            self.wake_at = now + _spread(self._backoff_s, config, jitter)
            return True
        self._spared_times = 0
        pause_s = self._pressed_pause_s(config) if self._is_pressed else self.timeout_s(config)
        self._awaited_until = self.wake_at = now + pause_s
        return True

    def on_answer(self, rtt_s: float, is_late: bool, config: ProbeConfig, jitter: float, now: float) -> None:
        """A probe was answered; `is_late`: after it had counted as lost."""
        (self.quality.on_late if is_late else self.quality.on_answer)(rtt_s)
        self.answered_at = now
        if self.state is State.DOWN:
            self._answers += 1
            self._was_answered = True
            if self._answers < self._answers_needed(now):
                self.wake_at = min(self.wake_at, now + self.timeout_s(config) / 4)
                return
        self._awaited_until, self._echo_asked_at, self._is_pressed = None, None, False
        self._to(State.UP, "answered", now)
        self.wake_at = now + _spread(config.interval_s, config, jitter)

    def on_echoed(self, config: ProbeConfig, jitter: float, now: float) -> None:
        """The nonce came back to this local locator: both directions work."""
        if self._echo_asked_at is not None:
            self._echo_asked_at, self.last_heard = None, now
            self._to(State.UP, "nonce echoed", now)
            self.wake_at = now + _spread(config.interval_s, config, jitter)

    def on_heard(self, config: ProbeConfig, now: float) -> None:
        """Data arrived over this pair: proof if the path is up, a reason to probe if it is down."""
        self.last_heard = now
        if self.state is State.VERIFYING and self.why == SILENCE:
            self._to(State.UP, "data answered", now)
            self.wake_at = now + config.interval_s
        self.on_life_sign(config, now)

    def on_life_sign(self, config: ProbeConfig, now: float) -> None:
        """Data arrived from the other end, perhaps over another pair: a reason to probe a path that is down."""
        if self.state is State.DOWN:
            self.wake_at = min(self.wake_at, max(now, self.since + config.timeout_s))

    def on_hint(self, why: str, now: float) -> None:
        """The path may be dead (a status bit, an ICMP error). The hint is not trusted: probe now."""
        if self.state in (State.UP, State.UNKNOWN) and self._awaited_until is None:
            self.last_heard, self._echo_asked_at = None, None
            self.why = why
            self.wake_at = min(self.wake_at, now)

    def on_unanswered(self, is_flowing: bool, config: ProbeConfig, now: float) -> None:
        """Data has gone unanswered for longer than the timeout; `is_flowing`: traffic was two-way until then."""
        if self.state is not State.UP:
            return
        self.last_heard, self._echo_asked_at = None, None
        if is_flowing:
            rtt_s, variation_s = self.quality.rtt_s or config.timeout_s, self.quality.rtt_variation_s
            last_s = LAST_ANSWER * rtt_s
            if self.quality.probes >= STEADY_AFTER:
                last_s = max(last_s, rtt_s + 4 * variation_s)
            spread_s = VOLLEY_SPREAD * rtt_s
            self._suspect(SILENCE, max(spread_s + last_s, QUICKEST_VERDICT_S), 1, now, spread_s)
        elif not self._is_pressed:
            self._is_pressed = True
            if self._awaited_until is None:
                self.wake_at = min(self.wake_at, now)
            else:
                self.wake_at = self._awaited_until = min(self._awaited_until, now + self._pressed_pause_s(config))

    def on_slept(self, now: float) -> None:
        """The host was suspended: the state of the path is unknown."""
        self._awaited_until, self.last_heard, self._deaths, self._is_pressed = None, None, [], False
        self._echo_asked_at = None
        self.losses.clear()
        self._to(State.UNKNOWN, "slept", now)
        self.wake_at = now

    def _pressed_pause_s(self, config: ProbeConfig) -> float:
        return min(self.timeout_s(config), max(1.5 * (self.quality.rtt_s or 0), PRESSED_S))

    def _pressed_round_s(self, config: ProbeConfig) -> float:
        return min(self.timeout_s(config), max(PRESSED_VERDICT * (self.quality.rtt_s or 0), config.timeout_s / 2))

    def _suspect(self, why: str, round_s: float, rounds: int, now: float, spread_s: float | None = None) -> None:
        """Begin rounds of one volley each, sent within `spread_s`; None: within about half of a round."""
        self._awaited_until, self._is_pressed = None, False
        self._tries_left = rounds
        self._volley_left = 0
        self._volley_pause_s = round_s / (2 * VOLLEY) if spread_s is None else spread_s / (VOLLEY - 1)
        self._volley_rest_s = round_s - (VOLLEY - 1) * self._volley_pause_s
        self._round_ends_at = now
        self._to(State.VERIFYING, why, now)
        self.wake_at = now

    def _verify(self, config: ProbeConfig, now: float) -> bool:
        """The next probe of a volley, the next volley, or the verdict."""
        if self._volley_left == 0 and now >= self._round_ends_at:
            if self._tries_left == 0:
                self._declare_dead(config, now)
                return False
            self._tries_left -= 1
            self._volley_left = VOLLEY
        if self._volley_left == 0:
            self.wake_at = self._round_ends_at
            return False
        self._volley_left -= 1
        # A volley that the rate limit stretched still gets its full time.
        self._round_ends_at = now + self._volley_rest_s
        self.wake_at = now + self._volley_pause_s if self._volley_left else self._round_ends_at
        return True

    def _declare_dead(self, config: ProbeConfig, now: float) -> None:
        lately = [at for at in self._deaths if now - at < UNSTABLE_S]
        self._deaths = [*lately[-ANSWERS_MAX:], now]
        self._answers, self._was_answered = 0, False
        self.losses.clear()
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
    """The pause, varied by up to the configured share of it."""
    return pause_s * (1 + config.jitter * (2 * jitter - 1))

"""Packetization-layer path MTU discovery (RFC 8899) for one way: how large an outer packet gets through, by probes.

1. While large packets leave, one probe of the present size is sent now and then (CHECKING). Answered: all is well.
2. Unanswered: probes of several sizes are sent at once, the largest first (SEARCHING). A size is lost when a smaller
   one of the same volley is answered and it is not. So a dead or overloaded path, or a peer that limits its answers,
   proves nothing.
3. After two such volleys the size falls to the largest that was answered. The search goes on in between.
4. While the size is below what the uplink takes, larger ones are tried again, ever more seldom (RFC 8899, 5.3).

An ICMP error is obeyed at once by the datapath; here it starts a search that tries the former size, too. Without large
packets there is no probe, and no timer.
"""

from __future__ import annotations

from enum import Enum
from typing import Final, NamedTuple

import msgspec

from lispmob.wire.address import IpAddress

CHECK_EVERY_S: Final = 5.0  # ours: while large packets leave; a silence in data asks for one out of turn
CHECK_AGAIN_S: Final = 0.2  # ours: no more often than that
LARGE_LASTS_S: Final = 10.0  # ours: for so long after large packets a silence may be about them
LOSSES: Final = 3  # RFC 8899, 5.1.2: MAX_PROBES
LOSSES_TO_FALL: Final = 2  # ours: with the unanswered check three probes of the size that data has are lost
RAISE_FIRST_S: Final = 30.0  # ours: a way that was changed for a moment
RAISE_MAX_S: Final = 600.0  # RFC 8899, 5.1.1: PMTU_RAISE_TIMER
UNHEARD_PAUSES_S: Final = (1.0, 3.0)  # RFC 9301, 5.5: some peers send one Map-Reply in three seconds
GIVEN_UP_FIRST_S: Final = 10.0  # ours: whoever answers no padded probe is left alone for longer and longer
GIVEN_UP_MAX_S: Final = 3600.0
UNKNOWN_RTT_S: Final = 0.3
GRACE_S: Final = 0.02
LONGEST_WAIT_S: Final = 2.0
STEP_OCTETS: Final = 8  # ours: a search ends when less than that is left to be gained
SETS_MAX: Final = 8  # ours: sets of sizes in one search; each takes at most three volleys
SIZES_AT_ONCE: Final = 4

FLOOR: Final = {4: 576, 6: 1280}  # RFC 791 and RFC 8200: what every host takes
FIRST_SIZES: Final = (9000, 4000, 1500, 1480, 1400, 1280)
COMMON_SIZES: Final = (
    *(8192, 4352, 2304, 1500, 1492, 1488, 1480, 1476, 1472, 1468, 1460, 1454, 1450, 1440, 1436, 1430, 1428, 1420, 1412),
    *(1400, 1392, 1380, 1376, 1360, 1358, 1350, 1340, 1332, 1320, 1300, 1280, 1240, 1200, 1152, 1100, 1006, 800, 576),
)  # PPPoE, DS-Lite, GRE, IPsec, LTE, WireGuard, VXLAN ...


class Way(NamedTuple):
    """An address of ours, a locator, and the port that data goes to there."""

    local: IpAddress
    remote: IpAddress
    port: int


class Source(Enum):
    """Where a path MTU is from."""

    DEFAULT = "default"  # nobody said anything, nor what the uplink takes
    INTERFACE = "interface"
    ICMP = "icmp"
    PROBED = "probed"


class State(Enum):
    """What is being done about a path MTU."""

    IDLE = "idle"
    CHECKING = "checking"
    SEARCHING = "searching"


TRANSITIONS: Final[dict[State, frozenset[State]]] = {
    State.IDLE: frozenset({State.CHECKING, State.SEARCHING}),
    State.CHECKING: frozenset({State.IDLE, State.SEARCHING}),
    State.SEARCHING: frozenset({State.IDLE}),
}


class _Volley(msgspec.Struct):
    """Probes of different sizes, sent at once; `sizes` descend."""

    sizes: tuple[int, ...]
    ends_at: float
    answered: set[int]


class PathMtu:
    """One way. Methods return the sizes to be probed now, largest first; `mtu_bytes` is what packets may have."""

    def __init__(self, version: int, link_bytes: int, *, is_known: bool = True) -> None:
        """`link_bytes`: what the uplink takes. `version`: of the outer addresses."""
        self.floor_bytes = FLOOR[version]
        self.mtu_bytes = self.link_bytes = max(link_bytes, self.floor_bytes)
        self.source = Source.INTERFACE if is_known else Source.DEFAULT
        self.state = State.IDLE
        self.last_large = float("-inf")
        self._checked_at = float("-inf")
        self._quiet_until = float("-inf")  # for whoever answers nothing
        self._given_up_s = GIVEN_UP_FIRST_S
        self._raise_at = float("-inf")
        self._raise_s = RAISE_FIRST_S
        self._rtt_s: float | None = None
        self._volley: _Volley | None = None
        self._pause_until: float | None = None
        self._target = self._before = 0
        self._told: int | None = None  # by ICMP
        self._low = 0  # the largest size of this search that was answered
        self._candidates: tuple[int, ...] = ()
        self._lost: dict[int, int] = {}
        self._sets = self._unheard = 0

    @property
    def is_reduced(self) -> bool:
        """True when packets are to be smaller than the uplink takes them."""
        return self.mtu_bytes < self.link_bytes

    def wake_at(self) -> float | None:
        """When to call on_timer; None while nothing is being done."""
        return self._pause_until if self._volley is None else self._volley.ends_at

    def on_link(self, link_bytes: int) -> None:
        """The uplink takes packets of that size now: what was found out may not hold any more."""
        link_bytes = max(link_bytes, self.floor_bytes)
        if link_bytes == self.link_bytes:
            return
        self.mtu_bytes = self.link_bytes = link_bytes
        self.source = Source.INTERFACE
        self._end()
        self._checked_at = self._raise_at = self._quiet_until = float("-inf")
        self._raise_s = RAISE_FIRST_S

    def on_large(self, now: float) -> tuple[int, ...]:
        """Large packets leave, or would if they were let."""
        self.last_large = now
        if self.state is not State.IDLE or now < self._quiet_until:
            return ()
        if self.is_reduced and now >= self._raise_at:
            between = self._rungs(self.mtu_bytes, self.link_bytes)
            return self._search(self.link_bytes, (*between, self.mtu_bytes), now)
        return self._check(now) if now >= self._checked_at + CHECK_EVERY_S else ()

    def on_doubt(self, now: float) -> tuple[int, ...]:
        """Data goes unanswered. If it was large, that may be why."""
        is_about_us = now <= self.last_large + LARGE_LASTS_S and now >= self._checked_at + CHECK_AGAIN_S
        return self._check(now) if is_about_us and self.state is State.IDLE and now >= self._quiet_until else ()

    def on_too_big(self, mtu_bytes: int, now: float) -> tuple[int, ...]:
        """ICMP says so, about a packet of ours, and the datapath obeys: is it true?"""
        former = self.mtu_bytes
        if not self.floor_bytes <= mtu_bytes < former:
            return ()
        self.mtu_bytes, self.source = mtu_bytes, Source.ICMP
        if self.state is State.SEARCHING:
            self._told = mtu_bytes
            return ()
        self._end()
        smaller = (size for size in FIRST_SIZES if size < mtu_bytes)
        sizes = self._search(former, (mtu_bytes, *smaller, self.floor_bytes), now)
        self._told = mtu_bytes
        return sizes

    def on_claim(self, now: float) -> tuple[int, ...]:
        """ICMP that nothing vouches for says that packets are too big: see for ourselves."""
        may_check = self.state is State.IDLE and now >= self._checked_at + CHECK_AGAIN_S and now >= self._quiet_until
        return self._check(now) if may_check else ()

    def on_refused(self, mtu_bytes: int) -> None:
        """The uplink itself refuses larger packets than that."""
        if mtu_bytes < self.mtu_bytes:
            self._end()
            self.mtu_bytes, self.source = mtu_bytes, Source.INTERFACE

    def on_answer(self, size: int, rtt_s: float, now: float) -> tuple[int, ...]:
        """A probe of that size was answered."""
        self._rtt_s = rtt_s if self._rtt_s is None else self._rtt_s + (rtt_s - self._rtt_s) / 4
        self._given_up_s = GIVEN_UP_FIRST_S
        if self.mtu_bytes < size <= self.link_bytes:
            self.mtu_bytes, self.source = size, Source.PROBED
        if self._volley is None:
            return ()
        if self.state is State.CHECKING:
            if size >= self._target:
                self._finish(size, now)
            return ()
        self._low = max(self._low, size)
        self._volley.answered.add(size)
        if size >= self._target:
            self._finish(size, now)
        elif len(self._volley.answered) == 1:
            # What is larger was sent before: it is lost, or will be here in a moment.
            self._volley.ends_at = min(self._volley.ends_at, now + max(GRACE_S, rtt_s / 2))
        return ()

    def on_timer(self, now: float) -> tuple[int, ...]:
        """A deadline may have passed."""
        at = self.wake_at()
        if at is None or now < at:
            return ()
        if self._volley is None:
            return self._fire(now)
        if self.state is State.CHECKING:
            target = self._target
            self._end()
            return self._search(target, (*(size for size in FIRST_SIZES if size < target), self.floor_bytes), now)
        return self._judge(self._volley, now)

    def _check(self, now: float) -> tuple[int, ...]:
        self._to(State.CHECKING)
        self._checked_at = now
        self._target = self.mtu_bytes
        self._volley = _Volley((self.mtu_bytes,), now + self._patience_s(), set())
        return self._volley.sizes

    def _search(self, target: int, below: tuple[int, ...], now: float) -> tuple[int, ...]:
        self._to(State.SEARCHING)
        self._target, self._told, self._before = target, None, self.mtu_bytes
        self._low = self._sets = self._unheard = 0
        self._lost = {}
        sizes = {size for size in (target, *below) if size >= self.floor_bytes}
        self._candidates = tuple(sorted(sizes, reverse=True))
        return self._fire(now)

    def _fire(self, now: float) -> tuple[int, ...]:
        """The next volley: the sizes that are open, and one that is known to pass as the witness."""
        high = self._high()
        sizes = tuple(size for size in self._candidates if self._low < size < high)
        if self._low:
            sizes = (*sizes, self._low)
        self._pause_until = None
        self._volley = _Volley(sizes, now + self._patience_s(), set())
        return sizes

    def _judge(self, volley: _Volley, now: float) -> tuple[int, ...]:
        """A volley is over: what it says of the sizes in it."""
        if not volley.answered:
            return self._unanswered(now)
        self._unheard = 0
        best = max(volley.answered)
        for size in volley.sizes:
            if size > best:
                self._lost[size] = self._lost.get(size, 0) + 1
        if self._low < self.mtu_bytes and self._lost.get(self.mtu_bytes, 0) >= LOSSES_TO_FALL:
            self.mtu_bytes, self.source = self._low, Source.PROBED
        high = self._high()
        if any(self._low < size < high for size in self._candidates):
            return self._fire(now)
        self._sets += 1
        is_exact = self._low == self._told or high - self._low <= STEP_OCTETS or self._sets >= SETS_MAX
        self._candidates = () if is_exact else self._rungs(self._low, high)
        if self._candidates:
            return self._fire(now)
        self._finish(self._low, now)
        return ()

    def _unanswered(self, now: float) -> tuple[int, ...]:
        """Nobody answered anything: that is not about the size."""
        if self._unheard < len(UNHEARD_PAUSES_S):
            self._volley, self._pause_until = None, now + UNHEARD_PAUSES_S[self._unheard]
            self._unheard += 1
            return ()
        self._quiet_until = now + self._given_up_s
        self._given_up_s = min(2 * self._given_up_s, GIVEN_UP_MAX_S)
        self._end()
        return ()

    def _finish(self, size: int, now: float) -> None:
        """A search or a check has come to an end: this size passes."""
        if self.state is State.SEARCHING:
            self.source = Source.ICMP if size == self._told else Source.PROBED
            self.mtu_bytes = size
            was_in_vain = size == self._before < self._target
            self._raise_s = min(2 * self._raise_s, RAISE_MAX_S) if was_in_vain else RAISE_FIRST_S
            self._raise_at = now + self._raise_s
        elif size == self.mtu_bytes and self.source in (Source.INTERFACE, Source.DEFAULT):
            self.source = Source.PROBED
        self._checked_at = now
        self._end()

    def _end(self) -> None:
        self._volley = self._pause_until = None
        self._to(State.IDLE)

    def _high(self) -> int:
        """The smallest size that is lost for good."""
        return min((size for size, count in self._lost.items() if count >= LOSSES), default=self._target + 1)

    def _rungs(self, low: int, high: int) -> tuple[int, ...]:
        """Some sizes in between, common ones first, else evenly spaced; descending."""
        common = [size for size in COMMON_SIZES if low < size < high]
        if not common:
            span = high - low
            common = sorted({low + span * part // (SIZES_AT_ONCE + 1) for part in range(1, SIZES_AT_ONCE + 1)} - {low})
            common.reverse()
        step = max(1, -(-len(common) // SIZES_AT_ONCE))
        return tuple(common[::step])

    def _patience_s(self) -> float:
        rtt_s = UNKNOWN_RTT_S if self._rtt_s is None else max(2 * self._rtt_s, self._rtt_s + 0.1)
        return min(rtt_s, LONGEST_WAIT_S)

    def _to(self, new: State) -> None:
        if new is not self.state:
            assert new in TRANSITIONS[self.state], (self.state, new)
            self.state = new

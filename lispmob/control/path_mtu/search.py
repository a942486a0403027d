"""Packetization-layer path MTU discovery (RFC 8899) for one path: finds the largest outer packet that passes, by
probes.

1. While large packets are sent, the current size is probed now and then (CHECKING). An answer confirms it.
2. Without an answer, probes of several sizes are sent at once, the largest first (SEARCHING). A size counts as lost
   only if a smaller one of the same volley is answered and it is not. So a dead or overloaded path, or a peer that
   limits its answers, does not lower the size.
3. After two such volleys the size falls to the largest that was answered. The search goes on in between.
4. While the size is below the uplink's, larger ones are tried again, at growing intervals (RFC 8899, 5.3).

The datapath applies an ICMP error at once; here it starts a search that includes the former size. Without large packets
there are no probes, and no timer.
"""

from __future__ import annotations

from enum import Enum
from typing import Final, NamedTuple

import msgspec

from lispmob.wire.address import IpAddress

CHECK_EVERY_S: Final = 5.0  # ours: while large packets are sent; unanswered data causes one out of turn
CHECK_AGAIN_S: Final = 0.2  # ours: the shortest interval between checks
LARGE_LASTS_S: Final = 10.0  # ours: unanswered data within this time after large packets may be about their size
LOSSES: Final = 3  # RFC 8899, 5.1.2: MAX_PROBES
LOSSES_TO_FALL: Final = 2  # ours: with the unanswered check, three probes of the current size are lost
RAISE_FIRST_S: Final = 30.0  # ours: the path may have changed only briefly
RAISE_MAX_S: Final = 600.0  # RFC 8899, 5.1.1: PMTU_RAISE_TIMER
UNHEARD_PAUSES_S: Final = (1.0, 3.0)  # RFC 9301, 5.5: some peers send one Map-Reply in three seconds
GIVEN_UP_FIRST_S: Final = 10.0  # ours: a peer that answers no padded probe is probed at growing intervals
GIVEN_UP_MAX_S: Final = 3600.0
UNKNOWN_RTT_S: Final = 0.3
GRACE_S: Final = 0.02
LONGEST_WAIT_S: Final = 2.0
STEP_OCTETS: Final = 8  # ours: a search ends when less than that can be gained
SETS_MAX: Final = 8  # ours: sets of sizes in one search; each takes at most three volleys
SIZES_AT_ONCE: Final = 4

FLOOR: Final = {4: 576, 6: 1280}  # RFC 791 and RFC 8200: what every host accepts
FIRST_SIZES: Final = (9000, 4000, 1500, 1480, 1400, 1280)
COMMON_SIZES: Final = (
    *(8192, 4352, 2304, 1500, 1492, 1488, 1480, 1476, 1472, 1468, 1460, 1454, 1450, 1440, 1436, 1430, 1428, 1420, 1412),
    *(1400, 1392, 1380, 1376, 1360, 1358, 1350, 1340, 1332, 1320, 1300, 1280, 1240, 1200, 1152, 1100, 1006, 800, 576),
)  # PPPoE, DS-Lite, GRE, IPsec, LTE, WireGuard, VXLAN ...


class Way(NamedTuple):
    """A local address, a locator, and its data port."""

    local: IpAddress
    remote: IpAddress
    port: int


class Source(Enum):
    """Where a path MTU comes from."""

    DEFAULT = "default"  # nothing is known, not even the uplink's MTU
    INTERFACE = "interface"
    ICMP = "icmp"
    PROBED = "probed"


class State(Enum):
    """What the search is doing."""

    IDLE = "idle"
    CHECKING = "checking"
    SEARCHING = "searching"


TRANSITIONS: Final[dict[State, frozenset[State]]] = {
    State.IDLE: frozenset({State.CHECKING, State.SEARCHING}),
    State.CHECKING: frozenset({State.IDLE, State.SEARCHING}),
    State.SEARCHING: frozenset({State.IDLE}),
}


class _Volley(msgspec.Struct):
    """Probes of different sizes, sent together; `sizes` descend."""

    sizes: tuple[int, ...]
    ends_at: float
    answered: set[int]


class PathMtu:
    """One path. Methods return the sizes to probe now, largest first; `mtu_bytes` is the current limit of a packet."""

    def __init__(self, version: int, link_bytes: int, *, is_known: bool = True) -> None:
        """`link_bytes`: the MTU of the uplink. `version`: of the outer addresses."""
        self.floor_bytes = FLOOR[version]
        self.mtu_bytes = self.link_bytes = max(link_bytes, self.floor_bytes)
        self.source = Source.INTERFACE if is_known else Source.DEFAULT
        self.state = State.IDLE
        self.last_large = float("-inf")
        self._checked_at = float("-inf")
        self._quiet_until = float("-inf")  # for peers that answer no probes
        self._given_up_s = GIVEN_UP_FIRST_S
        self._raise_at = float("-inf")
        self._raise_s = RAISE_FIRST_S
        self._rtt_s: float | None = None
        self._volley: _Volley | None = None
        self._pause_until: float | None = None
        self._target = self._before = 0
        self._from_icmp: int | None = None  # by ICMP
        self._low = 0  # the largest size that was answered in this search
        self._candidates: tuple[int, ...] = ()
        self._lost: dict[int, int] = {}
        self._sets = self._unheard = 0

    @property
    def is_reduced(self) -> bool:
        """True when packets must be smaller than the uplink allows."""
        return self.mtu_bytes < self.link_bytes

    def wake_at(self) -> float | None:
        """When to call on_timer; None while idle."""
        return self._pause_until if self._volley is None else self._volley.ends_at

    def on_link(self, link_bytes: int) -> None:
        """The MTU of the uplink has changed: earlier results may not hold."""
        link_bytes = max(link_bytes, self.floor_bytes)
        if link_bytes == self.link_bytes:
            return
        self.mtu_bytes = self.link_bytes = link_bytes
        self.source = Source.INTERFACE
        self._end()
        self._checked_at = self._raise_at = self._quiet_until = float("-inf")
        self._raise_s = RAISE_FIRST_S

    def on_large(self, now: float) -> tuple[int, ...]:
        """Large packets are sent, or would be if the size allowed it."""
        self.last_large = now
        if self.state is not State.IDLE or now < self._quiet_until:
            return ()
        if self.is_reduced and now >= self._raise_at:
            between = self._sizes_between(self.mtu_bytes, self.link_bytes)
            return self._search(self.link_bytes, (*between, self.mtu_bytes), now)
        return self._check(now) if now >= self._checked_at + CHECK_EVERY_S else ()

    def on_doubt(self, now: float) -> tuple[int, ...]:
        """Data goes unanswered. If it was large, its size may be why."""
        is_about_us = now <= self.last_large + LARGE_LASTS_S and now >= self._checked_at + CHECK_AGAIN_S
        return self._check(now) if is_about_us and self.state is State.IDLE and now >= self._quiet_until else ()

    def on_too_big(self, mtu_bytes: int, now: float) -> tuple[int, ...]:
        """A proven ICMP error, which the datapath has applied: verify it."""
        former = self.mtu_bytes
        if not self.floor_bytes <= mtu_bytes < former:
            return ()
        self.mtu_bytes, self.source = mtu_bytes, Source.ICMP
        if self.state is State.SEARCHING:
            self._from_icmp = mtu_bytes
            return ()
        self._end()
        smaller = (size for size in FIRST_SIZES if size < mtu_bytes)
        sizes = self._search(former, (mtu_bytes, *smaller, self.floor_bytes), now)
        self._from_icmp = mtu_bytes
        return sizes

    def on_claim(self, now: float) -> tuple[int, ...]:
        """An unproven ICMP error says that packets are too big: verify it."""
        may_check = self.state is State.IDLE and now >= self._checked_at + CHECK_AGAIN_S and now >= self._quiet_until
        return self._check(now) if may_check else ()

    def on_refused(self, mtu_bytes: int) -> None:
        """The uplink itself refuses larger packets than this."""
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
            # Larger sizes were sent earlier: they are lost, or their answers are about to arrive.
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
        self._target, self._from_icmp, self._before = target, None, self.mtu_bytes
        self._low = self._sets = self._unheard = 0
        self._lost = {}
        sizes = {size for size in (target, *below) if size >= self.floor_bytes}
        self._candidates = tuple(sorted(sizes, reverse=True))
        return self._fire(now)

    def _fire(self, now: float) -> tuple[int, ...]:
        """The next volley: the undecided sizes, and one that is known to pass as the witness."""
        high = self._high()
        sizes = tuple(size for size in self._candidates if self._low < size < high)
        if self._low:
            sizes = (*sizes, self._low)
        self._pause_until = None
        self._volley = _Volley(sizes, now + self._patience_s(), set())
        return sizes

    def _judge(self, volley: _Volley, now: float) -> tuple[int, ...]:
        """A volley is over: update the bounds."""
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
        is_exact = self._low == self._from_icmp or high - self._low <= STEP_OCTETS or self._sets >= SETS_MAX
        self._candidates = () if is_exact else self._sizes_between(self._low, high)
        if self._candidates:
            return self._fire(now)
        self._finish(self._low, now)
        return ()

    def _unanswered(self, now: float) -> tuple[int, ...]:
        """No probe was answered, so size is not the cause."""
        if self._unheard < len(UNHEARD_PAUSES_S):
            self._volley, self._pause_until = None, now + UNHEARD_PAUSES_S[self._unheard]
            self._unheard += 1
            return ()
        self._quiet_until = now + self._given_up_s
        self._given_up_s = min(2 * self._given_up_s, GIVEN_UP_MAX_S)
        self._end()
        return ()

    def _finish(self, size: int, now: float) -> None:
        """A search or a check has ended: this size passes."""
        if self.state is State.SEARCHING:
            self.source = Source.ICMP if size == self._from_icmp else Source.PROBED
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
        """The smallest size that is known to be lost."""
        return min((size for size, count in self._lost.items() if count >= LOSSES), default=self._target + 1)

    def _sizes_between(self, low: int, high: int) -> tuple[int, ...]:
        """Some sizes in between: common ones first, else evenly spaced; descending."""
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

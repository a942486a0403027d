"""Decides by which of our locators we can ask and be answered. The evidence is received answers: having an address
proves nothing.

How it works. Every answer is evidence for the locator that its request left by: a Map-Notify, a Map-Reply, an
Info-Reply, an RTR's message, a probe that a peer answered. A round begins when an expected answer is missing, or when a
locator is new. In a round, each locator without an RTR asks a Map-Resolver for our own EID, up to three times. A
locator that gets no answer while another one does is silent. The answered one is the witness: it shows that the network
itself works. Without a witness no locator is called silent, because then the hub is down, or everything. A silent
locator asks again now and then, and the first answer clears it.

A peer is a witness, too: where no Map-Resolver answers a locator, and no peer, while peers answer another one.

A locator whose family has no Map-Resolver also counts as silent if another locator has one. So does a private address
beside a public one that was answered: peers would send to it, and nothing shows that it works. An answer from a peer
clears either.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from enum import Enum
from typing import Final

import msgspec

from lispmob.natt.natt_config import is_private
from lispmob.natt.question import question
from lispmob.protocol.effect import Count, MachineEffect, UplinkChanged, WitnessWanted
from lispmob.protocol.locator_set import LocalLocator, Place
from lispmob.wire.address import EidPrefix, IpAddress
from lispmob.wire.header import CONTROL_PORT

FIRST_CHECK_S: Final = 0.3  # ours: the answer to the first register or Info-Request saves a new locator the request
CHECK_PAUSE_S: Final = 0.5  # ours
# ours: with a tenth lost each way, all of them get lost once in 150 rounds; the next check repairs that
CHECKS: Final = 3
VERDICT_S: Final = 1.5  # ours: after the first check
VERDICT_UNKNOWN_S: Final = 1.6  # ours: while the round-trip time is unknown
VERDICT_ROUND_TRIPS: Final = 4.0
ROUND_REST_S: Final = 2.0  # ours: between rounds; doubles while they find nothing
URGENT_REST_S: Final = 0.5
ROUND_REST_MAX_S: Final = 30.0
CALM_S: Final = 60.0  # ours: after this time a doubt counts like the first one
RECHECK_S: Final = 5.0  # ours: of a silent locator; doubles
RECHECK_MAX_S: Final = 120.0
OUTSTANDING_MAX: Final = 64
ANSWER_LATEST_S: Final = 30.0


class Evidence(Enum):
    """The evidence about one local locator."""

    UNKNOWN = "unknown"  # too early to tell
    HEARD = "heard"  # a request from here was answered
    NO_RESOLVER = "no-resolver"  # no Map-Resolver of its family is configured
    SILENT = "silent"  # asked, and not answered while another one was


class Way(msgspec.Struct, eq=False):
    """One local locator, and what was received by it. Times are monotonic seconds."""

    locator: LocalLocator
    evidence: Evidence = Evidence.UNKNOWN
    heard_at: float | None = None
    rtt_s: float | None = None
    check_at: float | None = None
    checks: int = 0
    recheck_s: float = RECHECK_S


class _Asked(msgspec.Struct, frozen=True):
    way: Way
    at: float


class Reachability:
    """The evidence for all locators of a node. `new_nonce` returns unpredictable numbers."""

    def __init__(
        self, eids: Sequence[EidPrefix], map_resolvers: Sequence[IpAddress], *, new_nonce: Callable[[], int]
    ) -> None:
        self._new_nonce = new_nonce
        self._eids = tuple(eids)
        self._resolvers = tuple(map_resolvers)
        self._ways: dict[Place, Way] = {}
        self._behind: frozenset[Place] = frozenset()  # locators behind RTRs, or about to be
        self._elsewhere: dict[Place, float] = {}  # when these were last heard
        self._asked: dict[int, _Asked] = {}
        self.silent: frozenset[Place] = frozenset()  # as of the last weighing
        self.heard: frozenset[Place] = frozenset()
        self._peers_heard: frozenset[IpAddress] = frozenset()  # our locators that a peer answers
        # our locators that no peer answers, while others are answered
        self._peers_silent: frozenset[IpAddress] = frozenset()
        self._peers_deaf: frozenset[IpAddress] = frozenset()  # our locators that no peer answers
        self._round_at: float | None = None
        self._verdict_at: float | None = None
        self._ended_at = float("-inf")  # end of the last round that a doubt began
        self._rest_s = ROUND_REST_S
        self._doubt_at: float | None = None  # a doubt that waits for its round
        self._is_doubted = False  # the round was begun by a doubt, not by a new locator
        self._in_vain: frozenset[Place] = frozenset()  # asked in the last round, without any answer

    @property
    def in_vain(self) -> tuple[IpAddress, ...]:
        """The locators that have asked since a doubt, if no Map-Resolver, RTR or peer has answered any of them."""
        return () if self._peers_heard else tuple(sorted((address for address, _ in self._in_vain), key=int))

    @property
    def ways(self) -> tuple[Way, ...]:
        """Every locator that can ask without an RTR, for display."""
        return tuple(self._ways.values())

    def way(self, place: Place) -> Way | None:
        """The evidence about one locator; None if it is behind an RTR, or gone."""
        return self._ways.get(place)

    def wake_at(self) -> float | None:
        """When to call on_timer, in monotonic seconds."""
        times = [self._verdict_at, self._doubt_at, *(way.check_at for way in self._ways.values())]
        return min((at for at in times if at is not None), default=None)

    def is_heard(self, place: Place) -> bool:
        """True when a request from this locator was answered, and nothing since then contradicts it."""
        way = self._ways.get(place)
        if way is None:
            return place in self._elsewhere
        return way.evidence is Evidence.HEARD or way.locator.address in self._peers_heard

    @property
    def has_peers(self) -> bool:
        """True when a peer answers probes from any of our locators."""
        return bool(self._peers_heard)

    def peers_answer(self, address: IpAddress) -> bool:
        """True when a peer answers probes from this address."""
        return address in self._peers_heard

    def is_silent(self, place: Place) -> bool:
        """True when this locator gets no answers while another one does."""
        way = self._ways.get(place)
        if place[0] in self._peers_silent:
            return True
        if way is None or place[0] in self._peers_heard:
            return False
        if way.evidence is Evidence.NO_RESOLVER:
            return bool(self._behind) or any(
                other.evidence in (Evidence.UNKNOWN, Evidence.HEARD) for other in self._ways.values()
            )
        if way.evidence is Evidence.UNKNOWN and is_private(place[0]):
            heard = (other for other in self._ways.values() if other.evidence is Evidence.HEARD)
            return bool(self._elsewhere) or any(not is_private(heard_way.locator.address) for heard_way in heard)
        return way.evidence is Evidence.SILENT

    def weigh(self, places: Iterable[Place]) -> list[UplinkChanged] | None:
        """Which of these have become silent or heard since the last call; None if nothing at all is new."""
        present = tuple(places)
        silent = frozenset(place for place in present if self.is_silent(place))
        heard = frozenset(place for place in present if self.is_heard(place))
        if (silent, heard) == (self.silent, self.heard):
            return None
        changed = sorted(silent ^ self.silent, key=str)
        self.silent, self.heard = silent, heard
        return [UplinkChanged(place[0], place not in silent) for place in changed]

    def presume(self, places: Iterable[Place]) -> None:
        """These will be our locators soon: those without a Map-Resolver of their family need not be announced first."""
        present = frozenset(places)
        if any(self._has_server(address) for address, _ in present):
            unasked = {place for place in present - self._ways.keys() if not self._has_server(place[0])}
            self.silent = (self.silent & present) | {place for place in unasked if place[0] not in self._peers_heard}

    def asks(self, locator: LocalLocator) -> bool:
        """True when a Map-Resolver has answered this locator, and nothing since then contradicts it."""
        way = self._ways.get(locator.place)
        is_heard = way is not None and way.evidence is Evidence.HEARD
        return is_heard and self._has_server(locator.address) and not self.is_silent(locator.place)

    def on_config(self, eids: Sequence[EidPrefix], map_resolvers: Sequence[IpAddress]) -> None:
        """The configuration was reloaded."""
        self._eids, self._resolvers = tuple(eids), tuple(map_resolvers)
        for way in self._ways.values():
            if (way.evidence is Evidence.NO_RESOLVER) == self._has_server(way.locator.address):
                way.evidence = self._first_evidence(way.locator)

    def on_locators(
        self, own: Iterable[LocalLocator], relayed: Iterable[LocalLocator], now: float
    ) -> list[MachineEffect]:
        """The first locators can ask without an RTR; the others are behind RTRs, or will be."""
        self._in_vain = frozenset()
        wanted = {locator.place: locator for locator in own}
        self._behind = behind = frozenset(locator.place for locator in relayed)
        before = self._ways
        self._ways = {
            place: self._keep(before[place], one) if place in before else Way(one, self._first_evidence(one))
            for place, one in wanted.items()
        }
        self._elsewhere = {place: at for place, at in self._elsewhere.items() if place in behind}
        fresh = [way for place, way in self._ways.items() if place not in before and way.evidence is Evidence.UNKNOWN]
        if fresh and len(wanted) + len(behind) > 1:
            self._begin(fresh, now, FIRST_CHECK_S)
        if len(wanted) + len(behind) < 2:
            self._end()
            for way in self._ways.values():
                way.check_at = None
                way.evidence = self._first_evidence(way.locator) if way.evidence is Evidence.SILENT else way.evidence
        return []

    def on_answered(self, place: Place, rtt_s: float | None, now: float) -> None:
        """A request that left by this locator was answered."""
        self._in_vain = frozenset()
        way = self._ways.get(place)
        if way is None:
            self._elsewhere[place] = now
            return
        way.heard_at, way.check_at, way.recheck_s = now, None, RECHECK_S
        way.rtt_s = rtt_s if rtt_s is not None else way.rtt_s
        way.evidence = Evidence.HEARD
        if self._round_at is not None and not self._unheard(self._round_at):
            self._judge(now)

    def on_peers(
        self,
        heard: frozenset[IpAddress],
        silent: frozenset[IpAddress],
        deaf: frozenset[IpAddress] = frozenset(),
    ) -> None:
        """Peers answer probes from `heard`, and from no locator in `deaf`; from `silent` not where others are answered.

        They may be asked from `deaf` alone at other locators, of the other family: that shows less than `silent`.
        """
        self._peers_heard, self._peers_silent, self._peers_deaf = heard, silent - heard, deaf - heard

    def on_doubt(self, now: float, *, is_urgent: bool = False) -> list[MachineEffect]:
        """An answer is missing.

        `is_urgent`: a peer's locator was found dead, which random loss does not explain. With a single locator there is
        no choice; then only such a doubt begins a round, to find out whether it is the peer or our own network.
        """
        if not self._ways or (len(self._ways) + len(self._behind) < 2 and not is_urgent):
            return []
        if self._verdict_at is not None:  # a round that asks only from the new locators is followed by one for all
            self._doubt_at = None if self._is_doubted else self._verdict_at
            return []
        if now > self._ended_at + self._rest_s + CALM_S:
            self._rest_s = ROUND_REST_S
        allowed_at = self._ended_at + (URGENT_REST_S if is_urgent else self._rest_s)
        if now < allowed_at:
            self._doubt_at = allowed_at if self._doubt_at is None else min(self._doubt_at, allowed_at)
            return []
        self._begin([way for way in self._ways.values() if way.evidence is not Evidence.NO_RESOLVER], now, 0.0)
        self._is_doubted = True
        return [WitnessWanted(), *self.on_timer(now)]

    def on_map_reply(self, nonce: int, now: float) -> bool:
        """A Map-Reply with this nonce came, or the Map-Request itself came back. True when the request was ours."""
        asked = self._asked.pop(nonce, None)
        if asked is None:
            return False
        if self._ways.get(asked.way.locator.place) is asked.way and now - asked.at <= ANSWER_LATEST_S:
            self.on_answered(asked.way.locator.place, now - asked.at, now)
        return True

    def on_slept(self, now: float) -> list[MachineEffect]:
        """The host was suspended: earlier answers are no evidence any more."""
        for way in self._ways.values():
            way.evidence, way.heard_at = self._first_evidence(way.locator), None
        self._elsewhere.clear()
        self._in_vain = frozenset()
        self._end()
        self._rest_s, self._ended_at = ROUND_REST_S, float("-inf")
        fresh = [way for way in self._ways.values() if way.evidence is Evidence.UNKNOWN]
        if len(self._ways) > 1:
            self._begin(fresh, now, FIRST_CHECK_S)
        return []

    def on_timer(self, now: float) -> list[MachineEffect]:
        """A deadline may have passed: the next check, or the verdict of a round."""
        effects: list[MachineEffect] = []
        if self._doubt_at is not None and now >= self._doubt_at:
            self._doubt_at = None
            effects += self.on_doubt(now, is_urgent=True)
        for way in self._ways.values():
            if way.check_at is not None and now >= way.check_at:
                effects += self._check(way, now)
        if self._verdict_at is not None and now >= self._verdict_at:
            self._judge(now)
        return effects

    def _begin(self, ways: Iterable[Way], now: float, wait_s: float) -> None:
        known = [way.rtt_s for way in self._ways.values()]
        slowest_s = max((rtt for rtt in known if rtt is not None), default=0.0)
        patience_s = VERDICT_UNKNOWN_S if None in known else VERDICT_S
        self._round_at = now
        self._verdict_at = now + wait_s + max(patience_s, VERDICT_ROUND_TRIPS * slowest_s)
        self._doubt_at, self._is_doubted = None, False
        for way in ways:
            way.checks, way.check_at = 0, now + wait_s

    def _check(self, way: Way, now: float) -> list[MachineEffect]:
        """Send one request from this locator."""
        servers = [resolver for resolver in self._resolvers if resolver.version == way.locator.address.version]
        if not servers or not self._eids:
            way.check_at = None
            return []
        server = servers[way.checks % len(servers)]
        way.checks += 1
        if way.evidence is Evidence.SILENT and self._round_at is None:
            way.check_at = now + way.recheck_s
            way.recheck_s = min(2 * way.recheck_s, RECHECK_MAX_S)
        else:
            way.check_at = now + CHECK_PAUSE_S if way.checks < max(CHECKS, len(servers)) else None
        nonce = self._new_nonce()
        self._asked[nonce] = _Asked(way, now)
        while len(self._asked) > OUTSTANDING_MAX:
            del self._asked[next(iter(self._asked))]
        one = way.locator
        return [question(one, self._eids[0], server, nonce, one.address, CONTROL_PORT), Count("tx_way_check")]

    def _judge(self, now: float) -> None:
        """The round is over: mark locators that were not heard in it while another one was."""
        began, self._round_at, self._verdict_at = self._round_at, None, None
        assert began is not None
        has_found = False
        unheard = self._unheard(began)
        asked = [way for way in self._ways.values() if way.evidence is not Evidence.NO_RESOLVER]
        is_answered = len(unheard) < len(asked) or any(at >= began for at in self._elsewhere.values())
        self._in_vain = frozenset() if is_answered else frozenset(way.locator.place for way in unheard if way.checks)
        for way in unheard:
            if way.checks and self._has_witness(way, began):
                has_found |= way.evidence is not Evidence.SILENT
                way.evidence = Evidence.SILENT
                way.check_at = now + way.recheck_s
        if self._is_doubted:
            self._rest_s = ROUND_REST_S if has_found else min(2 * self._rest_s, ROUND_REST_MAX_S)
            self._ended_at = now

    def _unheard(self, since: float) -> list[Way]:
        """The locators that have a Map-Resolver, and have not been heard since."""
        asked = (way for way in self._ways.values() if way.evidence is not Evidence.NO_RESOLVER)
        return [way for way in asked if way.heard_at is None or way.heard_at < since]

    def _end(self) -> None:
        self._round_at = self._verdict_at = self._doubt_at = None

    def _has_witness(self, way: Way, since: float = float("-inf")) -> bool:
        """True when another locator was heard, at `since` or later; or by a peer, while none hears this one."""
        if way.locator.address in self._peers_deaf and self._peers_heard:
            return True
        others = [
            other.heard_at for other in self._ways.values() if other is not way and other.evidence is Evidence.HEARD
        ]
        return any(at is not None and at >= since for at in (*others, *self._elsewhere.values()))

    def _has_server(self, address: IpAddress) -> bool:
        return any(resolver.version == address.version for resolver in self._resolvers)

    def _first_evidence(self, locator: LocalLocator) -> Evidence:
        return Evidence.UNKNOWN if self._has_server(locator.address) else Evidence.NO_RESOLVER

    @staticmethod
    def _keep(way: Way, locator: LocalLocator) -> Way:
        way.locator = locator
        return way

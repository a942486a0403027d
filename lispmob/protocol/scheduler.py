"""Orders the uplinks, or the remote locators, for flows without a mark. Pure, without a clock.

Priority comes first; weight shares among equals. Both are configured, or registered by the peer, and nothing else
counts unless the user prefers a quality. Then the best of the equals takes all flows, and the others wait. The best is
sticky: a rival has to be better by a margin, for some time, before the flows move.

The datapath spreads flows by rendezvous (`datapath/c/table/rendezvous.c`): a flow stays while its locator lives, and
only the flows of a dead one move.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from enum import Enum
from typing import Final, Generic, TypeVar

import msgspec

K = TypeVar("K", bound=Hashable)

NEVER: Final = 255
BEHIND: Final = 1  # added to the priority of a candidate that is equal by configuration, but not preferred


class Prefer(Enum):
    """Which quality decides among candidates of one priority."""

    WEIGHT = "weight"
    LATENCY = "latency"
    LOSS = "loss"
    COST = "cost"


class Hysteresis(msgspec.Struct, frozen=True):
    """When a rival takes over: better by `ratio` and by `rtt_ms` (or `loss`, a share of packets), for `hold_s`."""

    ratio: float = 0.2
    rtt_ms: float = 5.0
    loss: float = 0.02
    hold_s: float = 10.0


class Candidate(Generic[K], msgspec.Struct, frozen=True):
    """One uplink or locator. `cost` is the user's figure (metered: high). A quality of None is not measured yet.

    `is_receive_only`: announced to others, never sent from.
    """

    key: K
    priority: int = 1
    weight: int = 100
    is_up: bool = True
    cost: int = 0
    rtt_ms: float | None = None
    loss: float | None = None

    @property
    def is_receive_only(self) -> bool:
        """True with the priority that means "never"."""
        return self.priority == NEVER


class Ranked(Generic[K], msgspec.Struct, frozen=True):
    """A candidate's rank in the datapath: flows go to the lowest priority, shared by weight. 255: not used."""

    key: K
    priority: int
    weight: int


class Schedule(Generic[K], msgspec.Struct, frozen=True):
    """The current order. `steps`: the reasons for it. `review_at`: when a rival may take over."""

    ranked: tuple[Ranked[K], ...]
    steps: tuple[str, ...] = ()
    review_at: float | None = None

    @property
    def first(self) -> tuple[K, ...]:
        """The candidates that get flows now."""
        best = min((ranked.priority for ranked in self.ranked), default=NEVER)
        return tuple(ranked.key for ranked in self.ranked if ranked.priority == best < NEVER)


class Scheduler(Generic[K]):
    """Orders candidates. It keeps the preferred one, and since when a rival has been better."""

    def __init__(self, prefer: Prefer = Prefer.WEIGHT, hysteresis: Hysteresis | None = None) -> None:
        self._prefer = prefer
        self._hysteresis = hysteresis or Hysteresis()
        self._incumbent: K | None = None
        self._rival: K | None = None
        self._better_since = 0.0

    def on_candidates(self, candidates: Iterable[Candidate[K]], now: float) -> Schedule[K]:
        """The candidates are these now, in a stable order. Call it for any change, and once `review_at` has passed."""
        everyone = list(candidates)
        known = [candidate for candidate in everyone if not candidate.is_receive_only]
        living = [candidate for candidate in known if candidate.is_up]
        # If all are silent, the probes may be what is lost: go on as if none were.
        usable = living or known
        steps = [f"{candidate.key}: down" for candidate in known if not candidate.is_up]
        if known and not living:
            steps.append("none answers: go on sending as if all did")
        best = min((candidate.priority for candidate in usable), default=NEVER)
        equals = [candidate for candidate in usable if candidate.priority == best]
        if self._prefer is Prefer.WEIGHT or len(equals) < 2:
            self._incumbent = equals[0].key if len(equals) == 1 else None
            self._rival = None
            if equals:
                steps.append(f"priority {best}: " + ", ".join(f"{equal.key} weight {equal.weight}" for equal in equals))
            return Schedule(tuple(_rank(candidate, usable, None) for candidate in everyone), tuple(steps))
        chosen, review_at = self._choose(equals, now, steps)
        return Schedule(tuple(_rank(candidate, usable, chosen) for candidate in everyone), tuple(steps), review_at)

    def _choose(self, equals: list[Candidate[K]], now: float, steps: list[str]) -> tuple[Candidate[K], float | None]:
        leader = min(equals, key=self._figure)  # the first of equals, in the order given
        incumbent = next((equal for equal in equals if equal.key == self._incumbent), None)
        if incumbent is None:
            return self._take(leader, f"{leader.key} has the best {self._prefer.value}", steps), None
        if leader is incumbent or not self._is_clearly_better(leader, incumbent):
            self._rival = None
            steps.append(f"{incumbent.key} stays: no other has a clearly better {self._prefer.value}")
            return incumbent, None
        if self._prefer is Prefer.COST:
            return self._take(leader, f"{leader.key} costs less than {incumbent.key}", steps), None
        if self._rival != leader.key:
            self._rival, self._better_since = leader.key, now
        review_at = self._better_since + self._hysteresis.hold_s
        if now < review_at:
            steps.append(f"{incumbent.key} stays: {leader.key} is better, but not for long enough yet")
            return incumbent, review_at
        return self._take(leader, f"{leader.key} has been better than {incumbent.key} for long enough", steps), None

    def _take(self, candidate: Candidate[K], why: str, steps: list[str]) -> Candidate[K]:
        self._incumbent, self._rival = candidate.key, None
        steps.append(why)
        return candidate

    def _figure(self, one: Candidate[K]) -> float:
        """The lower the better; an unmeasured candidate comes last."""
        match self._prefer:
            case Prefer.LATENCY:
                return float("inf") if one.rtt_ms is None else one.rtt_ms
            case Prefer.LOSS:
                return float("inf") if one.loss is None else one.loss
            case _:
                return float(one.cost)

    def _is_clearly_better(self, rival: Candidate[K], incumbent: Candidate[K]) -> bool:
        mine, theirs = self._figure(incumbent), self._figure(rival)
        match self._prefer:
            case Prefer.LATENCY:
                margin = max(self._hysteresis.rtt_ms, self._hysteresis.ratio * theirs)
            case Prefer.LOSS:
                margin = max(self._hysteresis.loss, self._hysteresis.ratio * theirs)
            case _:
                margin = 0.0
        return theirs < mine and theirs + margin <= mine


def _rank(one: Candidate[K], usable: list[Candidate[K]], chosen: Candidate[K] | None) -> Ranked[K]:
    """Even priorities for preferred candidates, odd ones for those that wait: the order of all others stays."""
    if not any(one is candidate for candidate in usable):
        return Ranked(one.key, NEVER, one.weight)
    order = sorted({candidate.priority for candidate in usable})
    place = min(2 * order.index(one.priority), NEVER - 1 - BEHIND)
    waits = chosen is not None and one is not chosen and one.priority == chosen.priority
    return Ranked(one.key, place + BEHIND if waits else place, one.weight)

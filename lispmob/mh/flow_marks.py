"""The mark of a flow to a name: the uplink by what its program wants, by the rules, or by its class; pure.

In this order: the uplinks that the program names; the first rule that matches, of all rules; what the class prefers
among the uplinks, by what probes have measured; and at last priority and weight, which take no mark. A mark of a rule
or a class goes with every packet of the flow, in whatever direction it was begun.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Final

import msgspec

from lispmob.mh.policy import Compiled, Decision, Outcome, Rule, Share, Via
from lispmob.mh.selector import Flow
from lispmob.protocol.scheduler import Candidate, Prefer, Scheduler

LOSS_MARGIN: Final = 0.02  # ours: so much more loss than the best is as good, and the round trip decides
_PREFERENCES: Final = {
    "voice": Prefer.LATENCY,
    "video": Prefer.LATENCY,
    "interactive": Prefer.LATENCY,
    "background": Prefer.COST,
}
_AVERSE_TO_LOSS: Final = frozenset({"voice"})
STEERED_CLASSES: Final = frozenset(_PREFERENCES)


class UplinkFigures(msgspec.Struct, frozen=True):
    """An uplink that can send now, with what is known of it; None: not measured. The loss is a share of packets."""

    name: str
    ifindex: int
    is_metered: bool = False
    cost: int = 0
    rtt_ms: float | None = None
    loss: float | None = None


class FlowWish(msgspec.Struct, frozen=True):
    """What a program wants of its flow. `is_only`: rather drop than take another uplink than the one wished for.

    `former`: the mark that the flow has, 0 for none.
    """

    flow: Flow
    via: tuple[str, ...] = ()
    is_cheap: bool = False
    is_only: bool = False
    former: int = 0


class FlowMarks:
    """Chooses marks. It remembers which uplink each class prefers, so that nothing flaps."""

    def __init__(self) -> None:
        self._schedulers: dict[str, Scheduler[str]] = {}

    def mark(self, compiled: Compiled, wish: FlowWish, uplinks: Sequence[UplinkFigures], now: float) -> int:
        """The mark for a flow; 0: priority and weight decide. All of the mask's bits: nowhere, see `nowhere`."""
        allowed = [uplink for uplink in uplinks if not (wish.is_cheap and uplink.is_metered)]
        if wish.via:
            wanted = Rule("flow", via=tuple(map(Via, wish.via)), may_cost=not wish.is_cheap)
            return self._by_rule(compiled, wanted, wish)
        decision = compiled.evaluate(wish.flow)
        if decision.rule is not None:
            return _of_decision(compiled, decision, wish)
        preferred = self._by_class(wish.flow.flow_class or "", allowed, now)
        if preferred is not None:
            return compiled.policy.mask.mark(preferred)
        if wish.is_cheap and len(allowed) < len(uplinks):
            return self._by_rule(compiled, Rule("flow", may_cost=False), wish)
        return 0

    def _by_rule(self, compiled: Compiled, rule: Rule, wish: FlowWish) -> int:
        candidates = rule.candidates(compiled.uplinks)
        if candidates:
            return compiled.policy.mask.mark(candidates[0][0].ifindex)
        return nowhere(compiled) if wish.is_only else 0

    def _by_class(self, flow_class: str, allowed: Sequence[UplinkFigures], now: float) -> int | None:
        """The ifindex that a class prefers; None without a preference, or when too little is known for one.

        What costs by volume is for those alone who have nothing else.
        """
        prefer = _PREFERENCES.get(flow_class)
        if prefer is None:
            return None
        rivals = [uplink for uplink in allowed if not uplink.is_metered] or list(allowed)
        if prefer is Prefer.LATENCY:
            rivals = [rival for rival in rivals if rival.rtt_ms is not None]
            if len(rivals) < 2:
                return None
            if flow_class in _AVERSE_TO_LOSS:
                rivals = _with_little_loss(rivals)
        elif len({rival.cost for rival in rivals}) < 2:
            return None
        scheduler = self._schedulers.setdefault(flow_class, Scheduler(prefer))
        order = scheduler.on_candidates(
            (Candidate(rival.name, cost=rival.cost, rtt_ms=rival.rtt_ms, loss=rival.loss) for rival in rivals), now
        )
        return next(rival.ifindex for rival in rivals if rival.name == order.first[0])


def nowhere(compiled: Compiled) -> int:
    """A mark that names no uplink; with `unusable-mark: drop` its packets are dropped."""
    return compiled.policy.mask.bits


def _of_decision(compiled: Compiled, decision: Decision, wish: FlowWish) -> int:
    """A rule has decided. What it drops is dropped by the chains, unless only we know that the rule is about it."""
    rule = next(candidate for candidate in compiled.rules if candidate.rule.name == decision.rule)
    match decision.outcome:
        case Outcome.UPLINK if decision.mark:
            return decision.mark
        case Outcome.UPLINK:
            return _share(compiled, rule.shares, wish)
        case Outcome.DROP if rule.rule.selector.is_of_flows:
            return nowhere(compiled)
        case Outcome.DEFAULT if wish.is_only and rule.rule.via:
            return nowhere(compiled)
    return 0


def _share(compiled: Compiled, shares: tuple[Share, ...], wish: FlowWish) -> int:
    """One of the uplinks of a rule with weights: the same for the same flow, and the former one while it is there."""
    weights = {share.mark: share.weight for share in shares}
    former = wish.former & compiled.policy.mask.bits
    if former in weights:
        return former
    flow = wish.flow
    seed = f"{flow.source} {flow.source_port} {flow.destination} {flow.destination_port} {flow.flow_name}"
    place = zlib.crc32(seed.encode()) % sum(weights.values())
    for mark, weight in weights.items():
        if place < weight:
            return mark
        place -= weight
    raise AssertionError("the place is below the sum of the weights")


def _with_little_loss(rivals: list[UplinkFigures]) -> list[UplinkFigures]:
    known = [rival.loss for rival in rivals if rival.loss is not None]
    if not known:
        return rivals
    return [rival for rival in rivals if rival.loss is None or rival.loss <= min(known) + LOSS_MARGIN]

"""The mark of a flow to a name: the uplink by the program's wish, by the rules, or by its class; pure.

The order is: the uplinks that the program names; the first of all rules that matches; the preference of the class among
the uplinks, by measured quality; and last priority and weight, which need no mark. The mark of a rule or a class
applies to all packets of the flow, in both directions.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Final

import msgspec

from lispmob.mh.policy import Compiled, Decision, Outcome, Rule, Share, Via
from lispmob.mh.selector import Flow
from lispmob.protocol.scheduler import Candidate, Prefer, Scheduler

LOSS_MARGIN: Final = 0.02  # ours: loss within this of the best counts as equal, and the round trip decides
_PREFERENCES: Final = {
    "voice": Prefer.LATENCY,
    "video": Prefer.LATENCY,
    "interactive": Prefer.LATENCY,
    "background": Prefer.COST,
}
_LOSS_SENSITIVE: Final = frozenset({"voice"})
STEERED_CLASSES: Final = frozenset(_PREFERENCES)


class UplinkFigures(msgspec.Struct, frozen=True):
    """An uplink that can send now, with its measured quality; None: not measured. The loss is a share of packets."""

    name: str
    ifindex: int
    is_metered: bool = False
    cost: int = 0
    rtt_ms: float | None = None
    loss: float | None = None


class FlowWish(msgspec.Struct, frozen=True):
    """What a program wants for its flow. `is_only`: drop rather than use another uplink than the wished one.

    `former`: the present mark of the flow, 0 for none.
    """

    flow: Flow
    via: tuple[str, ...] = ()
    is_cheap: bool = False
    is_only: bool = False
    former: int = 0


class FlowMarks:
    """Chooses marks. It keeps the preferred uplink of each class, so that flows do not move back and forth."""

    def __init__(self) -> None:
        self._schedulers: dict[str, Scheduler[str]] = {}

    def mark(self, compiled: Compiled, wish: FlowWish, uplinks: Sequence[UplinkFigures], now: float) -> int:
        """The mark for a flow; 0: priority and weight decide. All bits of the mask: no uplink, see `nowhere`."""
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
        """The ifindex that a class prefers; None without a preference, or if too little is measured.

        Metered uplinks are used only if there is no other.
        """
        prefer = _PREFERENCES.get(flow_class)
        if prefer is None:
            return None
        rivals = [uplink for uplink in allowed if not uplink.is_metered] or list(allowed)
        if prefer is Prefer.LATENCY:
            rivals = [rival for rival in rivals if rival.rtt_ms is not None]
            if len(rivals) < 2:
                return None
            if flow_class in _LOSS_SENSITIVE:
                rivals = _with_little_loss(rivals)
        elif len({rival.cost for rival in rivals}) < 2:
            return None
        scheduler = self._schedulers.setdefault(flow_class, Scheduler(prefer))
        order = scheduler.on_candidates(
            (Candidate(rival.name, cost=rival.cost, rtt_ms=rival.rtt_ms, loss=rival.loss) for rival in rivals), now
        )
        return next(rival.ifindex for rival in rivals if rival.name == order.first[0])


def nowhere(compiled: Compiled) -> int:
    """A mark of no uplink; with `unusable-mark: drop` its packets are dropped."""
    return compiled.policy.mask.bits


def _of_decision(compiled: Compiled, decision: Decision, wish: FlowWish) -> int:
    """The mark by a rule. Drops are done by the chains, except for rules that only lispd can match."""
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
    """One uplink of a rule with weights: the same for the same flow, and the former one while it is there."""
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

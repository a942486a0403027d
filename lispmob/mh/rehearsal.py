"""What would happen to flows if uplinks were lost or gained, computed without changing anything; pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from enum import Enum

import msgspec

from lispmob.mh.policy import Decision, Flow, Outcome, Policy, Uplink


class FlowChange(Enum):
    """What happens to a flow."""

    STAYS = "stays"
    MOVES = "moves"
    BREAKS = "breaks"
    RECOVERS = "recovers"


class Rehearsed(msgspec.Struct, frozen=True):
    """One flow before and after. The uplinks are those of the flow; none: it is dropped, or has no path."""

    flow: Flow
    change: FlowChange
    before: tuple[str, ...]
    after: tuple[str, ...]
    steps: tuple[str, ...]


def rehearse(
    policy: Policy,
    before: Iterable[Uplink],
    after: Iterable[Uplink],
    flows: Iterable[Flow],
    default: Callable[[Flow, tuple[Uplink, ...]], str | None],
) -> Iterator[Rehearsed]:
    """The changes for each flow when the uplinks `before` become `after`.

    `default` returns the uplink that priority and weight choose for a flow among the given ones; None: none. It is
    called with `before` or `after` unchanged.
    """
    ups_now, ups_then = tuple(before), tuple(after)
    now, then = policy.compile(ups_now), policy.compile(ups_then)
    for flow in flows:
        was, will = now.evaluate(flow), then.evaluate(flow)
        old, new = _places(was, flow, ups_now, default), _places(will, flow, ups_then, default)
        yield Rehearsed(flow, _change(old, new), old, new, will.steps)


def _places(
    decision: Decision,
    flow: Flow,
    uplinks: tuple[Uplink, ...],
    default: Callable[[Flow, tuple[Uplink, ...]], str | None],
) -> tuple[str, ...]:
    match decision.outcome:
        case Outcome.UPLINK:
            return decision.uplinks
        case Outcome.DROP:
            return ()
        case Outcome.NATIVE:
            return ("native",)
        case Outcome.DEFAULT:
            chosen = default(flow, uplinks)
            return (chosen,) if chosen is not None else ()


def _change(before: tuple[str, ...], after: tuple[str, ...]) -> FlowChange:
    if before == after:
        return FlowChange.STAYS
    if not after:
        return FlowChange.BREAKS
    return FlowChange.MOVES if before else FlowChange.RECOVERS

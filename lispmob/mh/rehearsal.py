"""What would happen to flows if uplinks were lost or gained: nothing is changed, only computed; pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from enum import Enum

import msgspec

from lispmob.mh.policy import Decision, Flow, Outcome, Policy, Uplink


class Fate(Enum):
    """What becomes of a flow."""

    STAYS = "stays"
    MOVES = "moves"
    BREAKS = "breaks"
    RECOVERS = "recovers"


class Rehearsed(msgspec.Struct, frozen=True):
    """One flow before and after. The uplinks are those that the flow is on; none: it is dropped, or has no way out."""

    flow: Flow
    fate: Fate
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
    """What changes for each flow, one after the other, when the uplinks `before` become those `after`.

    `default` says which uplink priority and weight choose for a flow, of those given; None: there is none. It is given
    `before` or `after`, as they are.
    """
    ups_now, ups_then = tuple(before), tuple(after)
    now, then = policy.compile(ups_now), policy.compile(ups_then)
    for flow in flows:
        was, will = now.evaluate(flow), then.evaluate(flow)
        old, new = _places(was, flow, ups_now, default), _places(will, flow, ups_then, default)
        yield Rehearsed(flow, _fate(old, new), old, new, will.steps)


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


def _fate(before: tuple[str, ...], after: tuple[str, ...]) -> Fate:
    if before == after:
        return Fate.STAYS
    if not after:
        return Fate.BREAKS
    return Fate.MOVES if before else Fate.RECOVERS

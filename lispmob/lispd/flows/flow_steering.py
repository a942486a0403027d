"""Which uplink a flow to a name leaves by: its program's wish, the rules, or its class with measured quality.

While there are flows whose class prefers a quality, the uplinks are compared every ten seconds.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from lispmob.control.preference import MEASURED, Quality, figures
from lispmob.flow.quality import FlowClass, Wish
from lispmob.lispd.tasks.steering import Steering
from lispmob.mh.flow_marks import STEERED_CLASSES, FlowMarks, FlowWish, UplinkFigures
from lispmob.mh.selector import PROTOCOLS, Flow

if TYPE_CHECKING:
    from lispmob.flow.steered import Owner, SteeredFlow
    from lispmob.node.node import Node
    from lispmob.wire.address import IpAddress

REVIEW_S: Final = 10.0  # ours: how long a rival has to be better
MEASURED_S: Final = 1.0
_UNKNOWN: Final = Quality()


class FlowSteering:
    """Answers `mark_of`, and calls `on_review` when marks must be evaluated again."""

    def __init__(
        self, steering: Steering, node: Node, on_review: Callable[[], None], review_s: float = REVIEW_S
    ) -> None:
        self._steering, self._node, self._on_review, self._review_s = steering, node, on_review, review_s
        self._marks = FlowMarks()
        self._timer: asyncio.TimerHandle | None = None
        self._measured: tuple[float, dict[str, Quality]] = (float("-inf"), {})

    def mark_of(self, steered: SteeredFlow) -> int:
        """The present mark for a flow; 0: priority and weight decide."""
        quality, owner = steered.quality, steered.owner
        known = quality.flow_class in FlowClass.__members__.values()
        flow_class = FlowClass(quality.flow_class).name.lower() if known else "default"
        if flow_class in STEERED_CLASSES and self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._review_s, self._review)
        flow = Flow(
            steered.own,
            steered.peer,
            PROTOCOLS["udp"],
            steered.own_port,
            steered.peer_port or None,
            dscp=quality.dscp,
            uid=None if owner is None else owner.uid,
            gid=None if owner is None else owner.gid,
            cgroup=_cgroup_of(owner) if self._asks_for_cgroups else None,
            kept_by=self._steering.policy.mask.ifindex(steered.former),
            flow_name=steered.name,
            flow_class=flow_class,
        )
        is_cheap, is_only = bool(quality.flags & Wish.CHEAP), bool(quality.flags & Wish.ONLY)
        wish = FlowWish(flow, steered.via, is_cheap, is_only, steered.former)
        now = asyncio.get_running_loop().time()
        with contextlib.suppress(ValueError):  # a program may give an invalid pattern
            return self._marks.mark(self._steering.compiled, wish, self._uplinks(now), now)
        return 0

    @property
    def is_watching(self) -> bool:
        """True while a review is due."""
        return self._timer is not None

    def stop(self) -> None:
        """Stop the reviews."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    @property
    def _asks_for_cgroups(self) -> bool:
        return any((rule.selector.cgroup or rule.selector.app) is not None for rule in self._steering.policy.rules)

    def _uplinks(self, now: float) -> list[UplinkFigures]:
        own = self._node.locators.locators
        if now - self._measured[0] > MEASURED_S:  # once for all flows that are reviewed together
            self._measured = now, figures(own, self._node.paths)
        measured = self._measured[1]
        costs = {locator.interface: locator.cost for locator in own}
        return [
            UplinkFigures(up.name, up.ifindex, up.is_metered, costs.get(up.name, 0), *measured.get(up.name, _UNKNOWN))
            for up in self._steering.compiled.uplinks
        ]

    def _review(self) -> None:
        self._timer = None
        self._on_review()


def round_trip_s(node: Node, eid: IpAddress) -> float | None:
    """How long a request to the host of an EID and its answer take, by probes; None: unknown.

    Of several pairs of locators the slowest counts: a repetition too early costs more than one too late.
    """
    entry = node.map_cache.lookup(eid, 0)
    if entry is None:
        return None
    remotes = {address for locator in entry.locators for address in locator.ips}
    known = [path.quality.rtt_s for path in node.paths if path.pair.remote in remotes and path.state in MEASURED]
    return max((rtt_s for rtt_s in known if rtt_s is not None), default=None)


def is_absent(node: Node, eid: IpAddress) -> bool:
    """True when the mapping system has answered that the EID does not exist."""
    entry = node.map_cache.lookup(eid, 0)
    return entry is not None and not entry.locators and node.config.owner_of(eid, 0) is None


def _cgroup_of(owner: Owner | None) -> str | None:
    """The control group of a process, of the unified hierarchy."""
    if owner is None:
        return None
    with contextlib.suppress(OSError), open(f"/proc/{owner.pid}/cgroup", encoding="utf-8") as lines:
        return next((line.strip()[3:] for line in lines if line.startswith("0::/")), None)
    return None

"""The policy `prefer`: which of several equal uplinks, and of equal remote locators, takes the flows, by measured
quality.

It concerns what we send. Priorities stay; among locators of one priority the best takes all flows, and the others wait.
An uplink is measured over the remote locators in use that all of its equals reach, so that the figures are comparable;
a remote locator over its paths from the preferred uplinks. `protocol/scheduler.py` decides when a rival takes over.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple, TypeAlias

import msgspec
from msgspec.structs import replace

from lispmob.control.probing.path import Path, State
from lispmob.protocol.effect import Event, MachineEffect, UplinksRanked
from lispmob.protocol.locator_set import NEVER, LocalLocator
from lispmob.protocol.scheduler import Candidate, Hysteresis, Prefer, Scheduler
from lispmob.wire.address import IpAddress

SOONEST_S: Final = 1.0  # ours: probe answers come in bursts
PROBES_MIN: Final = 8  # ours: the loss of fewer probes is meaningless
GROUPS_MAX: Final = 1024  # ours: the prober's limit of paths
MEASURED: Final = frozenset({State.UP, State.VERIFYING})

Group: TypeAlias = frozenset[IpAddress]
"""Remote locators of one mapping with one priority."""


class PreferenceConfig(msgspec.Struct, frozen=True):
    """The quality to prefer. `hold_s`: how long a rival has to be clearly better."""

    prefer: Prefer = Prefer.WEIGHT
    hold_s: float = 10.0

    @property
    def is_on(self) -> bool:
        """True unless weight alone decides."""
        return self.prefer is not Prefer.WEIGHT

    @property
    def is_measured(self) -> bool:
        """True when probes must continue although data proves the paths."""
        return self.prefer in (Prefer.LATENCY, Prefer.LOSS)


class Quality(NamedTuple):
    """The measured quality of an uplink or a remote locator; None: not measured."""

    rtt_ms: float | None = None
    loss: float | None = None


class Preference:
    """Keeps the preferred ones. `uplinks`, `remotes`: their priorities; empty: as configured."""

    def __init__(self, config: PreferenceConfig) -> None:
        self.uplinks: Mapping[str, int] = {}
        self.remotes: dict[Group, Mapping[IpAddress, int]] = {}
        self.steps: tuple[str, ...] = ()
        self._config = config
        self._scheduler: Scheduler[str] = self._new()
        self._by_group: dict[Group, Scheduler[str]] = {}
        self._at: float | None = None
        self._last = float("-inf")

    def wake_at(self) -> float | None:
        """When to call `on_review`, in monotonic seconds."""
        return self._at

    def due(self, now: float) -> bool:
        """True when `on_review` is due."""
        return self._at is not None and self._at <= now

    def touch(self, now: float) -> None:
        """A measurement or the uplinks have changed: review soon."""
        if self._config.is_on or self.uplinks:
            self._wake(max(now, self._last + SOONEST_S))

    def on_config(self, config: PreferenceConfig, now: float) -> None:
        """The configuration was reloaded."""
        if config != self._config:
            self._config = config
            self._scheduler, self._by_group = self._new(), {}
            self._wake(now)

    def on_review(
        self, own: Sequence[LocalLocator], paths: Iterable[Path], groups: Iterable[Group], now: float
    ) -> list[MachineEffect]:
        """Compare all candidates. `own`: with configured priorities, `groups`: of mappings in use."""
        self._at, self._last = None, now
        known = [path for path in paths if path.state in MEASURED]
        if not self._config.is_on:
            effects = self._rank({}, (), ())
            self.remotes = {}
            return effects
        # The address that carries the interface's weight; any address has its priority.
        interfaces = {locator.interface: locator for locator in sorted(own, key=lambda one: one.weight)}
        addresses = {locator.address: locator.interface for locator in own}
        candidates = [
            Candidate(name, one.priority, one.weight, cost=one.cost, rtt_ms=figures.rtt_ms, loss=figures.loss)
            for name, one in sorted(interfaces.items())
            for figures in [_of_uplink(name, _equals(one, interfaces.values()), addresses, known)]
        ]
        schedule = self._scheduler.on_candidates(candidates, now)
        if schedule.review_at is not None:
            self._wake(schedule.review_at)
        effects = self._rank(
            {ranked.key: ranked.priority for ranked in schedule.ranked}, schedule.first, schedule.steps
        )
        self._rank_remotes(groups, [path for path in known if addresses.get(path.pair.local) in schedule.first], now)
        return effects

    def _rank(self, ranks: Mapping[str, int], first: Sequence[str], steps: tuple[str, ...]) -> list[MachineEffect]:
        self.steps = steps
        if ranks == self.uplinks:
            return []
        self.uplinks = ranks
        fields = {"prefer": self._config.prefer.value, "first": list(first), "why": steps[-1] if steps else ""}
        return [Event("uplinks-ranked", fields), UplinksRanked()]

    def _rank_remotes(self, groups: Iterable[Group], paths: list[Path], now: float) -> None:
        wanted = [group for group in groups if len(group) > 1][:GROUPS_MAX]
        self._by_group = {group: self._by_group.get(group) or self._new() for group in wanted}
        ranks: dict[Group, Mapping[IpAddress, int]] = {}
        for group, scheduler in self._by_group.items() if self._config.is_measured else ():
            candidates = []
            for remote in sorted(group, key=lambda one: (one.version, int(one))):
                figures = _mean([path for path in paths if path.pair.remote == remote])
                candidates.append(Candidate(str(remote), rtt_ms=figures.rtt_ms, loss=figures.loss))
            schedule = scheduler.on_candidates(candidates, now)
            if schedule.review_at is not None:
                self._wake(schedule.review_at)
            by_name = {ranked.key: ranked.priority for ranked in schedule.ranked}
            ranks[group] = {remote: by_name[str(remote)] for remote in group}
        self.remotes = ranks

    def _new(self) -> Scheduler[str]:
        return Scheduler(self._config.prefer, replace(Hysteresis(), hold_s=self._config.hold_s))

    def _wake(self, at: float) -> None:
        self._at = at if self._at is None else min(self._at, at)


def figures(own: Iterable[LocalLocator], paths: Iterable[Path]) -> dict[str, Quality]:
    """The quality of each sending interface, over the remote locators that all of them reach."""
    addresses = {locator.address: locator.interface for locator in own if locator.priority < NEVER}
    known = [path for path in paths if path.state in MEASURED]
    names = set(addresses.values())
    return {name: _of_uplink(name, names, addresses, known) for name in names}


def _equals(one: LocalLocator, others: Iterable[LocalLocator]) -> set[str]:
    return {other.interface for other in others if other.priority == one.priority < NEVER}


def _of_uplink(name: str, equals: set[str], addresses: Mapping[IpAddress, str], paths: list[Path]) -> Quality:
    """The mean over the remotes that all of its equals reach, or over all of its own if there are none."""
    reached: dict[str, set[IpAddress]] = {equal: set() for equal in equals | {name}}
    mine: list[Path] = []
    for path in paths:
        interface = addresses.get(path.pair.local)
        if interface in reached:
            reached[interface].add(path.pair.remote)
        if interface == name:
            mine.append(path)
    common = set.intersection(*reached.values())
    return _mean([path for path in mine if path.pair.remote in common] or mine)


def _mean(paths: list[Path]) -> Quality:
    rtts = [path.quality.rtt_s * 1000 for path in paths if path.quality.rtt_s is not None]
    known = [path.quality for path in paths if path.quality.probes >= PROBES_MIN]
    losses = [quality.loss for quality in known if quality.loss is not None]
    return Quality(_average(rtts), _average(losses))


def _average(figures: Sequence[float]) -> float | None:
    # `statistics.mean` would do, but importing it takes a tenth of lispd's start-up time.
    return sum(figures) / len(figures) if figures else None

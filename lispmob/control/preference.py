"""The policy `prefer`: which of equal uplinks, and of equal remote locators, take the flows, by what probes measure.

It is about what we send. Priorities stay what they are; among those of one priority the best takes all, the others wait
behind it. An uplink is judged by the remote locators in use that all of its equals reach, so that like is compared with
like; a remote locator by its pairs with the uplinks that are preferred. `protocol/scheduler.py` says when a rival takes
over.
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

SOONEST_S: Final = 1.0  # ours: probes are answered in bursts
PROBES_MIN: Final = 8  # ours: fewer outcomes say nothing about loss
GROUPS_MAX: Final = 1024  # ours: as many as the prober has paths for
MEASURED: Final = frozenset({State.UP, State.VERIFYING})

Group: TypeAlias = frozenset[IpAddress]
"""Remote locators of one mapping and of one priority."""


class PreferenceConfig(msgspec.Struct, frozen=True):
    """What is preferred. `hold_s`: for how long a rival has to be clearly better."""

    prefer: Prefer = Prefer.WEIGHT
    hold_s: float = 10.0

    @property
    def is_on(self) -> bool:
        """True when anything but the weight decides."""
        return self.prefer is not Prefer.WEIGHT

    @property
    def is_measured(self) -> bool:
        """True when probes have to go on while data proves the paths."""
        return self.prefer in (Prefer.LATENCY, Prefer.LOSS)


class Quality(NamedTuple):
    """The figures of an uplink or a remote locator; None: not measured."""

    rtt_ms: float | None = None
    loss: float | None = None


class Preference:
    """Remembers whom it has preferred. `uplinks`, `remotes`: the priorities that count then; empty: as configured."""

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
        """True when it is time for `on_review`."""
        return self._at is not None and self._at <= now

    def touch(self, now: float) -> None:
        """Something was measured, or the uplinks have changed: look, soon."""
        if self._config.is_on or self.uplinks:
            self._wake(max(now, self._last + SOONEST_S))

    def on_config(self, config: PreferenceConfig, now: float) -> None:
        """A reload."""
        if config != self._config:
            self._config = config
            self._scheduler, self._by_group = self._new(), {}
            self._wake(now)

    def on_review(
        self, own: Sequence[LocalLocator], paths: Iterable[Path], groups: Iterable[Group], now: float
    ) -> list[MachineEffect]:
        """Compare them all. `own` with the configured priorities, `groups` of mappings in use."""
        self._at, self._last = None, now
        known = [path for path in paths if path.state in MEASURED]
        if not self._config.is_on:
            effects = self._rank({}, (), ())
            self.remotes = {}
            return effects
        # The address that has the weight of its interface; any tells the priority.
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
    """What is measured of each interface that may send, over the remote locators that all of them reach."""
    addresses = {locator.address: locator.interface for locator in own if locator.priority < NEVER}
    known = [path for path in paths if path.state in MEASURED]
    names = set(addresses.values())
    return {name: _of_uplink(name, names, addresses, known) for name in names}


def _equals(one: LocalLocator, others: Iterable[LocalLocator]) -> set[str]:
    return {other.interface for other in others if other.priority == one.priority < NEVER}


def _of_uplink(name: str, equals: set[str], addresses: Mapping[IpAddress, str], paths: list[Path]) -> Quality:
    """Its mean over the remotes that all of its equals reach, or over its own when there is none of these."""
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
    # `statistics` has one, and a tenth of the time that lispd takes to start.
    return sum(figures) / len(figures) if figures else None

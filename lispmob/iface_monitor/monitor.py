"""The common part of all monitors: a state, the policy that evaluates it, and the report of a difference."""

from __future__ import annotations

import abc
import asyncio
from collections.abc import Callable, Sequence

from lispmob.iface_monitor.containers import container_networks
from lispmob.iface_monitor.delta import OnChange, diff
from lispmob.iface_monitor.snapshot import NetworkState, Uplink, UplinkPolicy


class Monitor(abc.ABC):
    """Keeps a `NetworkState` current and calls `on_change(state, delta, since)` for every difference.

    `since` is the loop's time at which the first event of the difference was read. The callback runs inside the loop,
    for the first time within `start()` with the whole present state. `on_rules_changed()` reports a change of routing
    rules, perhaps by ourselves: the time to check whether ours are still there.
    """

    def __init__(
        self, policy: UplinkPolicy, on_change: OnChange, on_rules_changed: Callable[[], None] | None = None
    ) -> None:
        self._policy = policy
        self._on_change = on_change
        self._on_rules_changed = on_rules_changed
        self._state = NetworkState()
        self._judged_by = policy  # the policy, without interfaces that `_judge` makes wait
        self._uplinks: tuple[Uplink, ...] = ()  # of the present state, as last reported

    @property
    def state(self) -> NetworkState:
        """The last snapshot."""
        return self._state

    @property
    def waiting(self) -> frozenset[str]:
        """Interfaces that would be uplinks if their gateways answered; none if that cannot be checked."""
        return frozenset()

    @property
    def policy(self) -> UplinkPolicy:
        """The policy that selects the uplinks."""
        return self._policy

    def set_policy(self, policy: UplinkPolicy, why: Sequence[str] = (), since: float | None = None) -> None:
        """Apply another policy to the present state, and report the changes.

        `why` and `since` (the loop's time) describe the event behind it if it was not a change of the configuration.
        """
        former, self._policy = self._policy, policy
        if former != policy:
            self._tell(self._state, asyncio.get_running_loop().time() if since is None else since, why)

    @abc.abstractmethod
    async def start(self) -> None:
        """Look, report, and begin to watch."""

    @abc.abstractmethod
    async def stop(self) -> None:
        """Stop watching; calling it again does nothing."""

    @abc.abstractmethod
    def nudge(self) -> None:
        """The network may have changed: look again. Publishes only differences."""

    def _publish(self, seen: NetworkState, since: float) -> None:
        """Make `seen` the present state, and report how it differs from the former one."""
        old, self._state = self._state, seen
        if old != seen:
            self._tell(old, since)

    def _tell(self, old: NetworkState, since: float, why: Sequence[str] = ()) -> None:
        """Report what has changed since `old` and since the uplinks were last selected."""
        former, former_uplinks = self._judged_by, self._uplinks
        news, self._uplinks = self._judge()
        delta = diff(
            old,
            self._state,
            self._judged_by,
            former,
            (*why, *news),
            uplinks=self._uplinks,
            former_uplinks=former_uplinks,
        )
        if delta.has_changed or delta.reasons or container_networks(old) != container_networks(self._state):
            self._on_change(self._state, delta, since)

    def _judge(self) -> tuple[tuple[str, ...], tuple[Uplink, ...]]:
        """Set the policy for the uplinks of the present state. Returns the changes in sentences, and the uplinks."""
        self._judged_by = self._policy
        return (), self._state.uplinks(self._policy)

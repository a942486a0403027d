"""What all ways to watch the network have in common: a state, the policy that judges it, how a difference is told."""

from __future__ import annotations

import abc
import asyncio
from collections.abc import Callable, Sequence

from lispmob.iface_monitor.delta import OnChange, diff
from lispmob.iface_monitor.snapshot import NetworkState, UplinkPolicy


class Monitor(abc.ABC):
    """Keeps a `NetworkState` current and tells `on_change(state, delta, since)` of every difference.

    `since` is the loop's time at which the first event behind the difference was read. The callback runs inside the
    loop, first from within `start()` with everything that is already there. `on_rules_changed()` tells that somebody,
    perhaps we ourselves, changed routing rules: the moment to look whether ours are still there.
    """

    def __init__(
        self, policy: UplinkPolicy, on_change: OnChange, on_rules_changed: Callable[[], None] | None = None
    ) -> None:
        self._policy = policy
        self._on_change = on_change
        self._on_rules_changed = on_rules_changed
        self._state = NetworkState()
        self._judged_by = policy  # the policy, and less what `_judge` keeps waiting

    @property
    def state(self) -> NetworkState:
        """The last snapshot."""
        return self._state

    @property
    def waiting(self) -> frozenset[str]:
        """Interfaces that would be uplinks if their gateways answered; none where that cannot be asked."""
        return frozenset()

    @property
    def policy(self) -> UplinkPolicy:
        """What the uplinks are judged by."""
        return self._policy

    def set_policy(self, policy: UplinkPolicy, why: Sequence[str] = (), since: float | None = None) -> None:
        """Judge the present state by another policy, and tell what that changes.

        `why` and `since` (the loop's time) tell of the event behind it when no user changed the configuration.
        """
        former, self._policy = self._policy, policy
        if former != policy:
            self._tell(self._state, asyncio.get_running_loop().time() if since is None else since, why)

    @abc.abstractmethod
    async def start(self) -> None:
        """Look, tell, and begin to watch."""

    @abc.abstractmethod
    async def stop(self) -> None:
        """Stop watching; calling it again does nothing."""

    @abc.abstractmethod
    def nudge(self) -> None:
        """Look again: somebody has reason to think that something changed. Publishes only what differs."""

    def _publish(self, seen: NetworkState, since: float) -> None:
        """Take `seen` for the state from now on, and tell how it differs from the one before."""
        old, self._state = self._state, seen
        if old != seen:
            self._tell(old, since)

    def _tell(self, old: NetworkState, since: float, why: Sequence[str] = ()) -> None:
        """Tell what is new since `old` and since the uplinks were last judged."""
        former, news = self._judged_by, self._judge()
        delta = diff(old, self._state, self._judged_by, former, (*why, *news))
        if delta.reasons or delta.has_changed:
            self._on_change(self._state, delta, since)

    def _judge(self) -> tuple[str, ...]:
        """Set what the uplinks of the present state are judged by. Returns in sentences what has changed for whom."""
        self._judged_by = self._policy
        return ()

"""Keeps receiving on removed addresses for two seconds, so that packets in flight survive."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Final

from lispmob.iface_monitor.snapshot import NetworkState, Uplink, UplinkPolicy
from lispmob.lispd import assembly
from lispmob.mh.plan import LostAddress

LINGER_S: Final = 2.0  # ours: longer than any usable round trip; packets to a lost address arrive within it


class Lingering:
    """Holds the list, and calls `on_change()` when it changes."""

    def __init__(self, on_change: Callable[[], None]) -> None:
        self._on_change = on_change
        self._leaving: tuple[Uplink, ...] = ()
        self.lost: tuple[LostAddress, ...] = ()

    def on_network(self, former: Iterable[Uplink], policy: UplinkPolicy, state: NetworkState) -> None:
        """The network changed; `former` are the uplinks before, including those that we left early."""
        once = (*former, *self._leaving)
        self._leaving = assembly.leaving_uplinks(once, policy, state)
        if lost := assembly.lost_addresses(once, state):
            self.lost = (*self.lost, *lost)
            asyncio.get_running_loop().call_later(LINGER_S, self._forget, len(lost))
            self._on_change()

    def _forget(self, count: int) -> None:
        self.lost = self.lost[count:]
        self._on_change()

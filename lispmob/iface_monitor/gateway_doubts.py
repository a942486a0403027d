"""Which gateways to verify when nothing answers: another router may have taken the address of the former one; pure.

The kernel trusts a link-layer address for half a minute and more. Another router may have the gateway's address by
then: a standby that took over, or the network of another access point of the same name. Nothing on this host tells, so
what is sent goes to the former one. A gateway that does not confirm its address at once is forgotten: the kernel then
asks the whole link.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec

from lispmob.iface_monitor.gateway_trials import Gateway
from lispmob.protocol.outage import longest_wait_s

CONFIRM_S: Final = (
    0.4  # ours: a gateway answers within milliseconds, or is slow to wake up; to be forgotten costs little
)
REST_MAX_S: Final = 60.0  # ours: between two requests, in an old outage
CALM_S: Final = 90.0  # ours: without a silence for so long, the next one is another outage


class _Doubt(msgspec.Struct):
    since: float
    doubted_at: float
    asked_at: float = float("-inf")


class GatewayDoubts:
    """The pace of the requests, for each gateway."""

    def __init__(self) -> None:
        self._doubts: dict[Gateway, _Doubt] = {}
        self._asked: dict[Gateway, float] = {}

    def wake_at(self) -> float | None:
        """When to call `to_check` (monotonic seconds)."""
        return min((at + CONFIRM_S for at in self._asked.values()), default=None)

    def on_silence(self, gateways: Iterable[Gateway], now: float) -> tuple[Gateway, ...]:
        """Something that was sent is unanswered. Returns those of the present gateways that must be asked now."""
        self._doubts = {gateway: self._doubted(gateway, now) for gateway in gateways}
        due = [
            gateway
            for gateway, doubt in self._doubts.items()
            if now >= doubt.asked_at + longest_wait_s(now - doubt.since, REST_MAX_S)
        ]
        for gateway in due:
            self._doubts[gateway].asked_at = self._asked[gateway] = now
        return tuple(due)

    def to_check(self, now: float) -> tuple[Gateway, ...]:
        """The gateways that were asked, and should have answered by now. Each is returned once."""
        due = tuple(gateway for gateway, at in self._asked.items() if now >= at + CONFIRM_S)
        for gateway in due:
            del self._asked[gateway]
        return due

    def _doubted(self, gateway: Gateway, now: float) -> _Doubt:
        known = self._doubts.get(gateway)
        if known is None or now - known.doubted_at > CALM_S:
            return _Doubt(now, now)
        known.doubted_at = now
        return known

"""Verifies the gateways in the kernel's neighbour tables when messages go unanswered."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from typing import Final

from lispmob.api.schema import Event
from lispmob.iface_monitor import neighbours
from lispmob.iface_monitor.gateway_doubts import GatewayDoubts
from lispmob.iface_monitor.gateway_trials import Gateway

SILENCES: Final = frozenset({"register-timeout", "rtr-failed", "rloc-unreachable", "uplink-silent"})

log = logging.getLogger(__name__)


class GatewayChecks:
    """`gateways` returns those of the present uplinks."""

    def __init__(self, gateways: Callable[[], Iterable[Gateway]]) -> None:
        self._gateways = gateways
        self._doubts = GatewayDoubts()
        self._check: asyncio.TimerHandle | None = None

    def on_event(self, event: Event) -> None:
        """A published event. A register through an RTR is repeated without an event of its own."""
        tries = event.fields.get("tries")
        is_repeated = event.kind == "register-sent" and isinstance(tries, int) and tries > 1
        if not is_repeated and event.kind not in SILENCES:
            return
        for gateway in self._doubts.on_silence(self._gateways(), asyncio.get_running_loop().time()):
            self._try(neighbours.verify, gateway)
        self._arm()

    def stop(self) -> None:
        """Check nothing more. Idempotent."""
        if self._check is not None:
            self._check.cancel()
            self._check = None

    def _arm(self) -> None:
        self.stop()
        if (at := self._doubts.wake_at()) is not None:
            self._check = asyncio.get_running_loop().call_at(at, self._on_time)

    def _on_time(self) -> None:
        self._check = None
        for gateway in self._doubts.to_check(asyncio.get_running_loop().time()):
            self._try(neighbours.forget_unconfirmed, gateway)
        self._arm()

    @staticmethod
    def _try(change: Callable[[Gateway], bool], gateway: Gateway) -> None:
        try:
            if change(gateway):
                log.debug("%s gateway=%s", change.__name__, gateway.address)
        except OSError as error:  # the interface may be gone
            log.debug("neighbour not changed gateway=%s why=%s", gateway.address, error.strerror)

"""Link-layer addresses of the gateways, for rules about an interface's network.

They are looked up only if the configuration names such an address. The kernel learns one when it first sends to the
gateway, so a lookup may come too early: it is repeated within seconds, and at every change of the network.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from msgspec.structs import replace

from lispmob.config.node import NodeFile
from lispmob.iface_monitor import neighbours
from lispmob.iface_monitor.gateway_trials import Gateway
from lispmob.iface_monitor.network_manager_state import ManagerState
from lispmob.iface_monitor.snapshot import NetworkState

FIRST_LOOK_S: Final = 0.05  # ours: a gateway answers within milliseconds, or is slow to wake up
LAST_LOOK_S: Final = 10.0

log = logging.getLogger(__name__)


def names_gateways(file: NodeFile) -> bool:
    """Whether a configured rule names the link-layer address of a gateway."""
    patterns = [network_pattern for uplink in file.uplinks for network_pattern in uplink.network]
    patterns += [network_pattern for rule in file.steering.rules for network_pattern in rule.network]
    return any(pattern.kind == "gateway" for pattern in patterns)


class GatewayAddresses:
    """The gateways in the kernel's neighbour tables. The loop calls `on_change` later."""

    def __init__(
        self,
        on_change: Callable[[], None],
        link_address: Callable[[Gateway], str | None] = neighbours.link_address,
    ) -> None:
        self._on_change, self._link_address = on_change, link_address
        self._found: tuple[tuple[str, frozenset[str]], ...] = ()
        self._network = NetworkState()
        self._again: asyncio.TimerHandle | None = None

    def onto(self, nm_state: ManagerState) -> ManagerState:
        """NetworkManager's view, with the gateways added."""
        return replace(nm_state, gateways=self._found) if self._found else nm_state

    def look(self, network: NetworkState, *, is_wanted: bool) -> None:
        """The network has changed to this."""
        self.stop()
        self._network = network
        if is_wanted:
            self._look(FIRST_LOOK_S)
        elif self._found:
            self._use(())

    def stop(self) -> None:
        """Stop. Idempotent."""
        if self._again is not None:
            self._again.cancel()
            self._again = None

    def _look(self, pause_s: float) -> None:
        self._again = None
        found: dict[str, set[str]] = {}
        is_complete = True
        for link in self._network.links:
            if not (link.is_up and link.has_carrier):
                continue
            for route in self._network.routes_of(link.ifindex, 4) + self._network.routes_of(link.ifindex, 6):
                if route.gateway is None:
                    continue
                address = self._ask(Gateway(link.ifindex, route.gateway))
                if address is None:
                    is_complete = False
                else:
                    found.setdefault(link.name, set()).add(address)
        self._use(tuple((name, frozenset(known)) for name, known in sorted(found.items())))
        if not is_complete and pause_s <= LAST_LOOK_S:
            self._again = asyncio.get_running_loop().call_later(pause_s, self._look, 2 * pause_s)

    def _ask(self, gateway: Gateway) -> str | None:
        try:
            return self._link_address(gateway)
        except OSError as error:
            log.debug("neighbour not asked gateway=%s why=%s", gateway.address, error.strerror)
            return None

    def _use(self, found: tuple[tuple[str, frozenset[str]], ...]) -> None:
        if found != self._found:
            self._found = found
            asyncio.get_running_loop().call_soon(self._on_change)

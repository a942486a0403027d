"""A new uplink waits until its gateway has answered, as long as another uplink works; pure.

A link that is up may not carry packets yet: a switch port first listens and learns (IEEE 802.1D: up to half a minute),
an access point may still authorise. Moving there at once would lose packets that the other uplink carries. No packet
can leave through a gateway whose link-layer address is unknown, so waiting for it costs nothing and proves the path to
it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

import msgspec

from lispmob.iface_monitor.snapshot import NetworkState, Uplink
from lispmob.wire.address import IpAddress

WAITS: Final = "waits until its gateway answers"
_FIRST_LOOK_S: Final = 0.01  # ours: most gateways answer within milliseconds
_BACK_OFF: Final = 0.2  # ours: of the time waited so far
_LONGEST_S: Final = 30.0  # ours: a gateway that stays silent must not keep the machine awake


class Gateway(msgspec.Struct, frozen=True):
    """The next hop of a default route."""

    ifindex: int
    address: IpAddress


def gateways_of(state: NetworkState, uplinks: Iterable[Uplink]) -> dict[str, frozenset[Gateway]]:
    """The gateways of each uplink, in the families of its addresses; none if a route needs no next hop."""
    return {
        uplink.name: frozenset(
            Gateway(uplink.ifindex, route.gateway)
            for family in {address.version for address in uplink.addresses}
            for route in state.routes_of(uplink.ifindex, family)
            if route.gateway is not None
        )
        for uplink in uplinks
    }


class GatewayTrials:
    """Which uplinks wait. One in use continues: a gateway that fails later is detected by RLOC-probing."""

    def __init__(self) -> None:
        self._uplinks: Mapping[str, frozenset[Gateway]] = {}
        self._proven: frozenset[Gateway] = frozenset()
        self._since: dict[str, float] = {}
        self._wake_at: float | None = None

    @property
    def waiting(self) -> frozenset[str]:
        """Interfaces that must not be used yet."""
        return frozenset(self._since)

    def wake_at(self) -> float | None:
        """When to check the gateways again (monotonic seconds)."""
        return self._wake_at

    def on_uplinks(self, uplinks: Mapping[str, frozenset[Gateway]]) -> frozenset[Gateway]:
        """The present uplinks and their gateways. Returns the gateways to ask for: those that have not answered yet.

        None of a single uplink, which is used whether its gateway answers or not.
        """
        self._uplinks = uplinks
        if len(uplinks) < 2:
            return frozenset()
        return frozenset().union(*(ways for ways in uplinks.values() if not self._is_proven(ways)))

    def on_known(self, known: Iterable[Gateway], now: float) -> tuple[str, ...]:
        """These gateways answer. Returns the changes in sentences."""
        self._proven |= frozenset(known)
        usable = {name for name, ways in self._uplinks.items() if self._is_proven(ways)}
        usable = usable or set(self._uplinks)  # an uplink that may not work yet is better than none
        self._proven = frozenset().union(*(self._uplinks[name] for name in usable))
        before, self._since = self._since, {
            name: self._since.get(name, now) for name in self._uplinks if name not in usable
        }  # fmt: skip
        self._wake_at = self._next_look(now)
        begun = [f"{name}: {WAITS}" for name in self._since if name not in before]
        ended = [f"{name}: waits no longer for its gateway" for name in before if name in usable]
        return (*begun, *ended)

    def _is_proven(self, ways: frozenset[Gateway]) -> bool:
        return not ways or bool(ways & self._proven)

    def _next_look(self, now: float) -> float | None:
        if not self._since:
            return None
        waited_s = now - max(self._since.values())
        return now + min(max(_FIRST_LOOK_S, waited_s * _BACK_OFF), _LONGEST_S)

"""The hub's control plane in one piece: a datagram goes to the machine that its type nibble names. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Final

from lispmob.hub.effect import Arrival, HubEffect
from lispmob.hub.map_resolver import MapResolver, RemoteMapServer
from lispmob.hub.map_server import MapServer
from lispmob.hub.site import Site
from lispmob.wire.header import MessageType

_SHORTEST: Final = 4
_IS_SMR: Final = 0x01


class ControlPlane:
    """Map-Server and Map-Resolver behind one port."""

    def __init__(
        self, sites: Iterable[Site], remotes: Iterable[RemoteMapServer] = (), families: Iterable[int] = (4, 6)
    ) -> None:
        self.map_server = MapServer(sites)
        self.map_resolver = MapResolver(self.map_server, remotes, families)
        self._counters: Counter[str] = Counter()

    @property
    def counters(self) -> Counter[str]:
        """All counters together; names of refused input are those of the error catalogue."""
        return self._counters + self.map_server.counters + self.map_resolver.counters

    def wake_at(self) -> float | None:
        """When on_timer is due; None for never."""
        return self.map_server.wake_at()

    def on_timer(self, now: float) -> list[HubEffect]:
        """Time has passed."""
        return self.map_server.on_timer(now)

    def on_sites(self, sites: Iterable[Site], remotes: Iterable[RemoteMapServer]) -> list[HubEffect]:
        """The configuration was read again."""
        self.map_resolver.on_remotes(remotes)
        return self.map_server.on_sites(sites)

    def on_datagram(self, arrival: Arrival, now: float) -> list[HubEffect]:
        """A datagram came to the control port."""
        raw = arrival.payload
        if len(raw) < _SHORTEST:
            self._counters["rx_short"] += 1
            return []
        kind = raw[0] >> 4
        if kind == MessageType.MAP_REGISTER:
            return self.map_server.on_map_register(arrival, now)
        if kind == MessageType.ENCAPSULATED_CONTROL:
            return self.map_resolver.on_encapsulated_control(arrival, now)
        if kind == MessageType.MAP_REQUEST:
            # An SMR tells a proxy ITR that a mapping changed: the Map-Server next door knows already. A probe or a
            # plain request is for an ETR, which a hub is not (RFC 9301, 8.2).
            self._counters["rx_smr" if raw[0] & _IS_SMR else "rx_policy"] += 1
            return []
        self._counters["rx_type"] += 1
        return []

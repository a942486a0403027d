"""Path MTUs of a proxy or RTR: the same search as a node's, on the paths of registrations. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import TypeAlias

from lispmob.control.path_mtu.paths import MtuEffect, PathMtus
from lispmob.control.path_mtu.search import Way
from lispmob.control.path_mtu.size_probe import ControlProbe, DataProbe
from lispmob.protocol.effect import UsableLocator
from lispmob.wire.address import EidPrefix, IpAddress

Served: TypeAlias = Callable[[IpAddress, int], "tuple[EidPrefix, UsableLocator] | None"]
"""For a locator and port: a prefix that it serves, and the locator as installed."""


class RelaySizes:
    """The inputs are the datapath's reports; `new_nonce` returns unpredictable numbers."""

    def __init__(self, served: Served, *, new_nonce: Callable[[], int]) -> None:
        self.counters: Counter[str] = Counter()
        self._served = served
        self._mtus = PathMtus(new_nonce=new_nonce, counters=self.counters)

    def wake_at(self) -> float | None:
        """When to call on_timer; None while nothing is probed."""
        return self._mtus.wake_at()

    def on_timer(self, now: float) -> list[MtuEffect]:
        """A deadline may have passed."""
        return self._mtus.on_timer(now)

    def on_links(self, links: Mapping[IpAddress, int]) -> list[MtuEffect]:
        """Our addresses, each with its interface's MTU, have changed; the datapath has lost all path MTUs."""
        return [*self._mtus.on_links(links), *self._mtus.in_use]

    def on_large(self, local: IpAddress, remote: IpAddress, port: int, now: float) -> list[MtuEffect]:
        """Large packets are sent to this locator and port."""
        probe = self._probe(local, remote, port)
        return [] if probe is None else self._mtus.on_large(Way(local, remote, port), probe, now)

    def on_too_big(
        self, local: IpAddress, remote: IpAddress, port: int, mtu_bytes: int, source: str, now: float
    ) -> list[MtuEffect]:
        """A packet was too big: "icmp" is a proven ICMP error, "unproven" another one, "interface" a local refusal."""
        probe, way = self._probe(local, remote, port), Way(local, remote, port)
        return [] if probe is None else self._mtus.on_report(way, probe, mtu_bytes, source, now)

    def is_answer(self, payload: bytes) -> bool:
        """True for a Map-Reply to a probe of ours."""
        return self._mtus.is_answer(payload)

    def on_answer(self, payload: bytes, now: float) -> list[MtuEffect]:
        """A probe was answered."""
        return self._mtus.on_answer(payload, now)

    def _probe(self, local: IpAddress, remote: IpAddress, port: int) -> ControlProbe | DataProbe | None:
        """A node behind a NAT is probed in data, from the port that its NAT admits; others at port 4342."""
        found = self._served(remote, port)
        if found is None:
            return None
        prefix, locator = found
        if locator.source is None:
            return ControlProbe(prefix, local, remote)
        return DataProbe(prefix, locator.source, remote, port)

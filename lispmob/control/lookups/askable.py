"""Which Map-Resolver is asked, and from which of our locators. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import ip_address

from lispmob.protocol.locator_set import NEVER, LocalLocator, LocatorSet, Place
from lispmob.wire.address import IpAddress


class Askable:
    """The Map-Resolvers, our locators, and what is known of both.

    `preferred`: the Map-Resolver that answered last. `heard`: local RLOCs from which requests were answered.
    """

    def __init__(self, map_resolvers: Sequence[IpAddress]) -> None:
        self.map_resolvers = tuple(map_resolvers)
        self.locators = LocatorSet()
        self.heard: frozenset[Place] = frozenset()
        self.preferred: IpAddress | None = None
        self._answered_at: dict[IpAddress, float] = {}

    def ways(self) -> list[tuple[IpAddress, LocalLocator]]:
        """Map-Resolvers and locators to ask from, in the order of trying.

        All resolvers from the best locator, then from the next. Locators that were answered come first, silent ones
        last.
        """
        found: list[tuple[tuple[bool, bool, int], IpAddress, LocalLocator]] = []
        for resolver in self._by_preference():
            for place, uplink in enumerate(self.locators.for_family(resolver.version)):
                is_heard = uplink.place in self.heard
                found.append(((uplink.priority == NEVER, not is_heard, place), resolver, uplink))
        return [(resolver, uplink) for _, resolver, uplink in sorted(found, key=lambda one: one[0])]

    def on_answered(self, server: IpAddress, now: float) -> None:
        """This host of the mapping system has answered something."""
        if server in self.map_resolvers:
            self._answered_at[server] = now

    def has_answered(self, resolver: IpAddress, since: float) -> bool:
        """Whether it has answered anything since then: otherwise its silence may be the network's."""
        return self._answered_at.get(resolver, float("-inf")) >= since

    def holds(self, resolver: IpAddress, uplink: LocalLocator) -> bool:
        """Whether this Map-Resolver and this locator are still ours to use."""
        return resolver in self.map_resolvers and any(own.place == uplink.place for own in self.locators.locators)

    def inner_source(self, family: int) -> IpAddress:
        """An inner source of the requested family if no EID has it: an RLOC, or nothing."""
        uplink = self.locators.best(family)
        return uplink.address if uplink is not None else ip_address("0.0.0.0" if family == 4 else "::")

    def _by_preference(self) -> list[IpAddress]:
        """The configured Map-Resolvers in turn, beginning with the one that answered last."""
        if self.preferred not in self.map_resolvers:
            return list(self.map_resolvers)
        start = self.map_resolvers.index(self.preferred)
        return [*self.map_resolvers[start:], *self.map_resolvers[:start]]

"""NAT traversal in the hub's control plane: which of its machines an Info-Request, an ECM or a probe is for. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, TypeAlias

from lispmob.errors import MalformedMessage
from lispmob.hub.effect import Arrival, HubEffect
from lispmob.hub.info import InfoResponder
from lispmob.hub.map_server import MapServer
from lispmob.hub.relayed import RelayedRegisters, RtrPeer
from lispmob.hub.rtr import MapServerLink, Rtr
from lispmob.hub.rtr_effect import RtrEffect, Stranger
from lispmob.wire.address import IpAddress
from lispmob.wire.ecm import EncapsulatedControl
from lispmob.wire.map_request import MapRequest

PlaneEffect: TypeAlias = HubEffect | RtrEffect

# Of the second octet of an ECM (NAT-traversal draft): to an RTR, or relayed by one.
TO_RTR_BIT: Final = 0x40
RELAYED_BIT: Final = 0x20


@dataclass(frozen=True, slots=True)
class TraversalPolicy:
    """What a hub does for nodes behind NATs.

    `rtrs`: handed out in this order, and allowed to relay registrations. `is_rtr`: this hub is one; without
    `map_servers` it is the Map-Server too, and without `rtrs` it names itself.
    """

    rtrs: tuple[RtrPeer, ...] = ()
    is_rtr: bool = False
    map_servers: tuple[MapServerLink, ...] = ()
    answers_lispers: bool = False


NO_TRAVERSAL: Final = TraversalPolicy()


class Traversal:
    """The Map-Server's and the RTR's side. `own` are the addresses that this hub is known by."""

    def __init__(
        self, map_server: MapServer, policy: TraversalPolicy = NO_TRAVERSAL, own: Iterable[IpAddress] = ()
    ) -> None:
        self._map_server = map_server
        self._own: frozenset[IpAddress] = frozenset(own)
        self._counters: Counter[str] = Counter()
        self.info = InfoResponder(map_server.sites)
        self.relayed = RelayedRegisters(map_server)
        self.rtr = Rtr()
        self.on_policy(policy)

    @property
    def counters(self) -> Counter[str]:
        """All counters together."""
        return self._counters + self.info.counters + self.relayed.counters + self.rtr.counters

    def on_policy(self, policy: TraversalPolicy) -> None:
        """The configuration, or the sites in it, are these now."""
        self.policy = policy
        self.info.on_config(
            self._map_server.sites,
            (rtr.address for rtr in policy.rtrs),
            answers_lispers=policy.answers_lispers,
            offers_itself=policy.is_rtr,
        )
        self._spread()

    def on_addresses(self, own: Iterable[IpAddress]) -> None:
        """This hub's addresses are these now."""
        self._own = frozenset(own)
        self._spread()

    def _spread(self) -> None:
        """An RTR and a Map-Server in one process talk to each other as if they were two: by datagrams to ourselves."""
        policy, own = self.policy, sorted(self._own, key=lambda one: (one.version, int(one)))
        named = {rtr.address for rtr in policy.rtrs}
        itself = tuple(RtrPeer(address) for address in own if policy.is_rtr and address not in named)
        self.relayed.on_rtrs((*itself, *policy.rtrs))
        self.rtr.on_map_servers(policy.map_servers or tuple(MapServerLink(address) for address in own))
        self.rtr.on_addresses(own)

    def wake_at(self) -> float | None:
        """When on_timer is due."""
        return self.rtr.wake_at()

    def on_timer(self, now: float) -> list[RtrEffect]:
        """Time has passed."""
        return self.rtr.on_timer(now)

    def on_info_request(self, arrival: Arrival, now: float) -> list[HubEffect]:
        """A message of type 7 came. Without an RTR to offer, the answer still tells whether there is a NAT."""
        return self.info.on_info_request(arrival, now)

    def on_encapsulated_control(self, arrival: Arrival, now: float) -> list[PlaneEffect] | None:
        """An ECM came; None when it is one for the Map-Resolver."""
        flags = arrival.payload[1]
        if not flags & (TO_RTR_BIT | RELAYED_BIT):
            return None
        try:
            ecm = EncapsulatedControl.decode(arrival.payload)
        except MalformedMessage as malformed:
            return self._refuse(malformed.counter)
        if ecm.to_rtr:
            return list(self.rtr.on_encapsulated_control(arrival, ecm, now)) if self.policy.is_rtr else self._refuse()
        return list(self.relayed.on_encapsulated_register(arrival, ecm, now))

    def on_old_register(self, arrival: Arrival, now: float) -> list[HubEffect] | None:
        """A bare Map-Register that says it came through an RTR; None when none of ours sent it."""
        return self.relayed.on_old_register(arrival, now) if self.relayed.knows(arrival.source) else None

    def on_probe(self, arrival: Arrival) -> list[PlaneEffect]:
        """An RLOC-probe: an RTR answers, for nodes want to know how far away it is."""
        if not self.policy.is_rtr:
            return self._refuse()
        try:
            return list(self.rtr.on_probe(arrival, MapRequest.decode(arrival.payload)))
        except MalformedMessage as malformed:
            return self._refuse(malformed.counter)

    def on_stranger(self, packet: Stranger, now: float) -> list[RtrEffect]:
        """Data came from a source that is not registered from there."""
        return self.rtr.on_stranger(packet, now)

    def _refuse(self, counter: str = "rx_policy") -> list[PlaneEffect]:
        self._counters[counter] += 1
        return []

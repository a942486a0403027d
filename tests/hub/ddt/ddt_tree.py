"""A delegated database tree of hubs in memory (RFC 8111), for tests."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import ip_address
from itertools import count

from msgspec.structs import replace

from lispmob.hub.ddt.policy import DdtPolicy, Delegation
from lispmob.hub.dispatch import ControlPlane
from lispmob.hub.map_server.effect import Arrival
from lispmob.hub.map_server.site import Site
from lispmob.protocol.effect import SendControl
from lispmob.wire.address import IpAddress
from lispmob.wire.map_reply import MapReply
from lispmob.wire.record import MappingRecord
from tests.hub.exchange import ask, eid, site, xtr

RESOLVER, ROOT, CHILD, SERVER, SECOND = map(ip_address, [f"198.51.100.{n}" for n in (10, 20, 30, 40, 50)])


ITR = ip_address("203.0.113.7")


LAPTOP = "10.65.1.2/32"


def delegation(prefix: str, *addresses: IpAddress, is_map_server: bool = False) -> Delegation:
    return Delegation(eid(prefix), addresses, is_map_server)


class Tree:
    """Hubs by address. Messages to addresses without a hub are kept by address."""

    def __init__(self) -> None:
        self.hubs: dict[IpAddress, ControlPlane] = {}
        self.silent: set[IpAddress] = set()
        self.asked: list[IpAddress] = []
        self.outside: list[tuple[IpAddress, bytes]] = []
        self.now = 0.0
        self._nonces = count(0x5EED << 48)  # nonces of 64 bits

    def add(self, address: IpAddress, *sites: Site, **policy: object) -> ControlPlane:
        ddt = DdtPolicy(**policy)  # type: ignore[arg-type]
        hub = self.hubs[address] = ControlPlane(sites, new_nonce=self._nonces.__next__, ddt=ddt)
        hub.on_addresses([address])
        return hub

    def put(self, arrival: Arrival) -> None:
        queue = [arrival]
        for _ in range(1000):
            if not queue:
                return
            queue += self._deliver(queue.pop(0))
        raise AssertionError("they never stop talking")

    def ask(self, asked: str = LAPTOP, nonce: int = 7, itr: IpAddress = ITR) -> list[MappingRecord]:
        """An ITR asks the Map-Resolver; returns the records of all Map-Replies that it got."""
        self.outside.clear()
        self.asked.clear()
        self.put(replace(ask(asked, nonce=nonce, itr=str(itr)), destination=RESOLVER))
        return self.answers(nonce)

    def answers(self, nonce: int = 7) -> list[MappingRecord]:
        replies = [MapReply.decode(raw) for address, raw in self.outside if address == ITR]
        assert all(reply.nonce == nonce for reply in replies)
        return [record for reply in replies for record in reply.records]

    def wait(self, seconds: float) -> None:
        until = self.now + seconds
        while (
            at := min((at for hub in self.hubs.values() if (at := hub.wake_at()) is not None), default=None)
        ) is not None:
            if at > until:
                break
            self.now = max(self.now, at)
            for address, hub in self.hubs.items():
                for arrival in self._sent(address, hub.on_timer(self.now)):
                    self.put(arrival)
        self.now = until

    def _deliver(self, arrival: Arrival) -> list[Arrival]:
        hub = self.hubs.get(arrival.destination)
        if hub is None or arrival.destination in self.silent:
            self.outside.append((arrival.destination, arrival.payload))
            return []
        return self._sent(arrival.destination, hub.on_datagram(arrival, now=self.now))

    def _sent(self, sender: IpAddress, effects: Iterable[object]) -> list[Arrival]:
        sent = [effect for effect in effects if isinstance(effect, SendControl)]
        if sender == RESOLVER:
            self.asked += [effect.destination for effect in sent if effect.destination in self.hubs]
        return [Arrival(effect.payload, effect.source or sender, 4342, effect.destination) for effect in sent]


def tree(*, registers: bool = True, peers: tuple[IpAddress, ...] = ()) -> Tree:
    """A root (10.0.0.0/8), a child (10.64.0.0/10), a Map-Server (10.65.0.0/16), and a laptop registered there."""
    world = Tree()
    world.add(RESOLVER, roots=(ROOT,))
    world.add(ROOT, authoritative=(eid("10.0.0.0/8"),), delegations=(delegation("10.64.0.0/10", CHILD),))
    below = delegation("10.65.0.0/16", SERVER, is_map_server=True)
    world.add(CHILD, authoritative=(eid("10.64.0.0/10"),), delegations=(below,))
    world.add(SERVER, site("10.65.0.0/16"), authoritative=(eid("10.65.0.0/16"),), peers=peers)
    if registers:
        world.put(replace(xtr("192.0.2.5").register(LAPTOP), destination=SERVER))
    return world

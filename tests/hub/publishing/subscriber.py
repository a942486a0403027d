"""A subscriber to publications (RFC 9437), and a hub for it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from ipaddress import ip_address
from itertools import count
from pathlib import Path

from lispmob.hub.dispatch import ControlPlane
from lispmob.hub.map_server.effect import Arrival
from lispmob.hub.map_server.lisp_sec import HubSecurity
from lispmob.hub.restoring import Restoring
from lispmob.hub.store.persistence import Persistence
from lispmob.hub.store.store import Store
from lispmob.protocol.effect import SendControl
from lispmob.wire import lisp_sec_auth
from lispmob.wire.address import IpAddress
from lispmob.wire.auth import Key, sign, verify
from lispmob.wire.ecm import EncapsulatedControl
from lispmob.wire.lisp_sec import EcmSecurity, EidAuthentication
from lispmob.wire.map_notify import MapNotify, MapNotifyAck
from lispmob.wire.map_request import EidRecord, MapRequest
from tests.crypto.support import KEY_WRAP
from tests.hub.exchange import HUB, KEY, Xtr, eid, sent, site, xtr
from tests.hub.store.test_store import Time

OTKS = count(1)
MOVER = "10.1.0.7/32"
OTHER_KEY = Key(b"a key of the other site")


@dataclass
class Subscriber:
    """A registered node of the site, which subscribes to other EIDs."""

    plane: ControlPlane
    address: str = "203.0.113.7"
    own: str = "10.1.0.1/32"
    key: Key = KEY
    xtr_id: bytes = b"subscriber 00001"
    nonce: int = 1 << 40
    secret: bytes = b""
    notified: list[SendControl] = field(default_factory=list)

    def register(self, now: float = 0.0) -> None:
        node = Xtr(ip_address(self.address), self.key, xtr_id=self.xtr_id)
        self.plane.on_datagram(node.register(self.own), now)

    def request(self, asked: str = MOVER, rlocs: tuple[str, ...] = (), **more: object) -> MapRequest:
        self.nonce += 1
        places: tuple[IpAddress | None, ...] = tuple(map(ip_address, rlocs or (self.address,)))
        fields = {"itr_rlocs": places, "xtr_id": self.xtr_id, "site_id": bytes(8), **more}
        records = (EidRecord.of(eid(asked), wants_notify=True),)
        return MapRequest(self.nonce, eid(self.own).address, records=records, **fields)  # type: ignore[arg-type]

    def arrival(self, request: MapRequest, otk: bytes | None = None, **more: object) -> Arrival:
        otk = next(OTKS).to_bytes(16) if otk is None else otk
        resolver_secret = lisp_sec_auth.resolver_secret(self.key.secret)
        wrapped = lisp_sec_auth.wrapped_otk(KEY_WRAP, request.nonce, resolver_secret, otk)
        security = EcmSecurity(2, self.key.key_id, 2, wrapped, EidAuthentication(2))
        self.secret = lisp_sec_auth.publication_key(otk, request.nonce)
        record = request.records[0].eid_prefix
        assert record is not None
        ecm = EncapsulatedControl(
            eid(self.own).address, 4342, record.address, 4342, request.encode(), authentication=security.encode()
        )
        fields = {"source": ip_address(self.address), "source_port": 4342, "destination": HUB, **more}
        return Arrival(ecm.encode(), **fields)  # type: ignore[arg-type]

    def subscribe(self, now: float = 1.0, asked: str = MOVER, **more: object) -> list[SendControl]:
        return sent(self.plane.on_datagram(self.arrival(self.request(asked, **more)), now))  # type: ignore[arg-type]

    def read(self, one: SendControl) -> MapNotify:
        verify(one.payload, Key(self.secret, self.key.key_id))
        return MapNotify.decode(one.payload)

    def acknowledge(self, one: SendControl, now: float, key: Key | None = None) -> list[object]:
        notify = MapNotify.decode(one.payload)
        ack = MapNotifyAck(notify.nonce, notify.records)
        payload = sign(ack, key or Key(self.secret, self.key.key_id))
        return list(self.plane.on_datagram(Arrival(payload, ip_address(self.address), 4342, HUB), now))


def hub(*sites: object, **more: object) -> ControlPlane:
    return ControlPlane(sites or (site("10.1.0.0/16"),), security=HubSecurity("prefer", KEY_WRAP), **more)  # type: ignore[arg-type]


def mover(address: str, **more: object) -> Arrival:
    return xtr(address).register(MOVER, **more)  # type: ignore[arg-type]


def subscribed(**more: object) -> tuple[ControlPlane, Subscriber]:
    """A hub at which the mover is registered, and a subscriber with an accepted subscription."""
    plane = hub()
    plane.on_datagram(mover("203.0.113.5"), 0.0)
    one = Subscriber(plane, **more)  # type: ignore[arg-type]
    one.register()
    (confirmed,) = one.subscribe()
    one.acknowledge(confirmed, 1.1)
    return plane, one


def rlocs(notify: MapNotify) -> list[str]:
    return [str(locator.ip) for record in notify.records for locator in record.locators]


def publications(effects: list[object], one: Subscriber) -> list[SendControl]:
    return [out for out in sent(effects) if str(out.destination) == one.address]


def until(plane: ControlPlane, end: float) -> list[tuple[float, SendControl]]:
    """Everything that the publisher's timers send until then."""
    found: list[tuple[float, SendControl]] = []
    while (at := plane.publisher.wake_at()) is not None and at <= end:
        found += [(at, one) for one in sent(plane.publisher.on_timer(at))]
    return found


def restarted(path: Path, plane: ControlPlane, time: Time) -> ControlPlane:
    """The hub stops, and starts again with the same state file."""
    store, fresh = Store(path, time.clock), hub()

    async def run() -> None:
        loop = asyncio.get_running_loop()
        loop.time = lambda: time.monotonic_s  # type: ignore[method-assign]
        assert store.open() is None
        store.save({prefix: one.parts for prefix, one in plane.map_server.registrations})
        await Persistence(store, plane.map_server, plane.askers, plane.publisher).stop()
        assert store.open() is None
        restoring = Restoring(store, fresh, lambda _: None)
        restoring.begin()
        await restoring.run()
        store.close()

    asyncio.run(run())
    return fresh

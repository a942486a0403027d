"""Publish/subscribe in the Map-Server: who may subscribe, what is published to whom, what is repeated and refused."""

from __future__ import annotations

import asyncio
import sqlite3
from dataclasses import dataclass, field
from ipaddress import ip_address
from itertools import count
from pathlib import Path

import pytest
from msgspec.structs import replace

from lispmob.errors import AuthenticationFailed, MalformedMessage
from lispmob.hub.dispatch import ControlPlane
from lispmob.hub.map_server.effect import Arrival
from lispmob.hub.map_server.lisp_sec import HubSecurity
from lispmob.hub.map_server.map_resolver import RemoteMapServer
from lispmob.hub.publishing import publisher
from lispmob.hub.publishing.subscription import LIFETIME_S
from lispmob.hub.restoring import Restoring
from lispmob.hub.rtr.rtr_effect import InData
from lispmob.hub.rtr.traversal import TraversalPolicy
from lispmob.hub.store.persistence import Persistence
from lispmob.hub.store.store import Store
from lispmob.protocol.effect import SendControl
from lispmob.protocol.servers import ResolverSecret
from lispmob.wire import lisp_sec_auth
from lispmob.wire.address import IpAddress
from lispmob.wire.auth import Algorithm, Key, sign, verify
from lispmob.wire.ecm import EncapsulatedControl
from lispmob.wire.lisp_sec import EcmSecurity, EidAuthentication
from lispmob.wire.map_notify import MapNotify, MapNotifyAck
from lispmob.wire.map_reply import MapReply
from lispmob.wire.map_request import EidRecord, MapRequest
from lispmob.wire.record import Action
from tests.crypto.support import KEY_WRAP, needs_libcrypto
from tests.hub.exchange import HUB, KEY, Xtr, eid, events, sent, site, xtr
from tests.hub.test_store import Time

pytestmark = needs_libcrypto

OTKS = count(1)
MOVER = "10.1.0.7/32"
OTHER_KEY = Key(b"a key of the other site")


@dataclass
class Subscriber:
    """A node of the site, registered, that subscribes to others."""

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
    """A hub, where the mover is, and a subscriber whose subscription stands."""
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
    """Everything that leaves by timers of the publisher until then."""
    found: list[tuple[float, SendControl]] = []
    while (at := plane.publisher.wake_at()) is not None and at <= end:
        found += [(at, one) for one in sent(plane.publisher.on_timer(at))]
    return found


def test_a_subscription_is_confirmed_by_a_signed_map_notify_with_its_nonce() -> None:
    plane = hub()
    plane.on_datagram(mover("203.0.113.5"), 0.0)
    one = Subscriber(plane)
    one.register()

    (out,) = one.subscribe()

    notify = one.read(out)
    assert (notify.nonce, rlocs(notify)) == (one.nonce, ["203.0.113.5"])
    assert (str(out.destination), out.port, out.source) == (one.address, 4342, HUB)
    assert out.payload[13] == Algorithm.HMAC_SHA_256_128


def test_a_move_is_published_at_once_with_a_greater_nonce() -> None:
    plane, one = subscribed()

    (out,) = publications(list(plane.on_datagram(mover("198.51.100.99"), 2.0)), one)

    notify = one.read(out)
    assert (notify.nonce, rlocs(notify)) == (one.nonce + 1, ["198.51.100.99"])


def test_a_refresh_is_no_news() -> None:
    plane, one = subscribed()

    told = sent(plane.on_datagram(mover("203.0.113.5"), 2.0))

    assert [str(out.destination) for out in told] == ["203.0.113.5"]
    assert publications(told, one) == []  # type: ignore[arg-type]
    assert until(plane, 60.0) == []


def test_a_mapping_that_is_gone_is_published_with_ttl_zero() -> None:
    plane, one = subscribed()

    (out,) = publications(list(plane.on_datagram(mover("203.0.113.5", ttl_min=0), 2.0)), one)

    (record,) = one.read(out).records
    assert (record.ttl_min, record.locators, str(record.eid_prefix)) == (0, (), MOVER)


def test_a_mapping_that_runs_out_is_published_and_so_is_its_return() -> None:
    plane, one = subscribed()
    at = plane.map_server.wake_at()
    assert at is not None
    (gone,) = publications(list(plane.on_timer(181.0)), one)
    one.acknowledge(gone, 181.1)

    (back,) = publications(list(plane.on_datagram(mover("203.0.113.9"), 182.0)), one)

    assert one.read(gone).records[0].ttl_min == 0
    assert rlocs(one.read(back)) == ["203.0.113.9"]


def test_what_is_registered_inside_of_the_prefix_is_published_too_and_what_is_beside_it_is_not() -> None:
    plane = hub()
    plane.on_datagram(xtr("203.0.113.5").register("10.1.2.0/24"), 0.0)
    one = Subscriber(plane)
    one.register()
    one.acknowledge(one.subscribe(asked="10.1.2.0/24")[0], 1.1)

    inside = publications(list(plane.on_datagram(xtr("203.0.113.6").register("10.1.2.9/32"), 2.0)), one)
    beside = publications(list(plane.on_datagram(xtr("203.0.113.6").register("10.1.3.9/32"), 2.0)), one)

    assert [str(record.eid_prefix) for record in one.read(inside[0]).records] == ["10.1.2.9/32"]
    assert beside == []


def test_what_is_registered_around_the_prefix_is_said_for_the_prefix_alone() -> None:
    plane = hub()
    plane.on_datagram(xtr("203.0.113.5").register("10.1.2.0/24"), 0.0)
    one = Subscriber(plane)
    one.register()
    one.acknowledge(one.subscribe(asked="10.1.2.9/32")[0], 1.1)

    (out,) = publications(list(plane.on_datagram(xtr("203.0.113.8").register("10.1.2.0/24"), 2.0)), one)
    record = one.read(out).records[0]
    one.acknowledge(out, 2.1)
    plane.on_datagram(xtr("203.0.113.9").register("10.1.2.9/32"), 3.0)
    wider = publications(list(plane.on_datagram(xtr("203.0.113.10").register("10.1.2.0/24"), 4.0)), one)

    assert (str(record.eid_prefix), [str(one.ip) for one in record.locators]) == ("10.1.2.9/32", ["203.0.113.8"])
    assert wider == []  # something narrower holds by now


def test_without_an_acknowledgement_it_is_repeated_then_sent_elsewhere_and_then_the_subscription_ends() -> None:
    plane = hub()
    plane.on_datagram(mover("203.0.113.5"), 0.0)
    one = Subscriber(plane)
    one.register()
    one.subscribe(rlocs=("203.0.113.7", "203.0.113.77"))

    told = until(plane, 1000.0)

    first = [at for at, out in told if str(out.destination) == "203.0.113.7"]
    assert first[:5] == [4.0, 7.0, 10.0, 16.0, 28.0]
    assert {str(out.destination) for _, out in told} == {"203.0.113.7", "203.0.113.77"}
    (record,) = one.read(told[-1][1]).records
    assert (record.action, record.locators) == (Action.DROP_AUTH_FAILURE, ())
    assert one.read(told[-1][1]).nonce == one.nonce
    assert (len(plane.publisher), plane.counters["subscription_lost"]) == (0, 1)


def test_a_publication_that_is_acknowledged_is_not_repeated() -> None:
    plane, one = subscribed()
    (out,) = publications(list(plane.on_datagram(mover("198.51.100.99"), 2.0)), one)

    one.acknowledge(out, 2.1)

    assert until(plane, 1000.0) == []
    assert len(plane.publisher) == 1


@pytest.mark.parametrize("what", ["another key", "another nonce", "cut short"])
def test_an_acknowledgement_that_is_not_the_subscribers_stops_nothing(what: str) -> None:
    plane, one = subscribed()
    (out,) = publications(list(plane.on_datagram(mover("198.51.100.99"), 2.0)), one)
    notify = one.read(out)
    key = Key(b"a guess") if what == "another key" else Key(one.secret)
    nonce = notify.nonce + 1 if what == "another nonce" else notify.nonce
    payload = sign(MapNotifyAck(nonce, notify.records), key)
    payload = payload[:30] if what == "cut short" else payload

    plane.on_datagram(Arrival(payload, ip_address(one.address), 4342, HUB), 2.1)

    assert until(plane, 6.0) != []
    assert plane.counters["rx_auth"] + plane.counters["rx_nonce"] == 1


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_subscribers_that_chose_one_nonce_are_told_apart_by_their_keys(order: tuple[int, int]) -> None:
    plane = hub()
    plane.on_datagram(mover("203.0.113.5"), 0.0)
    both = [
        Subscriber(plane, address=f"203.0.113.{number}", own=f"10.1.0.{number}/32", xtr_id=bytes((number,)) * 16)
        for number in (8, 9)
    ]
    for one in both:
        one.register()
    confirmed = [one.subscribe()[0] for one in both]
    assert both[0].nonce == both[1].nonce

    for number in order:
        both[number].acknowledge(confirmed[number], 1.1)

    assert plane.counters["rx_map_notify_ack"] == 2
    assert plane.counters["rx_auth"] == 0
    assert until(plane, 60.0) == []
    assert all(subscription.is_acknowledged for subscription in plane.publisher.subscriptions)


def test_so_many_subscriptions_of_one_nonce_do_not_wait_that_an_acknowledgement_is_dear() -> None:
    plane = hub()
    one = Subscriber(plane)
    one.register()
    for number in range(20):
        plane.on_datagram(xtr("203.0.113.5").register(f"10.1.1.{number}/32"), 0.0)
        one.nonce = 1 << 40
        one.subscribe(asked=f"10.1.1.{number}/32")

    assert len(plane.publisher) == publisher.OF_ONE_NONCE
    assert plane.counters["rx_replay"] == 20 - publisher.OF_ONE_NONCE


def test_a_change_while_another_one_is_unacknowledged_supersedes_it() -> None:
    plane, one = subscribed()
    plane.on_datagram(mover("198.51.100.98"), 2.0)
    (out,) = publications(list(plane.on_datagram(mover("198.51.100.99"), 2.5)), one)

    told = until(plane, 6.0)

    assert one.read(out).nonce == one.nonce + 2
    assert [rlocs(one.read(again)) for _, again in told] == [["198.51.100.99"]]


def test_a_recorded_subscription_that_is_played_again_changes_nothing() -> None:
    plane = hub()
    plane.on_datagram(mover("203.0.113.5"), 0.0)
    one = Subscriber(plane)
    one.register()
    request = one.request()
    recorded = one.arrival(request, otk=bytes(16))
    plane.on_datagram(recorded, 1.0)
    key = one.secret
    plane.on_datagram(one.arrival(one.request(rlocs=("203.0.113.70",))), 2.0)

    (out,) = sent(plane.on_datagram(recorded, 3.0))

    reply = MapReply.decode(out.payload)
    assert reply.records[0].action == Action.DROP_AUTH_FAILURE
    assert plane.publisher.subscriptions[0].places[0].address == ip_address("203.0.113.70")
    assert plane.publisher.subscriptions[0].secret != key
    assert plane.counters["rx_replay"] == 1


def test_a_subscription_without_lisp_sec_is_answered_as_any_other_question() -> None:
    plane, one = subscribed()
    request = one.request("10.1.0.7/32")
    bare = EncapsulatedControl(eid(one.own).address, 4342, eid(MOVER).address, 4342, request.encode())

    (out,) = sent(plane.on_datagram(Arrival(bare.encode(), ip_address(one.address), 4342, HUB), 2.0))

    assert out.payload[0] >> 4 == 2
    assert len(plane.publisher) == 1


def test_another_site_does_not_subscribe_in_the_name_of_this_one() -> None:
    plane = hub(site("10.1.0.0/16"), site("10.2.0.0/16", name="other", key=OTHER_KEY))
    plane.on_datagram(mover("203.0.113.5"), 0.0)
    own, other = Subscriber(plane), Subscriber(plane, own="10.2.0.1/32", key=OTHER_KEY, xtr_id=b"subscriber 00002")
    own.register()
    other.register()
    own.acknowledge(own.subscribe()[0], 1.1)
    thief = Subscriber(plane, key=OTHER_KEY, address="203.0.113.66")

    (out,) = thief.subscribe(now=2.0)

    assert MapReply.decode(out.payload).records[0].action == Action.DROP_POLICY_DENIED
    assert [str(one.places[0].address) for one in plane.publisher.subscriptions] == [own.address]
    assert plane.counters["rx_subscription_policy"] == 1


@pytest.mark.parametrize("what", ["another xTR-ID", "nothing registered", "no source EID"])
def test_only_a_node_that_has_registered_its_eid_subscribes(what: str) -> None:
    plane = hub()
    plane.on_datagram(mover("203.0.113.5"), 0.0)
    one = Subscriber(plane)
    if what != "nothing registered":
        one.register()
    request = one.request(xtr_id=b"another machine!" if what == "another xTR-ID" else one.xtr_id)
    if what == "no source EID":
        request = replace(request, source_eid=None)

    (out,) = sent(plane.on_datagram(one.arrival(request), 1.0))

    assert MapReply.decode(out.payload).records[0].action == Action.DROP_POLICY_DENIED
    assert len(plane.publisher) == 0


def test_a_subscription_that_does_not_say_whose_it_is_is_malformed() -> None:
    request = Subscriber(hub()).request(xtr_id=None, site_id=None)

    with pytest.raises(MalformedMessage):
        MapRequest.decode(request.encode())
    with pytest.raises(MalformedMessage):  # lispers.net's trailer: an xTR-ID alone
        MapRequest.decode(Subscriber(hub()).request().encode()[:-8])


def test_an_unsubscription_ends_it_and_says_so() -> None:
    plane, one = subscribed()
    request = replace(one.request(), itr_rlocs=(None,))

    (out,) = sent(plane.on_datagram(one.arrival(request), 2.0))

    assert one.read(out).records[0].locators == ()
    assert len(plane.publisher) == 0
    assert publications(list(plane.on_datagram(mover("198.51.100.99"), 3.0)), one) == []


def test_where_nobody_is_registered_there_is_no_subscription_and_the_answer_is_the_usual_one() -> None:
    plane = hub()
    one = Subscriber(plane)
    one.register()

    (out,) = one.subscribe()

    assert MapReply.decode(out.payload).records[0].action == Action.NATIVELY_FORWARD
    assert len(plane.publisher) == 0


def test_a_flood_of_subscriptions_is_bounded_for_a_node_and_counted() -> None:
    plane = hub()
    plane.on_datagram(xtr("203.0.113.5").register("10.1.0.0/16"), 0.0)
    one = Subscriber(plane)
    one.register()

    for number in range(publisher.PER_XTR + 50):
        one.subscribe(now=1.0 + number, asked=f"10.1.{number >> 8}.{number & 255}/32")

    assert len(plane.publisher) == publisher.PER_XTR
    assert plane.counters["rx_subscription_limit"] == 50


def test_a_burst_beyond_the_limit_is_answered_without_a_subscription() -> None:
    plane = hub()
    plane.on_datagram(xtr("203.0.113.5").register("10.1.0.0/16"), 0.0)
    one = Subscriber(plane)
    one.register()

    for number in range(publisher.ASKED_BURST + 30):
        one.subscribe(now=1.0, asked=f"10.1.{number >> 8}.{number & 255}/32")

    assert len(plane.publisher) <= publisher.ASKED_BURST
    assert plane.counters["rx_rate"] + plane.counters["rx_subscription_rate"] >= 30


def test_a_subscription_ends_after_a_day_and_no_sooner_when_it_is_made_again() -> None:
    plane, one = subscribed()
    one.acknowledge(one.subscribe(now=1000.0)[0], 1000.1)

    until(plane, LIFETIME_S + 10.0)
    before = len(plane.publisher)
    until(plane, LIFETIME_S + 1010.0)

    assert (before, len(plane.publisher)) == (1, 0)


def test_after_a_move_of_its_own_a_subscriber_is_written_to_at_its_new_place() -> None:
    plane, one = subscribed()
    one.address = "198.51.100.7"
    one.acknowledge(one.subscribe(now=2.0)[0], 2.1)

    (out,) = publications(list(plane.on_datagram(mover("198.51.100.99"), 3.0)), one)

    assert one.read(out).nonce == one.nonce + 1
    assert len(plane.publisher) == 1


def test_a_key_that_is_taken_away_takes_its_subscriptions_with_it() -> None:
    plane, _ = subscribed()

    plane.on_sites((site("10.1.0.0/16", key=OTHER_KEY),), (), now=2.0)

    assert len(plane.publisher) == 0
    assert plane.counters["subscription_revoked"] == 1


def test_behind_a_nat_a_subscriber_is_written_to_where_its_question_came_from() -> None:
    plane = hub()
    plane.on_datagram(mover("203.0.113.5"), 0.0)
    one = Subscriber(plane)
    one.register()
    arrival = one.arrival(one.request(rlocs=("192.168.1.7",)), source=ip_address("198.18.0.9"), source_port=40000)

    (out,) = sent(plane.on_datagram(arrival, 1.0))

    one.read(out)
    assert (str(out.destination), out.port) == ("198.18.0.9", 40000)


def test_a_hub_that_asks_for_its_nodes_passes_their_subscriptions_on() -> None:
    shared, far_address = ResolverSecret(b"between hubs", 9), ip_address("198.51.100.2")
    far = ControlPlane(
        (site("10.2.0.0/16", name="far", key=OTHER_KEY),),
        (RemoteMapServer(HUB, (eid("10.1.0.0/16"),), shared),),
        security=HubSecurity("prefer", KEY_WRAP),
    )
    near = hub(remotes=(RemoteMapServer(far_address, (eid("10.2.0.0/16"),), shared),))
    far.on_datagram(Xtr(ip_address("203.0.113.5"), OTHER_KEY).register("10.2.0.7/32"), 0.0)
    one = Subscriber(near)
    one.register()
    (onward,) = one.subscribe(asked="10.2.0.7/32")

    (confirmed,) = sent(far.on_datagram(Arrival(onward.payload, HUB, 4342, far_address), 1.0))

    notify = MapNotify.decode(confirmed.payload)
    verify(confirmed.payload, Key(one.secret, notify.key_id))
    assert (str(confirmed.destination), rlocs(notify)) == (one.address, ["203.0.113.5"])


def test_a_hub_passes_on_no_subscription_of_somebody_whom_it_does_not_know() -> None:
    shared, far_address = ResolverSecret(b"between hubs", 9), ip_address("198.51.100.2")
    near = hub(remotes=(RemoteMapServer(far_address, (eid("10.2.0.0/16"),), shared),))
    one = Subscriber(near)  # not registered

    (onward,) = one.subscribe(asked="10.2.0.7/32")

    request = MapRequest.decode(EncapsulatedControl.decode(onward.payload).message)
    assert not request.records[0].wants_notify


def test_a_publication_is_no_use_to_whoever_has_only_seen_the_messages() -> None:
    plane, one = subscribed()
    (out,) = publications(list(plane.on_datagram(mover("198.51.100.99"), 2.0)), one)
    changed = bytearray(out.payload)
    changed[-1] ^= 1

    with pytest.raises(AuthenticationFailed):
        verify(bytes(changed), Key(one.secret))


def test_after_a_restart_the_subscriptions_are_there_and_their_nonces_have_grown() -> None:
    plane, one = subscribed()
    kept = plane.publisher.take_changes()
    fresh = hub()
    fresh.publisher.on_reading()
    fresh.on_datagram(mover("198.51.100.99"), 3.0)
    one.plane = fresh

    fresh.publisher.restore(kept.new.values(), 4.0)
    fresh.publisher.restore_associations(kept.associations.items(), 4.0)
    told = publications(fresh.on_publications(4.0), one)  # type: ignore[arg-type]

    notify = one.read(told[0])
    assert notify.nonce > one.nonce
    assert rlocs(notify) == ["198.51.100.99"]


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


def test_subscriptions_survive_a_restart_of_the_hub_in_its_state_file(tmp_path: Path) -> None:
    plane, one = subscribed()
    time = Time()
    time.monotonic_s = 5.0

    one.plane = restarted(tmp_path / "state.db", plane, time)

    (out,) = publications(list(one.plane.on_datagram(mover("198.51.100.99"), 6.0)), one)
    assert one.read(out).nonce > one.nonce
    assert rlocs(one.read(out)) == ["198.51.100.99"]


def test_a_recorded_subscription_is_refused_after_a_restart_as_before(tmp_path: Path) -> None:
    plane, one = subscribed()
    recorded = one.arrival(one.request(), otk=bytes(15) + b"!")
    plane.on_datagram(recorded, 2.0)
    time = Time()
    time.monotonic_s = 5.0

    fresh = restarted(tmp_path / "state.db", plane, time)

    (out,) = sent(fresh.on_datagram(recorded, 6.0))
    assert MapReply.decode(out.payload).records[0].action == Action.DROP_AUTH_FAILURE


@pytest.mark.parametrize("value", [b"", b"\x00", b"\x9a" + bytes(40), b"nothing that anybody packed"])
def test_a_damaged_row_of_the_state_file_costs_one_subscription(tmp_path: Path, value: bytes) -> None:
    plane, one = subscribed()
    time = Time()
    store = Store(tmp_path / "state.db", time.clock)
    assert store.open() is None
    changes = plane.publisher.take_changes()
    store.save_subscriptions(changes)
    database = sqlite3.connect(tmp_path / "state.db")
    database.execute("INSERT INTO subscriptions VALUES (?, ?, ?)", (bytes(9), bytes(16), value))
    database.commit()
    database.close()

    found, _ = store.subscriptions_after(None, 10)

    assert [subscription.xtr_id for subscription in found] == [one.xtr_id]
    store.close()


def test_a_subscription_is_confirmed_and_published_by_the_rtr_that_the_subscriber_registers_by() -> None:
    plane = hub(traversal=TraversalPolicy(is_rtr=True))
    plane.on_addresses((HUB,))
    plane.on_datagram(mover("203.0.113.5"), 0.0)
    one = Subscriber(plane, address="198.18.0.9")
    register = Xtr(ip_address("192.168.1.7"), KEY, xtr_id=one.xtr_id).register(one.own)
    ecm = EncapsulatedControl(ip_address("192.168.1.7"), 4342, HUB, 4342, register.payload, to_rtr=True)
    plane.on_datagram(Arrival(ecm.encode(), ip_address("198.18.0.9"), 5555, HUB), 0.5)
    arrival = one.arrival(one.request(rlocs=("192.168.1.7",)), source_port=40000)

    (out,) = sent(plane.on_datagram(arrival, 1.0))

    payload = out.payload[8 + 28 :]  # behind LISP, IPv4 and UDP headers
    verify(payload, Key(one.secret))
    assert (str(out.destination), out.port, out.source) == ("198.18.0.9", 5555, HUB)
    ack = sign(MapNotifyAck(one.nonce, MapNotify.decode(payload).records), Key(one.secret))
    told = plane.on_data_control(InData(ack, ip_address("198.18.0.9"), 5555, HUB, HUB, 4342), 1.1)
    assert [event.kind for event in events(told)] == ["subscribed"]

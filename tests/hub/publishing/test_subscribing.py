"""Subscriptions at the Map-Server: who may subscribe, what ends a subscription, and what survives a restart."""

from __future__ import annotations

import sqlite3
from ipaddress import ip_address
from pathlib import Path

import pytest
from msgspec.structs import replace

from lispmob.errors import MalformedMessage
from lispmob.hub.dispatch import ControlPlane
from lispmob.hub.map_server.effect import Arrival
from lispmob.hub.map_server.lisp_sec import HubSecurity
from lispmob.hub.map_server.map_resolver import RemoteMapServer
from lispmob.hub.publishing import publisher
from lispmob.hub.publishing.subscription import LIFETIME_S
from lispmob.hub.store.store import Store
from lispmob.protocol.servers import ResolverSecret
from lispmob.wire.auth import Key, verify
from lispmob.wire.ecm import EncapsulatedControl
from lispmob.wire.map_notify import MapNotify
from lispmob.wire.map_reply import MapReply
from lispmob.wire.map_request import MapRequest
from lispmob.wire.record import Action
from tests.crypto.support import KEY_WRAP, needs_libcrypto
from tests.hub.exchange import HUB, Xtr, eid, sent, site, xtr
from tests.hub.publishing.subscriber import (
    MOVER,
    OTHER_KEY,
    Subscriber,
    hub,
    mover,
    publications,
    restarted,
    rlocs,
    subscribed,
    until,
)
from tests.hub.store.test_store import Time

pytestmark = needs_libcrypto


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


def test_for_an_unregistered_eid_there_is_no_subscription_and_the_answer_is_the_usual_one() -> None:
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


def test_a_hub_forwards_no_subscription_of_an_unknown_node() -> None:
    shared, far_address = ResolverSecret(b"between hubs", 9), ip_address("198.51.100.2")
    near = hub(remotes=(RemoteMapServer(far_address, (eid("10.2.0.0/16"),), shared),))
    one = Subscriber(near)  # not registered

    (onward,) = one.subscribe(asked="10.2.0.7/32")

    request = MapRequest.decode(EncapsulatedControl.decode(onward.payload).message)
    assert not request.records[0].wants_notify


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

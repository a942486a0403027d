"""Publications of the Map-Server: what is published to whom, what is repeated, and what stops that."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from lispmob.errors import AuthenticationFailed
from lispmob.hub.map_server.effect import Arrival
from lispmob.hub.publishing import publisher
from lispmob.hub.rtr.rtr_effect import InData
from lispmob.hub.rtr.traversal import TraversalPolicy
from lispmob.wire.auth import Algorithm, Key, sign, verify
from lispmob.wire.ecm import EncapsulatedControl
from lispmob.wire.map_notify import MapNotify, MapNotifyAck
from lispmob.wire.record import Action
from tests.crypto.support import needs_libcrypto
from tests.hub.exchange import HUB, KEY, Xtr, events, sent, xtr
from tests.hub.publishing.subscriber import (
    MOVER,
    Subscriber,
    hub,
    mover,
    publications,
    rlocs,
    subscribed,
    until,
)

pytestmark = needs_libcrypto


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


def test_a_subscriber_hears_of_a_move_before_the_mover_has_its_answer() -> None:
    plane, one = subscribed()

    destinations = [str(out.destination) for out in sent(plane.on_datagram(mover("198.51.100.99"), 2.0))]

    assert destinations == [one.address, "198.51.100.99"]


def test_a_subscriber_hears_of_a_withdrawal_before_the_one_who_withdrew_has_its_answer() -> None:
    plane, one = subscribed()

    destinations = [str(out.destination) for out in sent(plane.on_datagram(mover("203.0.113.5", ttl_min=0), 2.0))]

    assert destinations == [one.address, "203.0.113.5"]


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
    assert wider == []  # a narrower subscription holds by now


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


def test_a_publication_is_of_no_use_to_an_attacker_who_has_only_seen_the_messages() -> None:
    plane, one = subscribed()
    (out,) = publications(list(plane.on_datagram(mover("198.51.100.99"), 2.0)), one)
    changed = bytearray(out.payload)
    changed[-1] ^= 1

    with pytest.raises(AuthenticationFailed):
        verify(bytes(changed), Key(one.secret))


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

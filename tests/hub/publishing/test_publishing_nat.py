"""Publications to a subscriber behind a NAT: by the binding that admits them, also from another hub than before."""

from __future__ import annotations

import dataclasses
from ipaddress import ip_address

import pytest

from lispmob.errors import AuthenticationFailed
from lispmob.hub.dispatch import ControlPlane
from lispmob.hub.map_server.effect import Arrival
from lispmob.hub.publishing import bindings
from lispmob.hub.publishing.subscription import Subscription
from lispmob.protocol.effect import SendControl
from lispmob.wire.address import IpAddress
from tests.crypto.support import needs_libcrypto
from tests.hub.exchange import HUB, Xtr, eid, sent
from tests.hub.publishing.subscriber import MOVER, Subscriber, hub, mover, rlocs, until

pytestmark = needs_libcrypto

OUTSIDE = "198.51.100.77"
INSIDE = "192.168.7.7"
OTHER = ip_address("198.51.100.2")
AT_THE_FORMER_HUB = 40_001
HERE = 40_002


def register(one: Subscriber, port: int, own: IpAddress = HUB) -> Arrival:
    """A Map-Register as its NAT passes it on."""
    arrival = Xtr(ip_address(OUTSIDE), one.key, xtr_id=one.xtr_id).register(one.own, rlocs=[INSIDE])
    return Arrival(arrival.payload, ip_address(OUTSIDE), port, own)


def behind_a_nat() -> tuple[ControlPlane, Subscriber]:
    """A hub, a mover, and a subscriber to it behind a NAT."""
    plane = hub()
    plane.on_addresses([HUB])
    plane.on_datagram(mover("203.0.113.5"), 0.0)
    one = Subscriber(plane, address=OUTSIDE)
    plane.on_datagram(register(one, AT_THE_FORMER_HUB), 0.0)
    arrival = one.arrival(one.request(rlocs=(INSIDE,)), source_port=AT_THE_FORMER_HUB)
    (confirmed,) = sent(plane.on_datagram(arrival, 1.0))
    assert (str(confirmed.destination), confirmed.port) == (OUTSIDE, AT_THE_FORMER_HUB)
    one.acknowledge(confirmed, 1.1)
    return plane, one


def successor(
    one: Subscriber, subscription: Subscription, *registers: Arrival
) -> tuple[ControlPlane, list[SendControl]]:
    """Another hub with these registers; returns what it says when it takes the subscription over at 100 s."""
    plane = hub()
    plane.map_server.is_shared = True
    plane.on_addresses([OTHER])
    plane.on_datagram(mover("203.0.113.6"), 90.0)
    for arrival in registers:
        plane.on_datagram(arrival, 95.0)
    one.plane = plane
    taken = plane.publisher.taken_over(subscription, plane.addresses)
    assert plane.publisher.adopt(taken, 100.0)
    return plane, sent(plane.publisher.say_again(taken.name, 100.0))


def of(plane: ControlPlane) -> Subscription:
    (subscription,) = plane.publisher.subscriptions
    return subscription


def ways(some: list[SendControl]) -> list[tuple[str, int, IpAddress | None]]:
    return [(str(out.destination), out.port, out.source) for out in some if str(out.destination) == OUTSIDE]


def publications(plane: ControlPlane, one: Subscriber, arrival: Arrival, now: float) -> list[SendControl]:
    """The messages of the plane that are signed for the subscriber."""
    return [out for out in sent(plane.on_datagram(arrival, now)) if is_for(one, out)]


def is_for(one: Subscriber, out: SendControl) -> bool:
    try:
        one.read(out)
    except AuthenticationFailed:
        return False
    return True


def test_a_hub_that_takes_over_publishes_by_the_binding_that_its_own_registers_come_by() -> None:
    plane, one = behind_a_nat()

    _, told = successor(one, of(plane), register(one, HERE, OTHER))

    assert ways(told) == [(OUTSIDE, HERE, OTHER)]
    assert rlocs(one.read(told[-1])) == ["203.0.113.6"]


def test_what_was_said_in_vain_is_said_again_at_once_when_the_subscriber_registers_here() -> None:
    plane, one = behind_a_nat()
    there, in_vain = successor(one, of(plane))
    assert ways(in_vain) == [(OUTSIDE, AT_THE_FORMER_HUB, OTHER)]

    said = publications(there, one, register(one, HERE, OTHER), 120.0)

    assert ways(said) == [(OUTSIDE, HERE, OTHER)]
    assert rlocs(one.read(said[-1])) == ["203.0.113.6"]
    one.acknowledge(said[-1], 120.1)
    there.on_datagram(mover("203.0.113.8"), 121.0)
    assert ways(sent(there.publisher.on_changed(eid(MOVER), 121.0))) == [(OUTSIDE, HERE, OTHER)]


def test_a_subscription_that_was_taken_over_waits_as_long_as_its_node_may_register() -> None:
    plane, one = behind_a_nat()
    there, _ = successor(one, of(plane))

    until(there, 100.0 + bindings.NEXT_REGISTER_S - 1)
    assert len(there.publisher) == 1
    until(there, 100.0 + bindings.NEXT_REGISTER_S + 60)

    assert len(there.publisher) == 0
    assert there.counters["subscription_lost"] == 1


def test_a_nat_that_has_changed_its_port_hears_what_was_not_acknowledged_with_the_next_register() -> None:
    plane, one = behind_a_nat()
    plane.on_datagram(mover("203.0.113.9"), 50.0)

    said = publications(plane, one, register(one, 40_003), 60.0)

    assert ways(said) == [(OUTSIDE, 40_003, HUB)]
    assert rlocs(one.read(said[-1])) == ["203.0.113.9"]


def test_where_all_is_acknowledged_a_register_from_elsewhere_diverts_nothing() -> None:
    plane, one = behind_a_nat()

    said = publications(plane, one, register(one, 40_003), 60.0)
    moved = sent(plane.on_datagram(mover("203.0.113.9"), 61.0))

    assert said == []
    assert (OUTSIDE, AT_THE_FORMER_HUB, HUB) in ways(moved)


def test_a_register_with_a_wrong_key_diverts_nothing() -> None:
    plane, one = behind_a_nat()
    plane.on_datagram(mover("203.0.113.9"), 50.0)
    forged = dataclasses.replace(one, key=type(one.key)(b"not the key of the site"))

    said = sent(plane.on_datagram(register(forged, 40_003), 60.0))

    assert said == []
    assert of(plane).places[0].port == AT_THE_FORMER_HUB


def test_a_register_played_again_from_elsewhere_diverts_nothing() -> None:
    plane, one = behind_a_nat()
    recorded = register(one, AT_THE_FORMER_HUB)
    plane.on_datagram(recorded, 40.0)
    plane.on_datagram(register(one, AT_THE_FORMER_HUB), 45.0)
    plane.on_datagram(mover("203.0.113.9"), 50.0)

    plane.on_datagram(Arrival(recorded.payload, ip_address("203.0.113.66"), 4342, HUB), 60.0)

    assert of(plane).places[0].port == AT_THE_FORMER_HUB


def test_a_subscriber_in_the_open_is_written_to_where_it_has_said() -> None:
    plane = hub()
    plane.on_datagram(mover("203.0.113.5"), 0.0)
    one = Subscriber(plane)
    one.register()
    one.acknowledge(one.subscribe()[0], 1.1)
    plane.on_datagram(mover("203.0.113.9"), 50.0)

    arrival = Xtr(ip_address(OUTSIDE), one.key, xtr_id=one.xtr_id).register(one.own, rlocs=[INSIDE])
    plane.on_datagram(arrival, 60.0)

    assert [str(place.address) for place in of(plane).places] == [one.address]


@pytest.mark.parametrize("count", [1, 5])
def test_bindings_are_bounded_and_the_one_used_longest_ago_goes_first(count: int) -> None:
    known = bindings.Bindings(limit=count)
    subscription = of(behind_a_nat()[0])
    names = [bytes([number]) * 16 for number in range(count + 1)]
    for name in names:
        known.learn(name, ip_address(OUTSIDE), HERE, OTHER)

    applied = [known.applied(dataclasses.replace(subscription, xtr_id=name)).places[0].port for name in names]

    assert applied == [AT_THE_FORMER_HUB] + [HERE] * count

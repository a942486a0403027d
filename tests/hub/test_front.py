"""What a process of a hub says of the process that carries the data: the addresses and key which that one has."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from lispmob.hub.dispatch import ControlPlane, Front
from lispmob.hub.map_server.effect import Arrival
from lispmob.protocol.effect import SendControl
from lispmob.wire.key_record import take_key_record
from lispmob.wire.map_reply import MapReply
from tests.crypto.support import needs_libcrypto
from tests.hub.exchange import HUB, sent
from tests.hub.publishing.subscriber import Subscriber, hub

pytestmark = needs_libcrypto

KEY = bytes(range(32))


def asking(plane: ControlPlane) -> Subscriber:
    one = Subscriber(plane)
    one.register()
    return one


def answer_about_the_hub(plane: ControlPlane, one: Subscriber) -> MapReply:
    arrival: Arrival = one.arrival(one.request(f"{HUB}/32"))
    replies = [out for out in sent(plane.on_datagram(arrival, 1.0)) if _is_reply(out)]
    return MapReply.decode(replies[-1].payload)


def _is_reply(out: SendControl) -> bool:
    return out.payload[0] >> 4 == 2


def test_a_process_that_carries_no_data_says_the_key_of_the_one_that_does() -> None:
    plane = hub()
    one = asking(plane)
    plane.on_front(Front((HUB,), is_relay=False, public_key=KEY))

    (record,) = answer_about_the_hub(plane, one).records

    _, keys = take_key_record(record)
    assert keys is not None
    assert keys.keys == (KEY,)
    assert [locator.ip for locator in record.locators if locator.ip is not None] == [HUB]


def test_it_says_so_after_a_reload_too() -> None:
    plane = hub()
    one = asking(plane)
    plane.on_front(Front((HUB,), is_relay=False, public_key=KEY))
    plane.on_sites(plane.map_server.sites, (), now=0.5)

    (record,) = answer_about_the_hub(plane, one).records

    assert take_key_record(record)[1] is not None


@pytest.mark.parametrize("front", [None, Front((HUB,), is_relay=False, public_key=None)])
def test_without_a_key_nothing_is_said_of_one(front: Front | None) -> None:
    plane = hub()
    one = asking(plane)
    if front is not None:
        plane.on_front(front)

    (record,) = answer_about_the_hub(plane, one).records

    assert take_key_record(record)[1] is None


def test_a_key_that_is_another_one_after_a_restart_replaces_the_former() -> None:
    plane = hub()
    one = asking(plane)
    plane.on_front(Front((HUB,), is_relay=False, public_key=KEY))
    plane.on_front(Front((HUB,), is_relay=False, public_key=KEY[::-1]))

    (record,) = answer_about_the_hub(plane, one).records

    _, keys = take_key_record(record)
    assert keys is not None
    assert keys.keys == (KEY[::-1],)


def test_the_addresses_of_the_one_that_carries_data_are_those_of_the_hub() -> None:
    plane = hub()

    plane.on_front(Front((HUB, ip_address("2001:db8::1")), is_relay=True, public_key=None))

    assert plane.addresses == (HUB, ip_address("2001:db8::1"))

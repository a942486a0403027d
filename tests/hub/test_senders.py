"""A hub with several addresses: data leaves from one of each family, and that is the one that nodes are told."""

from __future__ import annotations

from itertools import count

import pytest

from lispmob.hub.map_server.effect import Arrival
from lispmob.hub.map_server.info import InfoResponder
from lispmob.hub.map_server.itr_places import Relays
from lispmob.hub.map_server.site import Site, SiteTable
from lispmob.hub.routes import Carrier, preferring, senders_of
from lispmob.natt.info_exchange import InfoExchange
from lispmob.natt.natt_config import NattConfig
from lispmob.natt.server_knowledge import ServerKnowledge
from lispmob.protocol.effect import SendControl
from lispmob.protocol.locator_set import LocalLocator
from lispmob.protocol.servers import MapServerPeer
from lispmob.wire.info import InfoReply
from lispmob.wire.record import Locator, MappingRecord
from tests.internet.network import ip
from tests.natt.world import EID, KEY


def carrier(*addresses: str, ifindex: int = 2) -> Carrier:
    return Carrier(ifindex, f"eth{ifindex}", tuple(map(ip, addresses)), 1500)


@pytest.mark.parametrize(
    ("addresses", "preferred", "wanted"),
    [
        (("198.51.100.1", "198.51.100.2"), (), ("198.51.100.1", "198.51.100.2")),
        (("198.51.100.1", "198.51.100.2"), ("198.51.100.2",), ("198.51.100.2", "198.51.100.1")),
        (("10.0.0.4", "198.51.100.2"), (), ("198.51.100.2", "10.0.0.4")),
        (("198.51.100.2", "10.0.0.4"), ("10.0.0.4",), ("10.0.0.4", "198.51.100.2")),
        (("2001:db8::1", "2001:db8::2", "fd00::1"), ("fd00::1",), ("fd00::1", "2001:db8::1", "2001:db8::2")),
    ],
    ids=["the kernel's order", "the one that is listened at", "a public one", "a private one by wish", "IPv6"],
)
def test_data_leaves_from_the_address_that_nodes_are_most_likely_to_know(
    addresses: tuple[str, ...], preferred: tuple[str, ...], wanted: tuple[str, ...]
) -> None:
    (found,) = preferring([ip(text) for text in preferred], [carrier(*addresses)])

    assert found.addresses == tuple(map(ip, wanted))


@pytest.mark.parametrize(
    ("asked", "sender"),
    [
        ("198.51.100.2", "198.51.100.1"),
        ("198.51.100.1", "198.51.100.1"),
        ("203.0.113.9", "203.0.113.9"),
        ("2001:db8::2", "2001:db8::1"),
    ],
    ids=["the second", "the first", "another interface", "the other family"],
)
def test_the_sender_is_the_first_of_the_family_on_the_same_interface(asked: str, sender: str) -> None:
    carriers = (
        carrier("198.51.100.1", "2001:db8::1", "198.51.100.2", "2001:db8::2"),
        carrier("203.0.113.9", ifindex=3),
    )

    assert senders_of(carriers)[ip(asked)] == ip(sender)


@pytest.mark.parametrize(("asked_at", "offered"), [("198.51.100.2", "198.51.100.1"), ("198.51.100.1", "198.51.100.1")])
def test_an_rtr_names_the_address_that_its_data_leaves_from(asked_at: str, offered: str) -> None:
    nonces = count(1).__next__
    config = NattConfig((EID,), (MapServerPeer(ip(asked_at), KEY),))
    own = LocalLocator(ip("192.168.8.7"), 2, "eth0", 1)
    exchange = InfoExchange(own, config, ServerKnowledge(), new_nonce=nonces, next_nonce=nonces)
    hub = InfoResponder(SiteTable([Site("home", (EID,), (KEY,))]), offers_itself=True)
    hub.on_senders(senders_of([carrier("198.51.100.1", "198.51.100.2")]))

    [question] = [one for one in exchange.start(0.0) if isinstance(one, SendControl)]
    arrival = Arrival(question.payload, ip("203.0.113.7"), 4342, ip(asked_at))
    [answer] = [effect for effect in hub.on_info_request(arrival, 0.0) if isinstance(effect, SendControl)]

    assert InfoReply.decode(answer.payload).nat.rtr_rlocs == (ip(offered),)
    assert answer.source == ip(asked_at)


@pytest.mark.parametrize(
    ("asked_at", "relay"), [("198.51.100.2", "198.51.100.1"), ("198.51.100.1", "198.51.100.1")], ids=["second", "first"]
)
def test_a_relay_between_the_families_is_named_by_the_address_that_its_data_leaves_from(
    asked_at: str, relay: str
) -> None:
    found = carrier("198.51.100.1", "198.51.100.2", "2001:db8::1")
    relays = Relays(found.addresses, senders_of([found]))
    record = MappingRecord.of(EID, (Locator(ip("2001:db8:7::1")),))

    bridged = relays.bridge(record, {4}, ip(asked_at))

    assert [locator.ip for locator in bridged.locators] == [ip("2001:db8:7::1"), ip(relay)]

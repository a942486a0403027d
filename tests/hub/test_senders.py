"""A hub with several addresses: data leaves from one of each family, and that is the one that nodes are told."""

from __future__ import annotations

import asyncio
import socket
from itertools import count

import pytest
from msgspec.structs import replace

from lispmob.hub.dispatch import ControlPlane, Front
from lispmob.hub.map_server.effect import Arrival
from lispmob.hub.map_server.info import InfoResponder
from lispmob.hub.map_server.itr_places import Relays
from lispmob.hub.map_server.site import Site, SiteTable
from lispmob.hub.routes import Carrier, preferring, senders_of
from lispmob.hub.rtr.traversal import TraversalPolicy
from lispmob.hub.workers import Carrier as CarrierMessage
from lispmob.hub.workers import Link, Worker
from lispmob.natt.info_exchange import InfoExchange
from lispmob.natt.natt_config import NattConfig
from lispmob.natt.server_knowledge import ServerKnowledge
from lispmob.protocol.effect import SendControl
from lispmob.protocol.locator_set import LocalLocator
from lispmob.protocol.servers import MapServerPeer
from lispmob.wire.info import InfoReply
from lispmob.wire.record import Locator, MappingRecord
from tests.hub.exchange import ask, reply_in, rlocs_of, site, xtr
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


def said_to_a_worker(*fronts: Front) -> ControlPlane:
    """Another process of a hub, after the first one has sent it these."""
    sites = [Site("home", (EID,), (KEY,)), site("10.8.0.0/16", name="others")]
    plane = ControlPlane(sites, traversal=TraversalPolicy(is_rtr=True))

    async def main() -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        heard: asyncio.Queue[CarrierMessage] = asyncio.Queue()
        worker = Worker(f"1:{theirs.detach()}")
        worker.start(lambda _: None, lambda: None, heard.put_nowait, lambda: None, dict)
        link = Link(ours, lambda _: None, lambda: None)
        for front in fronts:
            link.send(CarrierMessage.of(front))
            plane.on_front((await asyncio.wait_for(heard.get(), 10)).front)
        link.close()
        await worker.stop()

    asyncio.run(main())
    return plane


def front(*addresses: str) -> Front:
    found = carrier(*addresses)
    return Front(found.addresses, is_relay=True, public_key=None, senders=senders_of([found]))


def rtrs_named(plane: ControlPlane, asked_at: str, source: str = "203.0.113.7") -> tuple[object, ...]:
    nonces = count(1).__next__
    config = NattConfig((EID,), (MapServerPeer(ip(asked_at), KEY),))
    own = LocalLocator(ip(source), 2, "eth0", 1)
    exchange = InfoExchange(own, config, ServerKnowledge(), new_nonce=nonces, next_nonce=nonces)
    [question] = [one for one in exchange.start(0.0) if isinstance(one, SendControl)]
    effects = plane.on_datagram(Arrival(question.payload, ip(source), 4342, ip(asked_at)), 0.0)
    [answer] = [effect for effect in effects if isinstance(effect, SendControl)]
    return InfoReply.decode(answer.payload).nat.rtr_rlocs


@pytest.mark.parametrize(
    ("asked_at", "source", "rtr"),
    [
        ("198.51.100.2", "203.0.113.7", "198.51.100.1"),
        ("198.51.100.1", "203.0.113.7", "198.51.100.1"),
        ("2001:db8::2", "2001:db8:7::1", "2001:db8::1"),
        ("203.0.113.9", "203.0.113.7", "203.0.113.9"),
    ],
    ids=["the second", "the first", "IPv6", "one that carries nothing"],
)
def test_a_process_that_carries_no_data_names_the_address_that_data_leaves_from(
    asked_at: str, source: str, rtr: str
) -> None:
    worker = said_to_a_worker(front("198.51.100.1", "2001:db8::1", "198.51.100.2", "2001:db8::2"))

    assert rtrs_named(worker, asked_at, source) == (ip(rtr),)


def test_it_follows_when_data_leaves_from_another_address_of_the_same_ones() -> None:
    worker = said_to_a_worker(front("198.51.100.1", "198.51.100.2"), front("198.51.100.2", "198.51.100.1"))

    assert rtrs_named(worker, "198.51.100.1") == (ip("198.51.100.2"),)


@pytest.mark.parametrize("asked_at", ["198.51.100.2", "198.51.100.1"])
def test_it_bridges_the_families_by_that_address_too(asked_at: str) -> None:
    worker = said_to_a_worker(front("198.51.100.1", "198.51.100.2", "2001:db8::1"))
    worker.on_datagram(xtr("203.0.113.66").register("10.8.0.1/32", rlocs=["2001:db8:7::1"]), 0.0)

    question = replace(ask("10.8.0.1/32", rlocs=["203.0.113.7"]), destination=ip(asked_at))
    (record,) = reply_in(worker.on_datagram(question, 1.0)).records

    assert rlocs_of(record) == ["2001:db8:7::1", "198.51.100.1"]

"""The hub as the RTR of nodes that speak lispers.net's dialect."""

from __future__ import annotations

from ipaddress import ip_address
from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from lispmob.hub.dispatch import ControlPlane
from lispmob.hub.map_server.effect import Arrival, RegistrationChanged
from lispmob.hub.proxy import Proxy
from lispmob.hub.rtr.rtr import MapServerLink
from lispmob.hub.rtr.rtr_effect import InData, InstallRelay, RemoveRelay, SendFromRelayPort
from lispmob.hub.rtr.rtr_lispers import (
    ANSWERS_EACH,
    ANSWERS_STRANGERS,
    LIFETIME_S,
    STRANGERS_LIMIT,
    STRANGERS_PER_NETWORK,
    NatCache,
)
from lispmob.hub.rtr.rtr_named import PREFIXES_PER_PLACE, NamedNodes
from lispmob.hub.rtr.traversal import PlaneEffect, TraversalPolicy
from lispmob.protocol.effect import InstallMapping, SendControl
from lispmob.wire.address import DistinguishedName, IpAddress
from lispmob.wire.auth import sign
from lispmob.wire.data_header import split_data_packet
from lispmob.wire.ecm import EncapsulatedControl
from lispmob.wire.info import InfoReply, InfoRequest
from lispmob.wire.ip_udp import parse_ip_udp
from lispmob.wire.lcaf_types import AfiList
from lispmob.wire.map_register import MapRegister
from lispmob.wire.map_reply import MapReply
from lispmob.wire.map_request import EidRecord, MapRequest
from lispmob.wire.named_locator import Place
from lispmob.wire.record import Locator, MappingRecord
from tests.hub.exchange import HUB, KEY, eid, site

NAT, OTHER = ip_address("203.0.113.200"), ip_address("203.0.113.66")
FAR_SERVER = ip_address("198.51.100.99")
EID = eid("10.1.0.1/32")
HOST = b"laptop-eth0"
_nonces = count(1)


def named(address: IpAddress, name: bytes, priority: int = 1) -> Locator:
    return Locator(AfiList((address, DistinguishedName(name))), priority)


RELAY = named(HUB, b"RTR", 254)


def hub(*servers: MapServerLink) -> ControlPlane:
    policy = TraversalPolicy(is_rtr=True, map_servers=servers, answers_lispers=True)
    plane = ControlPlane([] if servers else [site("10.1.0.0/16")], traversal=policy, new_nonce=count(500).__next__)
    plane.traversal.on_addresses([HUB])
    return plane


def register(plane: ControlPlane, *locators: Locator, now: float = 0.0, ttl_min: int = 10) -> list[PlaneEffect]:
    record = MappingRecord.of(EID, locators, ttl_min=ttl_min, is_authoritative=True)
    message = MapRegister(next(_nonces), (record,), proxy_map_reply=True, want_map_notify=True)
    return plane.on_datagram(Arrival(sign(message, KEY), NAT, 4342, HUB), now)


def request(name: bytes = HOST, **changes: object) -> InfoRequest:
    return replace(InfoRequest(7, None, 0, tail=DistinguishedName(name)), **changes)


def packet(payload: bytes, port: int = 20001, address: IpAddress = NAT) -> InData:
    return InData(payload, address, port, HUB, address, port)


def punch(plane: ControlPlane, name: bytes = HOST, port: int = 20001, now: float = 0.0) -> list[PlaneEffect]:
    return plane.traversal.on_data_control(packet(request(name).encode(), port), now)


def places(effects: list[PlaneEffect]) -> list[tuple[str, int, int]]:
    return [
        (str(binding.address), binding.port, binding.source_port)
        for effect in effects
        if isinstance(effect, InstallRelay)
        for binding in effect.bindings
    ]


@pytest.mark.parametrize("is_punched_first", [True, False])
def test_data_goes_to_the_port_that_was_heard_whatever_came_first(is_punched_first: bool) -> None:
    plane = hub()
    effects = punch(plane) if is_punched_first else []

    effects += register(plane, named(NAT, HOST + b"@tp-9"), RELAY)
    effects += punch(plane) if not is_punched_first else []

    assert places(effects) == [("203.0.113.200", 20001, 4341)]


def test_the_answer_tells_what_was_seen_on_the_way_that_the_question_came() -> None:
    (sent,) = [one for one in punch(hub()) if isinstance(one, SendFromRelayPort)]

    assert (sent.destination, sent.port, sent.source) == (NAT, 20001, HUB)
    header, inner = split_data_packet(sent.payload)
    reply = InfoReply.decode(parse_ip_udp(inner).payload)
    assert (header.instance_id, reply.nonce) == (0xFFFFFF, 7)
    assert (reply.nat.global_etr_rloc, reply.nat.etr_port) == (NAT, 20001)


def test_a_probe_in_a_data_packet_is_answered_in_one() -> None:
    probe = MapRequest(9, None, (NAT,), (EidRecord.of(eid("0.0.0.0/0")),), is_probe=True)

    (sent,) = hub().traversal.on_data_control(packet(probe.encode()), 0.0)

    assert isinstance(sent, SendFromRelayPort)
    reply = MapReply.decode(parse_ip_udp(split_data_packet(sent.payload)[1]).payload)
    assert (sent.port, reply.nonce, reply.is_probe) == (20001, 9, True)


def test_a_nat_that_forgot_is_followed_to_its_new_port_and_refreshes_change_nothing() -> None:
    plane = hub()
    register(plane, named(NAT, HOST), RELAY)
    punch(plane)

    assert places(punch(plane, now=15.0)) == []
    assert places(punch(plane, port=20777, now=16.0)) == [("203.0.113.200", 20777, 4341)]


def test_a_place_that_no_node_keeps_open_is_forgotten() -> None:
    plane = hub()
    register(plane, named(NAT, HOST), RELAY)
    punch(plane)

    assert plane.traversal.wake_at() == LIFETIME_S
    assert RemoveRelay(EID) in plane.on_timer(LIFETIME_S)
    assert plane.traversal.wake_at() is None


@pytest.mark.parametrize("locators", [(Locator(OTHER),), (named(OTHER, HOST), RELAY), (named(NAT, b"desk"), RELAY)])
def test_a_node_that_is_somewhere_else_now_is_not_sent_to_its_old_place(locators: tuple[Locator, ...]) -> None:
    plane = hub()
    register(plane, named(NAT, HOST), RELAY)
    punch(plane)

    assert RemoveRelay(EID) in register(plane, *locators, now=1.0)


def test_a_withdrawn_node_has_no_place() -> None:
    plane = hub()
    register(plane, named(NAT, HOST), RELAY)
    punch(plane)

    effects = register(plane, now=1.0, ttl_min=0)

    assert RemoveRelay(EID) in effects
    assert RegistrationChanged(EID, None) in effects


def test_a_name_from_another_address_replaces_no_other() -> None:
    plane = hub()
    register(plane, named(NAT, HOST), RELAY)
    punch(plane)

    effects = plane.traversal.on_data_control(packet(request().encode(), 666, OTHER), 1.0)

    assert places(effects) == []


@pytest.mark.parametrize(
    "name", [b"RTR", HOST + b"@tp-0", HOST + b"@tp-70000", HOST + b"@tp-x", b"", b"\xff" * 20, b"x" * 200]
)
def test_a_record_with_a_forged_or_absurd_name_names_no_place(name: bytes) -> None:
    plane = hub()
    punch(plane)

    assert places(register(plane, named(NAT, name), RELAY)) == []


BAD = {
    "an address for a name": request(tail=NAT),
    "an empty name": request(b""),
    "a name that is too long": request(b"x" * 129),
    "octets that are no name": request(b"lap\x01top"),
    "a port in the name": request(HOST + b"@tp-80"),
    "an EID": request(eid=EID.address, mask_len=32),
    "authentication": request(key_id=1, algorithm_id=2, authentication=bytes(32)),
}


@pytest.mark.parametrize("what", BAD)
def test_a_question_that_is_none_of_this_dialect_is_counted_and_not_answered(what: str) -> None:
    plane = hub()

    assert plane.traversal.on_data_control(packet(BAD[what].encode()), 0.0) == []
    assert plane.counters["rx_policy"] == 1


@pytest.mark.parametrize("address", ["0.0.0.0", "224.0.0.1", "255.255.255.255", "127.0.0.1", "169.254.1.1"])
def test_nothing_is_sent_to_an_address_that_no_host_has(address: str) -> None:
    plane = hub()
    forged = packet(request().encode(), address=ip_address(address))

    assert plane.traversal.on_data_control(forged, 0.0) == []
    assert plane.traversal.on_data_control(packet(request().encode(), port=0), 0.0) == []
    assert plane.counters["rx_policy"] == 2


@given(st.binary(max_size=120))
def test_any_octets_in_a_data_packet_are_answered_or_counted(payload: bytes) -> None:
    plane = hub()

    effects = plane.traversal.on_data_control(packet(payload), 0.0)

    assert bool(effects) != bool(sum(count for name, count in plane.counters.items() if name != "rx_info_request"))


def test_a_flood_of_names_from_one_address_is_answered_in_part_and_remembered_in_part() -> None:
    cache, now = NatCache(), 0.0
    for number in range(2 * ANSWERS_EACH.burst):
        cache.on_punch(request(b"host-%d" % number), packet(b""), now)
    assert (len(cache), cache.counters["rx_rate"]) == (ANSWERS_EACH.burst, ANSWERS_EACH.burst)

    for number in range(2 * STRANGERS_PER_NETWORK):
        now += 0.2
        cache.on_punch(request(b"host-%d" % number), packet(b""), now)
    assert len(cache) <= STRANGERS_PER_NETWORK


def test_the_places_of_a_flood_from_everywhere_are_bounded() -> None:
    cache = NatCache()
    for number in range(STRANGERS_LIMIT + 10):
        now = number / ANSWERS_STRANGERS.per_s
        cache.on_punch(request(), packet(b"", address=ip_address(0x0B000000 + number)), now)

    assert len(cache) == STRANGERS_LIMIT


def test_a_flood_of_places_puts_out_none_that_a_registration_names() -> None:
    cache, named = NatCache(), Place(NAT, b"laptop")
    cache.on_punch(request(b"laptop"), packet(b""), 0.0, is_known=named.__eq__)

    for number in range(STRANGERS_LIMIT + 10):
        source = NAT if number % 2 else ip_address(0x0B000000 + number)
        cache.on_punch(request(b"host-%d" % number), packet(b"", address=source), number / 1e6)
        if number % 100 == 0:
            now = 60.0 * number / STRANGERS_LIMIT
            assert cache.on_punch(request(b"laptop"), packet(b""), now, is_known=named.__eq__)[1]

    assert named in cache._seen


def test_a_place_that_many_prefixes_name_moves_no_more_than_a_few_of_them() -> None:
    nodes = NamedNodes()

    for number in range(200):
        prefix = eid(f"10.1.2.{number}/32")
        nodes.on_record(prefix, MappingRecord.of(prefix, (named(NAT, HOST + b"@tp-9"),), ttl_min=10), 0.0)

    assert len(nodes.on_punch(request(), packet(b""), 0.0)) == 2 * PREFIXES_PER_PLACE + 1


def test_an_rtr_asks_a_map_server_elsewhere_and_forwards_by_what_it_is_shown() -> None:
    plane = hub(MapServerLink(FAR_SERVER))
    punch(plane)
    (asked,) = [
        effect
        for effect in plane.traversal.on_miss(ip_address("10.1.0.9"), EID.address, 0, 1.0)
        if isinstance(effect, SendControl)
    ]
    question = MapRequest.decode(EncapsulatedControl.decode(asked.payload).message)
    record = MappingRecord.of(EID, (named(NAT, HOST + b"@tp-9"),), ttl_min=10)

    effects = plane.on_datagram(Arrival(MapReply(question.nonce, (record,)).encode(), FAR_SERVER, 4342, HUB), 1.1)

    assert places(effects) == [("203.0.113.200", 20001, 4341)]


def test_what_is_behind_a_nat_is_not_sent_to_by_its_address_alone() -> None:
    record = MappingRecord.of(EID, (named(NAT, HOST), RELAY))
    proxy = Proxy([eid("10.1.0.0/16")])
    proxy.on_start()
    proxy.on_addresses([HUB])

    assert proxy.on_registration(RegistrationChanged(EID, record)) == [InstallMapping(EID, "DROP")]


def test_a_proxy_that_is_no_rtr_sends_to_the_rtrs() -> None:
    record = MappingRecord.of(EID, (named(NAT, HOST), RELAY))
    proxy = Proxy([eid("10.1.0.0/16")])
    proxy.on_start()
    proxy.on_addresses([OTHER])

    (effect,) = proxy.on_registration(RegistrationChanged(EID, record))

    assert isinstance(effect, InstallMapping)
    assert [locator.address for locator in effect.locators] == [HUB]


def test_an_rtr_with_its_map_server_elsewhere_asks_for_what_it_does_not_know() -> None:
    assert Proxy([EID], asks_elsewhere=True).on_start() == [InstallMapping(EID, "MISS")]


def test_where_the_dialect_is_not_spoken_a_punch_is_neither_answered_nor_remembered() -> None:
    plane = ControlPlane([site("10.1.0.0/16")], traversal=TraversalPolicy(is_rtr=True), new_nonce=count(1).__next__)

    for number in range(3):
        assert punch(plane, b"host-%d" % number) == []

    assert len(plane.traversal.named.cache) == 0
    assert plane.counters["rx_policy"] == 3

"""Real packets of Open Overlay Router's NAT traversal: our answers to the same requests are the same."""

from __future__ import annotations

from ipaddress import ip_address

import pytest
from msgspec.structs import replace

from lispmob.hub.map_server.effect import Arrival
from lispmob.hub.map_server.info import InfoResponder
from lispmob.hub.map_server.map_server import MapServer
from lispmob.hub.map_server.site import Site, SiteTable
from lispmob.hub.rtr.relayed import RelayedRegisters, RtrPeer, decode_relayed
from lispmob.hub.rtr.rtr import MapServerLink, Rtr
from lispmob.hub.rtr.rtr_effect import InstallRelay
from lispmob.natt.arrival import DataControl
from lispmob.natt.effect import NattEffect, SendFromDataPort
from lispmob.natt.natt_config import NattConfig
from lispmob.natt.traversal import Traversal
from lispmob.protocol.datagram import Datagram
from lispmob.protocol.effect import SendControl
from lispmob.protocol.locator_set import LocalLocator
from lispmob.protocol.servers import MapServerPeer
from lispmob.wire.address import EidPrefix, IpAddress
from lispmob.wire.auth import Algorithm, Key, sign_for_rtr, verify
from lispmob.wire.data_header import split_data_packet
from lispmob.wire.ecm import EncapsulatedControl
from lispmob.wire.info import InfoReply, InfoRequest
from lispmob.wire.ip_udp import UdpPacket, parse_ip_udp
from lispmob.wire.map_notify import MapNotify
from lispmob.wire.map_register import MapRegister
from lispmob.wire.record import Locator, MappingRecord
from tests.hub.exchange import CAPTURES
from tests.wire.pcap import read_pcap

KEY = Key(b"oorlabkey", algorithm=Algorithm.HMAC_SHA_1_96)
RTR_KEY = Key(b"oorlabrtrkey", algorithm=Algorithm.HMAC_SHA_1_96)
EID = EidPrefix.parse("192.0.2.1/32")
INSIDE, SERVER, RTR = (ip_address(text) for text in ("192.168.50.2", "10.0.10.2", "10.0.20.2"))
OUTSIDE = ["oor-nat-traversal.pcap", "oor-nat-portrewrite.pcap"]
INSIDES = ["oor-nat-traversal-inside.pcap", "oor-nat-portrewrite-inside.pcap"]
OLD_INSIDE = "oor-nat-traversal-olddraft-inside.pcap"


def packets(name: str) -> list[UdpPacket]:
    return [parse_ip_udp(raw) for raw in read_pcap(CAPTURES / name)]


def arrival(udp: UdpPacket) -> Arrival:
    return Arrival(udp.payload, udp.source, udp.source_port, udp.destination)


def only(name: str, kind: int, source: IpAddress, destination: IpAddress) -> UdpPacket:
    """The one packet of a message type (0: data) between two hosts."""
    found = [
        udp
        for udp in packets(name)
        if udp.payload[0] >> 4 == kind and (udp.source, udp.destination) == (source, destination)
    ]
    return found[0]


def nat_of(name: str) -> IpAddress:
    return next(udp.source for udp in packets(name) if udp.payload[0] >> 4 == 7 and udp.destination == SERVER)


def site() -> Site:
    return Site("oor", (EID, EidPrefix.parse("192.0.2.2/32")), (KEY,))


@pytest.mark.parametrize("name", OUTSIDE)
def test_our_map_server_answers_the_info_request_as_theirs_did(name: str) -> None:
    asked = only(name, 7, nat_of(name), SERVER)
    theirs_packet = only(name, 7, SERVER, nat_of(name))
    theirs = InfoReply.decode(theirs_packet.payload)
    responder = InfoResponder(SiteTable([site()]), [RTR], ttl_min=theirs.ttl_min)

    (sent,) = responder.on_info_request(arrival(asked), 0.0)

    assert isinstance(sent, SendControl)
    assert (sent.destination, sent.port) == (theirs_packet.destination, theirs_packet.destination_port)
    verify(sent.payload, KEY)
    assert replace(InfoReply.decode(sent.payload), authentication=b"") == replace(theirs, authentication=b"")


@pytest.mark.parametrize("name", OUTSIDE)
def test_our_rtr_passes_the_register_on_as_theirs_did(name: str) -> None:
    asked = only(name, 8, nat_of(name), RTR)
    theirs = EncapsulatedControl.decode(only(name, 8, RTR, SERVER).payload)

    (sent,) = rtr().on_encapsulated_control(arrival(asked), EncapsulatedControl.decode(asked.payload), 0.0)

    assert isinstance(sent, SendControl)
    assert sent.destination == SERVER
    ours = EncapsulatedControl.decode(sent.payload)
    assert (ours.message, ours.source, ours.destination) == (theirs.message, theirs.source, theirs.destination)
    assert ours.relayed_by_rtr
    assert not ours.to_rtr


@pytest.mark.parametrize("name", OUTSIDE)
def test_our_map_server_answers_a_relayed_register_as_theirs_did(name: str) -> None:
    asked, theirs_packet = only(name, 8, RTR, SERVER), only(name, 8, SERVER, RTR)
    ecm = decode_relayed(asked.payload)
    assert ecm is not None
    server = RelayedRegisters(MapServer([site()]), [RtrPeer(RTR, RTR_KEY)])

    sent = next(e for e in server.on_encapsulated_register(arrival(asked), ecm, 0.0) if isinstance(e, SendControl))

    ours, theirs = EncapsulatedControl.decode(sent.payload), EncapsulatedControl.decode(theirs_packet.payload)
    assert (ours.to_rtr, ours.source, ours.destination) == (theirs.to_rtr, theirs.source, theirs.destination)
    assert ours.rtr_authentication is not None
    assert theirs.rtr_authentication is not None
    assert ours.rtr_authentication.algorithm_id == theirs.rtr_authentication.algorithm_id
    notify, expected = MapNotify.decode(ours.message), MapNotify.decode(theirs.message)
    assert (notify.nonce, notify.xtr_id, notify.site_id) == (expected.nonce, expected.xtr_id, expected.site_id)
    assert [_meaning(record) for record in notify.records] == [_meaning(record) for record in expected.records]


@pytest.mark.parametrize("name", OUTSIDE)
def test_our_rtr_believes_their_map_server_and_tells_the_node_what_theirs_told_it(name: str) -> None:
    asked, answer = only(name, 8, nat_of(name), RTR), only(name, 8, SERVER, RTR)
    theirs = next(udp for udp in packets(name) if udp.source == RTR and udp.payload[4:7] == b"\xff\xff\xff")
    one = rtr()
    one.on_encapsulated_control(arrival(asked), EncapsulatedControl.decode(asked.payload), 0.0)

    effects = one.on_encapsulated_control(arrival(answer), EncapsulatedControl.decode(answer.payload), 0.01)

    (install,) = [effect for effect in effects if isinstance(effect, InstallRelay)]
    assert install.prefix == EID
    assert [(b.address, b.port) for b in install.bindings] == [(asked.source, asked.source_port)]
    (sent,) = [effect for effect in effects if isinstance(effect, SendControl)]
    assert (sent.destination, sent.port) == (theirs.destination, theirs.destination_port)
    ours, expected = (parse_ip_udp(split_data_packet(raw)[1]) for raw in (sent.payload, theirs.payload))
    assert (ours.source, ours.destination, ours.payload) == (expected.source, expected.destination, expected.payload)


def test_our_map_server_answers_a_register_of_the_old_draft_as_theirs_did() -> None:
    name = "oor-nat-traversal-olddraft.pcap"
    asked, theirs = only(name, 3, RTR, SERVER), only(name, 4, SERVER, RTR)
    server = RelayedRegisters(MapServer([site()]), [RtrPeer(RTR, RTR_KEY)])

    sent = next(e for e in server.on_old_register(arrival(asked), 0.0) if isinstance(e, SendControl))

    assert (sent.destination, sent.port) == (theirs.destination, theirs.destination_port)
    verify(sent.payload, KEY)
    ours, expected = MapNotify.decode(sent.payload), MapNotify.decode(theirs.payload)
    assert (ours.nonce, ours.xtr_id, ours.site_id) == (expected.nonce, expected.xtr_id, expected.site_id)
    assert [_meaning(record) for record in ours.records] == [_meaning(record) for record in expected.records]
    assert ours.rtr_authentication is not None
    assert expected.rtr_authentication is not None
    assert _proof(sent.payload) == ours.rtr_authentication.authentication
    assert _proof(theirs.payload) == expected.rtr_authentication.authentication


def test_a_forged_answer_of_the_map_server_changes_nothing_in_our_rtr() -> None:
    name = OUTSIDE[0]
    asked, answer = only(name, 8, nat_of(name), RTR), only(name, 8, SERVER, RTR)
    one = rtr()
    one.on_encapsulated_control(arrival(asked), EncapsulatedControl.decode(asked.payload), 0.0)
    unproven = replace(EncapsulatedControl.decode(answer.payload), authentication=None)

    assert one.on_encapsulated_control(arrival(answer), unproven, 0.01) == []
    assert one.counters["rx_auth"] == 1
    assert len(one.entries) == 0


@pytest.mark.parametrize("name", [*INSIDES, OLD_INSIDE])
def test_our_node_is_relayed_by_what_their_servers_said(name: str) -> None:
    reply, notify = only(name, 7, SERVER, INSIDE), only(name, 0, RTR, INSIDE)
    nonce = InfoReply.decode(reply.payload).nonce
    inner = parse_ip_udp(split_data_packet(notify.payload)[1])
    registered = MapNotify.decode(inner.payload)
    assert registered.xtr_id is not None
    config = NattConfig((EID,), (MapServerPeer(SERVER, KEY),), "e19", (RTR,), xtr_id=registered.xtr_id)
    node = Traversal(config, new_nonce=lambda: nonce, next_nonce=lambda: registered.nonce)
    asked = node.on_locators([LocalLocator(INSIDE, 2, "eth0", priority=1, weight=100)], 0.0)

    told = Datagram(reply.payload, reply.source, reply.source_port, INSIDE)
    registers = node.on_datagram(told, 0.01) or []
    ports = (inner.source_port, inner.destination_port)
    data = DataControl(inner.payload, inner.source, ports[0], inner.destination, ports[1], RTR, 4342, INSIDE)
    node.on_data_control(data, 0.02)

    question, theirs = _info_in(asked), InfoRequest.decode(only(name, 7, INSIDE, SERVER).payload)
    assert (question.eid, question.mask_len, question.ttl_min) == (theirs.eid, theirs.mask_len, theirs.ttl_min)
    assert _says_the_same(registers, only(name, 8, INSIDE, RTR))
    assert node.machines[0].state.value == "relayed"
    assert node.machines[0].rtrs == (RTR,)


def _proof(notify: bytes) -> bytes:
    """The proof at the end of a Map-Notify of the old draft: over the message with zeros in its place."""
    return sign_for_rtr(notify[:-20] + bytes(20), RTR_KEY).authentication


def rtr() -> Rtr:
    return Rtr([MapServerLink(SERVER, RTR_KEY)], [RTR])


def _info_in(effects: list[NattEffect]) -> InfoRequest:
    (sent,) = [effect for effect in effects if isinstance(effect, SendControl)]
    verify(sent.payload, KEY)
    return InfoRequest.decode(sent.payload)


def _says_the_same(effects: list[NattEffect], theirs: UdpPacket) -> bool:
    """True if their register and ours are equal but for order, TTL and the bits that are outdated in theirs."""
    (sent,) = [effect for effect in effects if isinstance(effect, SendFromDataPort)]
    ours_ecm, theirs_ecm = EncapsulatedControl.decode(sent.payload), EncapsulatedControl.decode(theirs.payload)
    assert (sent.destination, sent.port, sent.source) == (theirs.destination, theirs.destination_port, theirs.source)
    assert (ours_ecm.source, ours_ecm.destination) == (theirs_ecm.source, theirs_ecm.destination)
    assert ours_ecm.to_rtr
    assert theirs_ecm.to_rtr
    one, other = MapRegister.decode(ours_ecm.message), MapRegister.decode(theirs_ecm.message)
    assert (one.xtr_id, one.want_map_notify, one.proxy_map_reply) == (other.xtr_id, True, True)
    return [_places(record) for record in one.records] == [_places(record) for record in other.records]


def _places(record: MappingRecord) -> set[tuple[object, bool]]:
    return {(locator.address, locator.is_reachable) for locator in record.locators}


def _meaning(record: MappingRecord) -> MappingRecord:
    locators: list[Locator] = [replace(locator, is_local=False) for locator in record.locators]
    return replace(record, locators=tuple(sorted(locators, key=lambda one: str(one.address))))

"""Real packets of Open Overlay Router 1.3: every one is decoded, and encoded to the same octets."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from lispmob.wire.auth import Algorithm, AuthenticatedMessage, Key, verify, verify_for_rtr
from lispmob.wire.data_header import CONTROL_INSTANCE_ID, split_data_packet
from lispmob.wire.ecm import EncapsulatedControl
from lispmob.wire.ip_udp import UdpPacket, parse_ip_udp
from lispmob.wire.map_notify import MapNotify
from lispmob.wire.map_reply import MapReply
from lispmob.wire.map_request import MapRequest
from lispmob.wire.message import ControlMessage, decode_control
from tests.wire.pcap import read_pcap

CAPTURES = sorted((Path(__file__).parent.parent / "captures").glob("*.pcap"))
SITE_KEY = Key(b"oorlabkey", 0, Algorithm.HMAC_SHA_1_96)
RTR_KEY = Key(b"oorlabrtrkey", 0, Algorithm.HMAC_SHA_1_96)
DATA_PORTS = {4341, 4790}
RTR_PROOF_OCTETS = 20


def datagrams(path: Path) -> Iterator[UdpPacket]:
    for packet in read_pcap(path):
        yield parse_ip_udp(packet)


def is_data(datagram: UdpPacket) -> bool:
    """True for a data packet; the RTR sends them from port 4342, with an Instance-ID's header or none at all."""
    if datagram.source_port in DATA_PORTS or datagram.destination_port in DATA_PORTS:
        return datagram.destination_port != 4342
    return datagram.payload[0] in (0x00, 0x08)


def control_payloads(path: Path) -> Iterator[bytes]:
    """Every control message, also those that came in data packets."""
    for datagram in datagrams(path):
        if not is_data(datagram):
            yield datagram.payload
        elif 4790 not in (datagram.source_port, datagram.destination_port):
            header, inner = split_data_packet(datagram.payload)
            if header.instance_id == CONTROL_INSTANCE_ID:
                yield parse_ip_udp(inner, "data_inner").payload


def nested(raw: bytes) -> Iterator[tuple[bytes, ControlMessage]]:
    """The message, and the one inside it."""
    message = decode_control(raw)
    yield raw, message
    if isinstance(message, EncapsulatedControl):
        yield message.message, decode_control(message.message)


@pytest.mark.parametrize("path", CAPTURES, ids=lambda path: path.stem)
def test_every_control_message_encodes_to_the_octets_it_came_from(path: Path) -> None:
    for payload in control_payloads(path):
        for raw, message in nested(payload):
            assert message.encode() == raw


@pytest.mark.parametrize("path", CAPTURES, ids=lambda path: path.stem)
def test_every_authenticated_message_verifies(path: Path) -> None:
    for payload in control_payloads(path):
        for raw, message in nested(payload):
            if isinstance(message, AuthenticatedMessage):
                verify(raw, SITE_KEY)


@pytest.mark.parametrize("path", CAPTURES, ids=lambda path: path.stem)
def test_every_outer_and_inner_packet_encodes_to_the_octets_it_came_from(path: Path) -> None:
    for packet in read_pcap(path):
        assert parse_ip_udp(packet).encode() == packet


@pytest.mark.parametrize("path", CAPTURES, ids=lambda path: path.stem)
def test_every_data_header_encodes_to_the_octets_it_came_from(path: Path) -> None:
    for datagram in datagrams(path):
        if is_data(datagram) and 4790 not in (datagram.source_port, datagram.destination_port):
            header, inner = split_data_packet(datagram.payload)

            assert header.encode() + inner == datagram.payload


def test_a_map_server_proves_its_notifications_to_the_rtr() -> None:
    proofs = 0
    for path in CAPTURES:
        for payload in control_payloads(path):
            message = decode_control(payload)
            if isinstance(message, EncapsulatedControl) and message.rtr_authentication:
                verify_for_rtr(message.message, message.rtr_authentication, RTR_KEY)
                proofs += 1

    assert proofs == 2


def test_in_the_older_draft_the_proof_follows_the_message_and_covers_its_own_header() -> None:
    path = next(path for path in CAPTURES if path.stem == "oor-nat-traversal-olddraft")
    proofs = 0
    for payload in control_payloads(path):
        message = decode_control(payload)
        if isinstance(message, MapNotify) and message.rtr_authentication and message.rtr_authentication.authentication:
            covered = payload[:-RTR_PROOF_OCTETS] + bytes(RTR_PROOF_OCTETS)
            verify_for_rtr(covered, message.rtr_authentication, RTR_KEY)
            proofs += 1

    assert proofs == 1


def test_the_captures_hold_each_kind_of_message_that_a_node_meets() -> None:
    kinds = Counter(type(m).__name__ for path in CAPTURES for raw in control_payloads(path) for _, m in nested(raw))

    assert set(kinds) == {
        "EncapsulatedControl",
        "InfoReply",
        "InfoRequest",
        "MapNotify",
        "MapRegister",
        "MapReply",
        "MapRequest",
    }


def test_an_eid_in_an_instance_id_is_a_prefix_of_that_instance() -> None:
    path = next(path for path in CAPTURES if path.stem == "oor-instance-id")

    replies = [m for raw in control_payloads(path) if isinstance(m := decode_control(raw), MapReply)]

    assert {str(reply.records[0].eid_prefix) for reply in replies} == {"[100]192.0.2.1/32", "[100]192.0.2.2/32"}


def test_a_handover_shows_as_solicited_and_invoked_map_requests() -> None:
    path = next(path for path in CAPTURES if path.stem == "oor-smr-handover")

    requests = [m for raw in control_payloads(path) for _, m in nested(raw) if isinstance(m, MapRequest)]

    assert [request.nonce for request in requests if request.is_smr] == [0]
    assert sum(request.is_smr_invoked for request in requests) == 2

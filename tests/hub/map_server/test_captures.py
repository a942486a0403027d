"""Real packets of Open Overlay Router: our Map-Server answers as its Map-Server did."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_address

import pytest
from msgspec.structs import replace

from lispmob.hub.dispatch import ControlPlane
from lispmob.protocol.effect import SendControl
from lispmob.wire.auth import Algorithm, Key, verify
from lispmob.wire.map_notify import MapNotify
from lispmob.wire.map_reply import MapReply
from lispmob.wire.record import MappingRecord
from tests.hub.exchange import Packet, control_packets, plane, sent, site

OOR_KEY = Key(b"oorlabkey", key_id=0, algorithm=Algorithm.HMAC_SHA_1_96)
MAP_SERVER = {ip_address("10.0.10.2"), ip_address("2001:db8:10::2")}
WITHOUT_RTR = [
    "oor-basic-ipv4.pcap",
    "oor-instance-id.pcap",
    "oor-ipv6-rloc.pcap",
    "oor-multi-rloc.pcap",
    "oor-negative-reply.pcap",
    "oor-proxy-reply.pcap",
    "oor-smr-handover.pcap",
    "oor-smr-renumber.pcap",
    "oor-vxlan-gpe.pcap",
]


def oor_sites() -> ControlPlane:
    eids = ("192.0.2.0/24", "2001:db8:e1d::/48")
    return plane(site(*eids, *(f"[100]{eid}" for eid in eids), key=OOR_KEY, strict_nonces=None))


def answered(name: str) -> Iterator[tuple[SendControl, Packet]]:
    """Our answers with the captured ones; both come in the order of the questions, for each destination."""
    hub = oor_sites()
    ours: list[SendControl] = []
    theirs: list[Packet] = []
    for second, packet in enumerate(control_packets(name)):
        if packet.destination in MAP_SERVER:
            ours += sent(hub.on_datagram(packet.arrival, float(second)))
        elif packet.source in MAP_SERVER:
            theirs.append(packet)
    assert len(ours) == len(theirs) > 0
    return zip(ours, theirs, strict=True)


def meaning(record: MappingRecord) -> MappingRecord:
    """The record without two errors of its Map-Server: A on negative replies, and L cleared in the Map-Notify."""
    locators = tuple(replace(locator, is_local=False) for locator in record.locators)
    return replace(record, is_authoritative=False, locators=locators)


@pytest.mark.parametrize("name", WITHOUT_RTR)
def test_every_answer_goes_where_theirs_went(name: str) -> None:
    for ours, theirs in answered(name):
        assert (ours.destination, ours.port, ours.source) == (
            theirs.destination,
            theirs.destination_port,
            theirs.source,
        )


@pytest.mark.parametrize("name", WITHOUT_RTR)
def test_every_answer_means_what_theirs_meant(name: str) -> None:
    for ours, theirs in answered(name):
        kind = theirs.payload[0] >> 4
        assert ours.payload[0] >> 4 == kind
        if kind == 4:
            verify(ours.payload, OOR_KEY)
            notify, expected = MapNotify.decode(ours.payload), MapNotify.decode(theirs.payload)
            assert notify.nonce == expected.nonce
            assert (notify.key_id, notify.algorithm_id, len(notify.authentication)) == (0, 1, 20)
            assert list(map(meaning, notify.records)) == list(map(meaning, expected.records))
        elif kind == 2:
            reply, wanted = MapReply.decode(ours.payload), MapReply.decode(theirs.payload)
            assert reply.nonce == wanted.nonce
            assert list(map(meaning, reply.records)) == list(map(meaning, wanted.records))
        else:
            assert ours.payload == theirs.payload  # forwarded to the ETR unchanged


def test_our_proxy_replies_are_octet_for_octet_theirs() -> None:
    replies = [pair for pair in answered("oor-proxy-reply.pcap") if pair[1].payload[0] >> 4 == 2]

    assert [ours.payload for ours, _ in replies] == [theirs.payload for _, theirs in replies]
    assert len(replies) == 2

"""The probes of path MTUs as octets: as long as they say, and ordinary Map-Requests to those who receive them."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from lispmob.control.path_mtu.size_probe import HEADERS_OCTETS, ControlProbe, DataProbe, everything
from lispmob.errors import MalformedMessage
from lispmob.wire.address import EidPrefix, IpAddress
from lispmob.wire.data_header import split_data_packet
from lispmob.wire.ip_udp import parse_ip_udp
from lispmob.wire.map_request import MapRequest

EID = EidPrefix.parse("10.1.0.2/32")
PAIRS: list[tuple[IpAddress, IpAddress]] = [
    (ip_address("198.51.100.2"), ip_address("192.0.2.130")),
    (ip_address("2001:db8:a::2"), ip_address("2001:db8:b::2")),
]


@pytest.mark.parametrize(("local", "remote"), PAIRS)
@pytest.mark.parametrize("size", [576, 1280, 1400, 1500, 9000])
@pytest.mark.parametrize("kind", ["control", "data"])
def test_a_probe_is_as_long_as_the_packet_that_it_stands_for(
    local: IpAddress, remote: IpAddress, size: int, kind: str
) -> None:
    probe = ControlProbe(EID, local, remote, 3) if kind == "control" else DataProbe(EID, local, remote, 30001)

    packet = probe.packet(7, size)

    assert len(packet.payload) + HEADERS_OCTETS[remote.version] == size
    assert packet.is_whole
    assert (packet.source, packet.destination) == (local, remote)


@pytest.mark.parametrize(("local", "remote"), PAIRS)
def test_it_is_an_rloc_probe_for_every_receiver(local: IpAddress, remote: IpAddress) -> None:
    asked = MapRequest.decode(ControlProbe(EID, local, remote).packet(7, 1500).payload)

    assert (asked.nonce, asked.is_probe, asked.itr_rlocs) == (7, True, (local,))
    assert asked.records[0].eid_prefix == EID
    assert everything(remote.version).mask_len == 0


def test_to_a_node_behind_a_nat_the_padding_is_behind_the_inner_packet() -> None:
    local, remote = PAIRS[0]
    payload = DataProbe(EID, local, remote, 30001).packet(7, 1400).payload

    header, inner = split_data_packet(payload)
    inner_length = int.from_bytes(inner[2:4])

    assert header.instance_id == 0xFFFFFF
    assert payload[8 + inner_length :].strip(b"\0") == b""
    assert MapRequest.decode(parse_ip_udp(inner[:inner_length]).payload).nonce == 7


@pytest.mark.parametrize("behind", [b"\0" * 4 + b"\1", b"\1", b"\0\0\0\0\0\0\0\xff" * 20])
def test_what_is_no_padding_is_refused_behind_a_probe(behind: bytes) -> None:
    message = ControlProbe(EID, *PAIRS[0]).packet(7, 0).payload

    with pytest.raises(MalformedMessage) as refused:
        MapRequest.decode(message + behind)

    assert refused.value.counter == "rx_trailing"


def test_nothing_may_follow_a_question_that_is_no_probe() -> None:
    message = bytearray(ControlProbe(EID, *PAIRS[0]).packet(7, 0).payload)
    message[0] &= 0xFD  # the flag P

    with pytest.raises(MalformedMessage) as refused:
        MapRequest.decode(bytes(message) + b"\0\0\0\0")

    assert refused.value.counter == "rx_trailing"

"""ECM and the packets in it: checksums, lengths and ports."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest
from msgspec.structs import replace

from lispmob.errors import MalformedMessage
from lispmob.wire.checksum import internet_checksum
from lispmob.wire.data_header import DataHeader, split_data_packet
from lispmob.wire.ecm import EncapsulatedControl
from lispmob.wire.ip_udp import UdpPacket, build_ip_udp, parse_ip_udp
from tests.wire.vectors import CONTROL, DATA

SOURCE, DESTINATION = IPv4Address("10.1.0.1"), IPv4Address("10.2.0.7")
ECM = EncapsulatedControl.decode(CONTROL["ECM1"])
PACKET = UdpPacket(SOURCE, 50000, DESTINATION, 4342, b"payload!")


def counter_of(raw: bytes) -> str:
    with pytest.raises(MalformedMessage) as caught:
        EncapsulatedControl.decode(raw)
    return caught.value.counter


def with_header(packet: bytes, at: int, octets: bytes) -> bytes:
    """An IPv4 packet with octets of its header replaced, and a correct header checksum."""
    header = bytearray(packet[:20])
    header[at : at + len(octets)] = octets
    header[10:12] = b"\0\0"
    header[10:12] = internet_checksum(bytes(header)).to_bytes(2)
    return bytes(header) + packet[20:]


@pytest.mark.parametrize(("source_port", "destination_port"), [(4341, 4342), (4342, 4341), (50000, 50001)])
def test_one_inner_port_is_the_control_port_and_none_the_data_port(source_port: int, destination_port: int) -> None:
    ecm = replace(ECM, source_port=source_port, destination_port=destination_port)

    assert counter_of(ecm.encode()) == "rx_ecm"


@pytest.mark.parametrize(
    ("message", "counter"),
    [
        (CONTROL["ECM1"], "rx_ecm"),
        (CONTROL["MRP1"], "rx_type"),
        (CONTROL["INF1"], "rx_type"),
        (CONTROL["MRQ3"], "rx_policy"),
        (b"\x10\0", "rx_ecm"),
    ],
)
def test_only_requests_registers_and_notifications_travel_in_an_ecm(message: bytes, counter: str) -> None:
    # The authentication data makes the shortest one long enough to be read.
    ecm = replace(ECM, message=message, authentication=b"\2\0\0\0\0\1\0\0")

    assert counter_of(ecm.encode()) == counter


@pytest.mark.parametrize("authentication", [b"\3\0\0\0", b"\2\0\0\0\0\1\xff\xff", b"\1\0\0\2\xff\xff\1\2"])
def test_authentication_data_of_another_type_or_length_is_refused(authentication: bytes) -> None:
    assert counter_of(replace(ECM, authentication=authentication).encode()) in ("rx_policy", "rx_truncated")


@pytest.mark.parametrize(
    ("at", "octets"),
    [
        (6, b"\x20\0"),  # more fragments
        (6, b"\0\1"),  # a fragment offset
        (9, b"\x06"),  # TCP
        (0, b"\x44"),  # a header of 16 octets
        (0, b"\x4f"),  # a header of 60 octets
        (2, b"\0\x13"),  # shorter than its header
        (2, b"\xff\xff"),  # longer than what is there
    ],
)
def test_an_inner_header_that_is_no_whole_udp_packets_is_refused(at: int, octets: bytes) -> None:
    with pytest.raises(MalformedMessage) as caught:
        parse_ip_udp(with_header(PACKET.encode(), at, octets))

    assert caught.value.counter == "rx_ecm"


def test_every_flipped_bit_of_an_ipv4_packet_is_noticed() -> None:
    raw = PACKET.encode()

    for bit in range(len(raw) * 8):
        flipped = bytearray(raw)
        flipped[bit // 8] ^= 1 << bit % 8
        with pytest.raises(MalformedMessage):
            parse_ip_udp(bytes(flipped))


@pytest.mark.parametrize("addresses", [("10.1.0.1", "10.2.0.7"), ("2001:db8::1", "2001:db8::7")])
def test_an_absent_inner_checksum_is_accepted_and_told(addresses: tuple[str, str]) -> None:
    source, destination = (ip_address(address) for address in addresses)
    ecm = replace(ECM, source=source, destination=destination, has_checksum=False)

    read = EncapsulatedControl.decode(ecm.encode())

    assert read == ecm
    assert not read.has_checksum


@pytest.mark.parametrize("addresses", [("10.1.0.1", "10.2.0.7"), ("2001:db8::1", "2001:db8::7")])
@pytest.mark.parametrize("wrong", [b"\0\1", b"\xff\xff", b"\x12\x34"])
def test_a_wrong_inner_checksum_is_refused(addresses: tuple[str, str], wrong: bytes) -> None:
    source, destination = (ip_address(address) for address in addresses)
    raw = bytearray(replace(ECM, source=source, destination=destination).encode())
    at = 4 + (20 if source.version == 4 else 40) + 6
    raw[at : at + 2] = wrong

    assert counter_of(bytes(raw)) == "rx_ecm"


def test_what_we_make_has_an_inner_checksum() -> None:
    made = EncapsulatedControl(SOURCE, 4342, DESTINATION, 4342, CONTROL["MRQ1"])

    assert EncapsulatedControl.decode(made.encode()).has_checksum


def test_a_udp_length_shorter_than_the_packet_ends_the_payload() -> None:
    long = replace(PACKET, has_checksum=False).encode()
    raw = long[:24] + (8 + 3).to_bytes(2) + long[26:]

    assert parse_ip_udp(raw).payload == b"pay"


def test_ipv6_packets_keep_their_flow_label_and_traffic_class() -> None:
    packet = UdpPacket(
        IPv6Address("2001:db8::1"), 1, IPv6Address("2001:db8::2"), 2, b"odd", 9, traffic_class=0xA5, flow_label=0xBCDEF
    )

    assert parse_ip_udp(packet.encode()) == packet


def test_a_packet_cannot_be_built_across_families() -> None:
    with pytest.raises(ValueError, match="one family"):
        build_ip_udp(SOURCE, 1, IPv6Address("2001:db8::2"), 2, b"")


def test_a_checksum_that_comes_out_as_zero_is_sent_as_ones() -> None:
    plain = build_ip_udp(SOURCE, 1, DESTINATION, 2, b"\0\0")
    checksum = plain[26:28]

    packet = build_ip_udp(SOURCE, 1, DESTINATION, 2, checksum)

    assert packet[26:28] == b"\xff\xff"
    assert parse_ip_udp(packet).payload == checksum


def test_an_inner_packet_is_cut_to_its_own_length() -> None:
    header, inner = split_data_packet(DATA["DAT1"] + b"padding")

    assert header.encode() + inner == DATA["DAT1"]


def test_an_encrypted_data_packet_needs_a_key() -> None:
    with pytest.raises(MalformedMessage) as caught:
        split_data_packet(DataHeader(key_number=2).encode() + bytes(40))

    assert caught.value.counter == "data_key"


@pytest.mark.parametrize(
    "header",
    [
        DataHeader(nonce=1, map_versions=(1, 2)),
        DataHeader(nonce=1 << 24),
        DataHeader(instance_id=1 << 24),
        DataHeader(instance_id=1, locator_status_bits=256),
        DataHeader(map_versions=(4096, 0)),
    ],
)
def test_a_data_header_that_does_not_fit_cannot_be_written(header: DataHeader) -> None:
    with pytest.raises(ValueError, match="data header"):
        header.encode()

"""The laboratory's translator does what RFC 6146 and RFC 7050 say, as far as the laboratory depends on it."""

from __future__ import annotations

import struct
from ipaddress import IPv6Network, ip_address

import pytest
from msgspec.structs import replace

from lispmob.lab import dns64
from lispmob.lab.nat64 import Plan, Translator
from lispmob.wire.checksum import internet_checksum
from lispmob.wire.ip_udp import UdpPacket, parse_ip_udp

PREFIX = IPv6Network("64:ff9b::/96")
PLAN = Plan(str(PREFIX), "203.0.113.64", timeout_s=60.0)
INSIDE, OUTSIDE, BEYOND = ip_address("2001:db8::7"), ip_address("198.18.0.10"), ip_address("64:ff9b::198.18.0.10")
ASKED = UdpPacket(INSIDE, 4341, BEYOND, 4342, b"question", traffic_class=0x28, flow_label=7)
ANSWERED = UdpPacket(OUTSIDE, 4342, ip_address("203.0.113.64"), 4341, b"answer")


def through(translator: Translator, packet: UdpPacket, now: float = 0.0) -> UdpPacket | None:
    octets = translator.take(packet.encode(), now)
    return None if octets is None else parse_ip_udp(octets)


def test_a_datagram_leaves_with_the_public_address_and_its_port() -> None:
    left = through(Translator(PLAN), ASKED)

    assert left is not None
    assert (str(left.source), left.source_port) == ("203.0.113.64", 4341)
    assert (left.destination, left.destination_port, left.payload) == (OUTSIDE, 4342, b"question")
    assert (left.traffic_class, left.ttl) == (0x28, 63)


def test_the_answer_comes_back_from_behind_the_prefix() -> None:
    translator = Translator(PLAN)
    through(translator, ASKED)

    came = through(translator, ANSWERED)

    assert came is not None
    assert (came.source, came.source_port, came.destination, came.destination_port) == (BEYOND, 4342, INSIDE, 4341)


@pytest.mark.parametrize(
    "packet",
    [
        replace(ANSWERED, source_port=4341),
        replace(ANSWERED, source=ip_address("198.18.0.11")),
        replace(ANSWERED, destination_port=4342),
        replace(ANSWERED, ttl=1),
    ],
    ids=["another port", "another host", "no binding", "at its last hop"],
)
def test_what_no_host_inside_has_asked_for_stays_outside(packet: UdpPacket) -> None:
    translator = Translator(PLAN)
    through(translator, ASKED)

    assert through(translator, packet) is None


def test_a_binding_that_rests_is_forgotten() -> None:
    translator = Translator(PLAN)
    through(translator, ASKED, 0.0)

    assert through(translator, ANSWERED, 59.0) is not None
    assert through(translator, ANSWERED, 120.0) is None


def test_after_a_restart_nothing_is_bound() -> None:
    translator = Translator(PLAN)
    through(translator, ASKED)
    translator.forget()

    assert through(translator, ANSWERED) is None


def test_two_hosts_with_one_port_get_two() -> None:
    translator = Translator(PLAN)
    first = through(translator, ASKED)
    second = through(translator, replace(ASKED, source=ip_address("2001:db8::8")))

    assert first is not None
    assert second is not None
    assert first.source_port != second.source_port


def test_a_checksum_of_zero_is_given_one_inward_and_ends_a_packet_outward() -> None:
    translator = Translator(PLAN)
    assert through(translator, replace(ASKED, has_checksum=False)) is None
    through(translator, ASKED)

    came = through(translator, replace(ANSWERED, has_checksum=False))

    assert came is not None
    assert came.has_checksum


def test_what_does_not_fit_inside_is_refused_with_the_size_that_does() -> None:
    translator = Translator(PLAN)
    through(translator, ASKED)
    large = replace(ANSWERED, payload=bytes(1453), dont_fragment=True).encode()

    refusal = translator.take(large, 0.0)

    assert refusal is not None
    assert internet_checksum(refusal[:20]) == internet_checksum(refusal[20:]) == 0
    assert refusal[9] == 1
    assert refusal[16:20] == OUTSIDE.packed
    assert struct.unpack("!BB4xH", refusal[20:28]) == (3, 4, 1480)
    assert refusal[28:] == large[:28]
    assert translator.take(replace(ANSWERED, payload=bytes(1452), dont_fragment=True).encode(), 0.0) is not None


@pytest.mark.parametrize("octets", [b"", b"\x45", b"\x60" + bytes(39), ASKED.encode()[:-1], bytes(60)])
def test_anything_else_is_counted_and_dropped(octets: bytes) -> None:
    translator = Translator(PLAN)

    assert translator.take(octets, 0.0) is None
    assert translator.counters["not-translated"] == 1


def query(name: bytes, kind: int = 28) -> bytes:
    labels = b"".join(bytes([len(label)]) + label for label in name.split(b".")) + b"\0"
    return struct.pack("!HHHHHH", 7, 0x0100, 1, 0, 0, 0) + labels + struct.pack("!HH", kind, 1)


def test_the_name_without_an_ipv6_address_gets_one_for_each_of_its_ipv4_ones() -> None:
    answer = dns64.answer(query(b"IPv4only.arpa"), PREFIX)

    assert answer is not None
    assert answer[:2] == b"\0\7"
    assert ip_address("64:ff9b::192.0.0.170").packed in answer
    assert ip_address("64:ff9b::192.0.0.171").packed in answer
    assert dns64.answer(query(b"ipv4only.arpa", kind=1), PREFIX).endswith(ip_address("192.0.0.171").packed)  # type: ignore[union-attr]


def test_another_name_is_not_known_and_no_question_is_not_answered() -> None:
    answer = dns64.answer(query(b"example.org"), PREFIX)

    assert answer is not None
    assert answer[3] & 15 == 3
    for octets in (b"", query(b"ipv4only.arpa")[:-3], answer):
        assert dns64.answer(octets, PREFIX) is None

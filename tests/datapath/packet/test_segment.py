"""Cutting super-packets and joining packets are inverse, and agree with the reference."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from tests.datapath import binding
from tests.datapath.flows import stream, streams, super_packet, super_packets
from tests.datapath.oracle import packet as oracle
from tests.datapath.oracle.segments import GSO_NONE, NEEDS_CSUM, VnetHeader, complete, partial_checksum, segment
from tests.datapath.packets import packets, whole_packets

U16 = st.integers(0, 0xFFFF)


def without_id(packet: bytes) -> bytes:
    """The packet without its identification, which has no meaning in IPv4 with DF (RFC 6864)."""
    if packet[0] >> 4 != 4 or not packet[6] & 0x40:
        return packet
    return packet[:4] + packet[6:10] + packet[12:]


@settings(max_examples=300, deadline=None)
@given(super_packets())
def test_a_super_packet_falls_apart_as_the_reference_says(given_: tuple[VnetHeader, bytes]) -> None:
    vnet, packet = given_

    assert binding.segments(vnet, packet) == segment(vnet, packet)


@settings(max_examples=300)
@given(whole_packets(), st.integers(0, 255), st.integers(0, 3000))
def test_what_is_no_super_packet_is_refused_not_guessed(packet: bytes, kind: int, size: int) -> None:
    vnet = VnetHeader(gso_type=kind, gso_size=size)
    if kind & 0x7F == GSO_NONE:
        assert binding.segments(vnet, packet) == []
        return

    made, expected = binding.segments(vnet, packet), segment(vnet, packet)

    assert (made is None) == (expected is None)
    if made is not None and expected is not None:
        assert [len(datagram) for datagram in made] == [len(datagram) for datagram in expected]


@settings(max_examples=300)
@given(packets(), U16 | st.integers(0, 100), st.sampled_from([0, 6, 16, 40, 65535]))
def test_a_partial_checksum_is_filled_in_as_the_reference_says(packet: bytes, start: int, offset: int) -> None:
    vnet = VnetHeader(NEEDS_CSUM, csum_start=start, csum_offset=offset)

    assert binding.complete(vnet, packet) == complete(vnet, packet)


@settings(max_examples=300, deadline=None)
@given(super_packets())
def test_the_packets_of_a_super_packet_join_to_it_again(given_: tuple[VnetHeader, bytes]) -> None:
    vnet, packet = given_
    if packet[0] >> 4 == 6 and packet[6] == 0:
        return  # extension headers stay as they are
    made = binding.segments(vnet, packet)
    assert made is not None
    flags = packet[vnet.csum_start + 13] if vnet.csum_offset == 16 else 0

    written = binding.merged(made)

    if flags & 0x80:  # "congestion window reduced" is for the first segment only
        assert written[0] == (VnetHeader(), made[0])
    elif len(made) == 1:
        assert written == [(VnetHeader(), made[0])]
    elif len(made) <= 64:
        assert written == [(vnet, packet)]


@settings(max_examples=600, deadline=None)
@given(streams(), st.booleans())
def test_whatever_arrives_is_written_unchanged_and_in_order(arrived: list[bytes], takes_udp: bool) -> None:
    written = binding.merged(arrived, takes_udp=takes_udp)

    delivered: list[bytes] = []
    for vnet, packet in written:
        parts = [packet] if vnet.gso_type == GSO_NONE else segment(vnet, packet)
        assert parts is not None
        delivered += parts
    assert [without_id(datagram) for datagram in delivered] == [without_id(datagram) for datagram in arrived]


def test_some_streams_are_joined_and_some_are_not() -> None:
    shrunk = [len(binding.merged(arrived)) / len(arrived) for arrived in map(stream, range(300)) if len(arrived) > 20]

    assert min(shrunk) < 0.1
    assert max(shrunk) > 0.2


def test_a_wrong_checksum_is_never_vouched_for() -> None:
    vnet, packet = super_packet(next(seed for seed in range(99) if len(segment(*super_packet(seed)) or ()) > 10))
    made = binding.segments(vnet, packet)
    assert made is not None
    made[4] = made[4][:-1] + bytes([made[4][-1] ^ 1])

    written = binding.merged(made)

    assert (VnetHeader(), made[4]) in written


@pytest.mark.parametrize("gone", [1, 3])
def test_a_gap_ends_a_super_packet(gone: int) -> None:
    seeds = (seed for seed in range(999) if len(segment(*super_packet(seed)) or ()) > 10)
    made = binding.segments(*next(pair for pair in map(super_packet, seeds) if pair[0].gso_type in (1, 4)))
    assert made is not None

    written = binding.merged(made[:gone] + made[gone + 1 :])

    assert len(segment(*written[0]) or [written[0]]) == gone
    assert len(written) == 2


@given(whole_packets())
def test_completing_a_partial_checksum_gives_a_right_one(packet: bytes) -> None:
    inner = oracle.parse(packet)
    assert inner is not None
    if inner.protocol != 17 or inner.is_fragment or inner.length < inner.header + 8:
        return
    opened = partial_checksum(packet[: inner.length])

    closed = binding.complete(VnetHeader(NEEDS_CSUM, csum_start=inner.header, csum_offset=6), opened)

    assert closed is not None
    read = replace(inner)
    pseudo = read.source.packed + read.destination.packed
    pseudo += (read.length - read.header).to_bytes(4, "big") + (17).to_bytes(4, "big")
    assert oracle.checksum(pseudo + closed[read.header :]) == 0

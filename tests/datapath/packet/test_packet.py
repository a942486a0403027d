"""The C agrees with the reference on every packet, and both agree with the tables of the RFCs."""

from __future__ import annotations

import os
import subprocess
import sys
from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lispmob.wire.data_header import DataHeader
from tests.datapath import binding
from tests.datapath.oracle import packet as oracle
from tests.datapath.packets import datagrams, packets, whole_packets

KEYS = st.tuples(st.integers(0, (1 << 64) - 1), st.integers(0, (1 << 64) - 1))
OCTETS = st.integers(0, 255)
DAT1 = bytes.fromhex("45280024000000003f0167a70a0100010a02000708005435123400016162636465666768")


@settings(max_examples=1000)
@given(packets())
def test_c_reads_headers_as_the_reference_does(packet: bytes) -> None:
    inner = binding.parse(packet)

    assert (binding.as_oracle(inner) if inner else None) == oracle.parse(packet)


@settings(max_examples=666)
@given(datagrams())
def test_c_judges_datagrams_as_the_reference_does(datagram: bytes) -> None:
    verdict, data = binding.read_data(datagram)

    expected, instance_id, inner = oracle.read_data(datagram)
    assert verdict is expected
    if inner is not None:
        assert (data.instance_id, binding.as_oracle(data.inner)) == (instance_id, inner)


@given(st.integers(0, 0xFFFFFF), whole_packets())
def test_what_is_encapsulated_reads_back(instance_id: int, packet: bytes) -> None:
    header = binding.ffi.new("uint8_t[8]")
    binding.lib.lm_lisp_header_write(header, instance_id)

    assert bytes(binding.ffi.buffer(header)) == oracle.encapsulate(packet, instance_id)[:8]
    if len(packet) >= 20 and instance_id != oracle.CONTROL_INSTANCE_ID:
        assert oracle.read_data(oracle.encapsulate(packet, instance_id))[:2] == (oracle.DataVerdict.OK, instance_id)


@settings(max_examples=500)
@given(whole_packets(), OCTETS, OCTETS, st.booleans())
def test_c_strips_the_outer_header_as_the_reference_does(packet: bytes, ttl: int, tos: int, copy_dscp: bool) -> None:
    verdict, stripped = binding.strip(packet, ttl, tos, copy_dscp)

    expected = oracle.strip(packet, ttl, tos, copy_dscp)
    if isinstance(expected, str):
        assert {2: "ecn", 3: "ttl"}[verdict] == expected
    else:
        assert stripped == expected


NOT_ECT, ECT1, ECT0, CE = range(4)
DELIVER, NOTICE, DROP = range(3)
RFC_6040 = {  # (inner, outer): (what is delivered, how); the table of RFC 6040, section 4.2
    (NOT_ECT, NOT_ECT): (NOT_ECT, DELIVER),
    (NOT_ECT, ECT0): (NOT_ECT, NOTICE),
    (NOT_ECT, ECT1): (NOT_ECT, NOTICE),
    (NOT_ECT, CE): (NOT_ECT, DROP),
    (ECT0, NOT_ECT): (ECT0, DELIVER),
    (ECT0, ECT0): (ECT0, DELIVER),
    (ECT0, ECT1): (ECT1, DELIVER),
    (ECT0, CE): (CE, DELIVER),
    (ECT1, NOT_ECT): (ECT1, DELIVER),
    (ECT1, ECT0): (ECT1, NOTICE),
    (ECT1, ECT1): (ECT1, DELIVER),
    (ECT1, CE): (CE, DELIVER),
    (CE, NOT_ECT): (CE, DELIVER),
    (CE, ECT0): (CE, DELIVER),
    (CE, ECT1): (CE, NOTICE),
    (CE, CE): (CE, DELIVER),
}


@pytest.mark.parametrize(("inner", "outer"), RFC_6040)
def test_congestion_marks_follow_rfc_6040(inner: int, outer: int) -> None:
    header = bytearray(DAT1)
    header[1], header[10:12] = inner, b"\0\0"
    header[10:12] = oracle.checksum(bytes(header[:20])).to_bytes(2, "big")

    verdict, stripped = binding.strip(bytes(header), 64, outer, False)

    ecn, how = RFC_6040[inner, outer]
    assert verdict == how
    if how != DROP:
        assert stripped[1] == ecn


@settings(max_examples=500)
@given(whole_packets(), KEYS)
def test_c_hashes_flows_as_the_reference_does(packet: bytes, key: tuple[int, int]) -> None:
    inner = oracle.parse(packet)

    assert inner is not None
    assert binding.lib.lm_packet_flow_hash(binding.key(key), binding.parse(packet)) == oracle.flow_hash(key, inner)


@given(st.lists(st.integers(0, (1 << 64) - 1), max_size=6), KEYS)
def test_c_and_reference_hash_words_alike(words: list[int], key: tuple[int, int]) -> None:
    assert binding.keyed_hash(key, words) == oracle.keyed_hash(key, words)


@pytest.mark.skipif(sys.hash_info.algorithm != "siphash13", reason="only CPython built with SipHash-1-3 can tell")
def test_the_hash_is_siphash_1_3() -> None:
    program = "print(hash(bytes(range(40))) % 2**64)"
    told = subprocess.run(
        [sys.executable, "-c", program], env={**os.environ, "PYTHONHASHSEED": "0"}, capture_output=True, check=True
    )
    words = [int.from_bytes(bytes(range(at, at + 8)), "little") for at in range(0, 40, 8)]

    assert binding.keyed_hash((0, 0), words) == int(told.stdout)


@settings(max_examples=500)
@given(whole_packets(), st.sampled_from(oracle.IcmpKind), st.integers(68, 70000))
def test_c_writes_icmp_as_the_reference_does(packet: bytes, kind: oracle.IcmpKind, mtu: int) -> None:
    inner = oracle.parse(packet)
    assert inner is not None
    source = IPv4Address("10.9.9.9") if inner.version == 4 else IPv6Address("2001:db8:9::9")

    assert binding.icmp_error(kind, mtu, source, packet) == oracle.icmp_error(kind, mtu, source, packet)


@settings(max_examples=500)
@given(whole_packets().filter(lambda packet: packet[0] >> 4 == 4), st.integers(68, 600))
def test_fragments_fit_and_join_to_the_whole(packet: bytes, limit: int) -> None:
    inner = oracle.parse(packet)
    assert inner is not None
    made = binding.fragments(packet, limit)
    payload, first = b"", int.from_bytes(packet[6:8], "big")
    if (first & 0x1FFF) * 8 + inner.length - inner.header >= 0x2000 * 8:
        assert made == []  # such a packet ends beyond what any IPv4 packet can hold
        return

    for number, fragment in enumerate(made):
        read = oracle.parse(fragment)
        assert read is not None
        field = int.from_bytes(fragment[6:8], "big")
        assert read.length == len(fragment) <= limit
        assert (read.source, read.destination, read.tos, read.ttl) == (
            inner.source,
            inner.destination,
            inner.tos,
            inner.ttl,
        )
        assert field & 0x1FFF == (first & 0x1FFF) + len(payload) // 8
        assert bool(field & 0x2000) == (number < len(made) - 1 or bool(first & 0x2000))
        payload += fragment[read.header :]
    assert payload == packet[inner.header : inner.length]


@given(st.integers(0, 0xFFFFFF), st.integers(0, 0xFFFFFFFF))
def test_locator_status_bits_stand_beside_an_instance_id_and_fill_the_word_without_one(iid: int, bits: int) -> None:
    header = binding.ffi.new("uint8_t[8]")
    binding.lib.lm_lisp_header_write(header, iid)
    binding.lib.lm_lisp_header_put_status(header, bits)

    wanted = DataHeader(locator_status_bits=bits & 0xFF if iid else bits, instance_id=iid or None)
    assert bytes(binding.ffi.buffer(header)) == wanted.encode()


@given(st.integers(0, 0xFFFFFF), st.integers(0, 0xFFFFFF), st.booleans())
def test_a_nonce_stands_in_the_first_word_and_leaves_the_second_alone(iid: int, nonce: int, wants_echo: bool) -> None:
    header = binding.ffi.new("uint8_t[8]")
    binding.lib.lm_lisp_header_write(header, iid)
    binding.lib.lm_lisp_header_put_nonce(header, nonce, wants_echo)

    wanted = DataHeader(nonce=nonce, wants_echo=wants_echo, instance_id=iid or None)
    assert bytes(binding.ffi.buffer(header)) == wanted.encode()


@given(st.integers(0, 0xFFFFFF), st.integers(0, 0xFFF), st.integers(0, 0xFFF))
def test_map_versions_stand_in_the_first_word_and_leave_the_second_alone(iid: int, source: int, to: int) -> None:
    header = binding.ffi.new("uint8_t[8]")
    binding.lib.lm_lisp_header_write(header, iid)
    binding.lib.lm_lisp_header_put_versions(header, source, to)

    wanted = DataHeader(map_versions=(source, to), instance_id=iid or None)
    assert bytes(binding.ffi.buffer(header)) == wanted.encode()

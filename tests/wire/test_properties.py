"""Holds for any value and any octets: what is written is read again, and what is read is a value or our error."""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lispmob.errors import AuthenticationFailed, MalformedMessage
from lispmob.wire.auth import Algorithm, Key, verify
from lispmob.wire.checksum import internet_checksum
from lispmob.wire.data_header import DataHeader, split_data_packet
from lispmob.wire.ip_udp import parse_ip_udp
from lispmob.wire.lcaf import put_address, take_address
from lispmob.wire.lcaf_types import WireAddress
from lispmob.wire.lisp_sec import EcmSecurity, MapReplySecurity
from lispmob.wire.message import ControlMessage, decode_control
from lispmob.wire.reader import Reader
from tests.wire import strategies
from tests.wire.vectors import ADDRESSES, CONTROL, DATA, LISP_SEC, MACS, MALFORMED

COUNTERS = {
    "rx_short",
    "rx_type",
    "rx_truncated",
    "rx_trailing",
    "rx_afi",
    "rx_lcaf",
    "rx_mask",
    "rx_limit",
    "rx_policy",
    "rx_ecm",
    "data_short",
    "data_key",
    "data_inner",
}
# Hypothesis takes long to build large values, and complains; the code under test is not slow.
PATIENT = settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large], deadline=None)


@PATIENT
@given(strategies.messages)
def test_a_message_is_read_as_it_was_written(message: ControlMessage) -> None:
    assert decode_control(message.encode()) == message


@PATIENT
@given(strategies.addresses | strategies.vendor_addresses)
def test_an_address_is_read_as_it_was_written(address: WireAddress) -> None:
    reader = Reader(put_address(address))

    assert take_address(reader) == address
    assert reader.remaining == 0


@given(strategies.data_headers)
def test_a_data_header_is_read_as_it_was_written(header: DataHeader) -> None:
    assert DataHeader.decode(header.encode()) == header


@PATIENT
@given(strategies.ecm_securities)
def test_lisp_sec_data_of_an_ecm_is_read_as_it_was_written(security: EcmSecurity) -> None:
    assert EcmSecurity.take(Reader(security.encode())) == security


@PATIENT
@given(strategies.map_reply_securities)
def test_lisp_sec_data_of_a_map_reply_is_read_as_it_was_written(security: MapReplySecurity) -> None:
    assert MapReplySecurity.decode(security.encode()) == security


def read_all_ways(octets: bytes) -> None:
    """Every decoder gives a value, or MalformedMessage with an existing counter; verify gives AuthenticationFailed."""
    decoders: tuple[Callable[[bytes], object], ...] = (
        decode_control,
        split_data_packet,
        DataHeader.decode,
        parse_ip_udp,
        MapReplySecurity.decode,
        lambda raw: take_address(Reader(raw)),
        lambda raw: EcmSecurity.take(Reader(raw)),
    )
    for decoder in decoders:
        try:
            decoder(octets)
        except MalformedMessage as malformed:
            assert malformed.counter in COUNTERS  # noqa: PT017
    for algorithm in Algorithm:
        try:
            verify(octets, Key(b"secret", 0, algorithm))
        except AuthenticationFailed:
            continue


@given(st.binary(max_size=200))
def test_random_octets_give_a_message_or_our_error(octets: bytes) -> None:
    read_all_ways(octets)


@given(st.integers(0, 15), st.binary(max_size=120))
def test_random_octets_of_any_type_give_a_message_or_our_error(kind: int, octets: bytes) -> None:
    read_all_ways(bytes((kind << 4,)) + octets)


SEEDS = [
    *CONTROL.values(),
    *ADDRESSES.values(),
    *DATA.values(),
    *LISP_SEC.values(),
    *(bad.octets for bad in MALFORMED.values() if bad.octets),
]


@st.composite
def mutations(draw: st.DrawFn) -> bytes:
    """A vector with some octets changed, removed, doubled, or inserted."""
    octets = bytearray(draw(st.sampled_from(SEEDS)))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(0, len(octets) - 1)))
        match draw(st.sampled_from(["set", "cut", "double", "insert"])):
            case "set":
                octets[at : at + 1] = bytes(
                    (draw(st.sampled_from([0, 1, 2, 17, 0x40, 0x7F, 0xFF]) | st.integers(0, 255)),)
                )
            case "cut":
                del octets[at : at + draw(st.integers(1, 20))]
            case "double":
                octets[at:at] = octets[at : at + draw(st.integers(1, 20))]
            case "insert":
                octets[at:at] = draw(st.binary(min_size=1, max_size=8))
    return bytes(octets)


@settings(max_examples=400)
@given(mutations())
def test_mutated_vectors_give_a_message_or_our_error(octets: bytes) -> None:
    read_all_ways(octets)


@settings(max_examples=400)
@given(mutations())
def test_what_is_read_can_be_written_and_is_then_read_the_same(octets: bytes) -> None:
    try:
        message = decode_control(octets)
    except MalformedMessage:
        return

    assert decode_control(message.encode()) == message


@given(st.sampled_from(sorted(MACS)), st.binary(min_size=1, max_size=64), st.integers(0, 200))
def test_no_overwritten_octets_pass_the_authentication(name: str, patch: bytes, at: int) -> None:
    raw = CONTROL[name]
    if raw[0] >> 4 == 8:
        return
    patched = raw[:at] + patch + raw[at + len(patch) :]

    try:
        verify(patched, MACS[name].key)
    except AuthenticationFailed:
        assert patched != raw
    else:
        assert patched == raw


@given(st.binary(max_size=100))
def test_the_checksum_is_the_ones_complement_sum_of_16_bit_words(octets: bytes) -> None:
    total = 0
    for at in range(0, len(octets), 2):
        total += int.from_bytes(octets[at : at + 2].ljust(2, b"\0"))
        total = (total & 0xFFFF) + (total >> 16)

    assert internet_checksum(octets) == total ^ 0xFFFF

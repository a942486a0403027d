"""The test vectors, both ways: decoding gives what is listed, and encoding gives the same octets."""

from __future__ import annotations

import pytest

from lispmob.errors import AuthenticationFailed, MalformedMessage
from lispmob.wire.auth import Algorithm, Key, verify
from lispmob.wire.data_header import CONTROL_INSTANCE_ID, DataHeader, split_data_packet
from lispmob.wire.ecm import EncapsulatedControl
from lispmob.wire.ip_udp import parse_ip_udp
from lispmob.wire.lcaf import put_address, take_address
from lispmob.wire.lisp_sec import EcmSecurity, MapReplySecurity
from lispmob.wire.map_notify import MapNotify
from lispmob.wire.map_reply import MapReply
from lispmob.wire.message import decode_control
from lispmob.wire.reader import Reader
from tests.wire.listing import list_address, list_control, list_data
from tests.wire.vectors import ADDRESSES, CONTROL, DATA, LISP_SEC, MALFORMED, PACKETS, SECRET, VECTORS


def read(kind: str, octets: bytes) -> None:
    """Read octets as a receiver of their kind does."""
    if kind == "control":
        decode_control(octets)
        return
    header, inner = split_data_packet(octets)
    if header.instance_id == CONTROL_INSTANCE_ID:
        parse_ip_udp(inner, "data_inner")


@pytest.mark.parametrize("name", VECTORS)
def test_a_vector_is_understood_as_listed(name: str) -> None:
    vector = VECTORS[name]

    if vector.kind == "control":
        lines = list(list_control(decode_control(vector.octets)))
    elif vector.kind == "data":
        lines = list(list_data(vector.octets))
    else:
        lines = list(list_address("address", take_address(Reader(vector.octets))))

    assert [meaning for meaning, _ in lines] == [meaning for _, _, meaning in vector.listing]
    for (_, octets), (_, listed, _) in zip(lines, vector.listing, strict=True):
        assert octets is None or octets.hex() == listed


@pytest.mark.parametrize("name", [*CONTROL, *LISP_SEC])
def test_a_control_message_encodes_to_the_octets_it_came_from(name: str) -> None:
    raw = (CONTROL | LISP_SEC)[name]

    assert decode_control(raw).encode() == raw


@pytest.mark.parametrize("name", ADDRESSES)
def test_an_address_field_encodes_to_the_octets_it_came_from(name: str) -> None:
    raw = ADDRESSES[name]
    reader = Reader(raw)

    assert put_address(take_address(reader)) == raw
    assert reader.remaining == 0


@pytest.mark.parametrize("name", DATA)
def test_a_data_header_encodes_to_the_octets_it_came_from(name: str) -> None:
    header, inner = split_data_packet(DATA[name])

    assert header.encode() + inner == DATA[name]


@pytest.mark.parametrize("name", PACKETS)
def test_a_whole_ip_packet_encodes_to_the_octets_it_came_from(name: str) -> None:
    packet = parse_ip_udp(PACKETS[name])

    assert packet.payload == VECTORS[name].octets
    assert packet.encode() == PACKETS[name]


@pytest.mark.parametrize("name", [*CONTROL, *LISP_SEC])
def test_a_control_message_cut_anywhere_is_refused(name: str) -> None:
    raw = (CONTROL | LISP_SEC)[name]

    for length in range(len(raw)):
        with pytest.raises(MalformedMessage):
            decode_control(raw[:length])


@pytest.mark.parametrize("name", ADDRESSES)
def test_an_address_field_cut_anywhere_is_refused(name: str) -> None:
    for length in range(len(ADDRESSES[name])):
        with pytest.raises(MalformedMessage):
            take_address(Reader(ADDRESSES[name][:length]))


@pytest.mark.parametrize("name", DATA)
def test_a_data_packet_cut_anywhere_is_refused(name: str) -> None:
    for length in range(len(DATA[name])):
        with pytest.raises(MalformedMessage):
            split_data_packet(DATA[name][:length])


@pytest.mark.parametrize("name", [name for name, bad in MALFORMED.items() if bad.counter])
def test_what_cannot_be_read_is_counted_under_its_reason(name: str) -> None:
    bad = MALFORMED[name]

    with pytest.raises(MalformedMessage) as caught:
        read(bad.kind, bad.octets)

    assert caught.value.counter == bad.counter


@pytest.mark.parametrize("name", [name for name, bad in MALFORMED.items() if bad.is_refused_by_verify])
def test_what_reads_well_but_is_not_authentic_fails_verification(name: str) -> None:
    raw = MALFORMED[name].octets
    assert isinstance(decode_control(raw), MapNotify)

    with pytest.raises(AuthenticationFailed):
        verify(raw, Key(SECRET, 1, Algorithm.HMAC_SHA_1_96))


@pytest.mark.parametrize(
    "name", [n for n, bad in MALFORMED.items() if not bad.counter and not bad.is_refused_by_verify]
)
def test_what_only_a_state_machine_can_refuse_is_read_exactly(name: str) -> None:
    raw = MALFORMED[name].octets

    assert decode_control(raw).encode() == raw


def test_a_locator_of_an_unknown_lcaf_type_offers_no_address() -> None:
    reply = decode_control(MALFORMED["BAD10"].octets)

    assert isinstance(reply, MapReply)
    assert [locator.ip for locator in reply.records[0].locators] == [None]


def test_lisp_sec_data_of_an_ecm_is_taken_apart_and_put_together_again() -> None:
    for name in ("ECM from an ITR", "ECM from a Map-Server to an ETR"):
        ecm = EncapsulatedControl.decode(LISP_SEC[name])

        assert ecm.authentication is not None
        security = EcmSecurity.take(Reader(ecm.authentication))

        assert security.encode() == ecm.authentication
        assert (security.requested_hmac_id, security.key_id, security.wrapping_id) == (2, 1, 2)
        assert len(security.one_time_key) == 24
        assert ecm.rtr_authentication is None


def test_lisp_sec_data_of_a_map_reply_is_taken_apart_and_put_together_again() -> None:
    reply = MapReply.decode(LISP_SEC["Map-Reply"])

    assert reply.security is not None
    security = MapReplySecurity.decode(reply.security)

    assert security.encode() == reply.security
    assert [(str(entry.eid), entry.mask_len) for entry in security.eid.eids] == [("10.2.0.0", 16)]
    assert security.eid.hmac.hex() == "4cfe0243ddc6dc8dfbf549b630d7aff7"
    assert security.packet_hmac.hex() == "0b966e19e68e292c8baa5626b639a054"


@pytest.mark.parametrize(
    ("octets", "header"),
    [
        ("0000000000000000", DataHeader()),
        ("0800000000123400", DataHeader(instance_id=0x1234)),
        ("c0a1b2c300000003", DataHeader(nonce=0xA1B2C3, locator_status_bits=3)),
        ("1004512300000000", DataHeader(map_versions=(0x045, 0x123))),
        ("01000000000000ff", DataHeader(key_number=1)),
        ("9000000100000000", DataHeader(nonce=1)),
        ("2000000000000000", DataHeader()),
    ],
)
def test_a_data_header_field_counts_only_with_its_flag(octets: str, header: DataHeader) -> None:
    assert DataHeader.decode(bytes.fromhex(octets)) == header

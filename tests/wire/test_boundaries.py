"""What is just long enough, just short enough, or just not too many."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address

import pytest

from lispmob.errors import AuthenticationFailed, MalformedMessage
from lispmob.wire.auth import Algorithm, Key, verify
from lispmob.wire.data_header import DataHeader, split_data_packet
from lispmob.wire.ecm import EncapsulatedControl
from lispmob.wire.info import InfoReply
from lispmob.wire.ip_udp import build_ip_udp, parse_ip_udp
from lispmob.wire.lcaf import put_address, take_address
from lispmob.wire.lcaf_types import JsonText, NatTraversal, SecurityKey
from lispmob.wire.lisp_sec import AuthorizedEid, EidAuthentication
from lispmob.wire.map_referral import MapReferral, Referral, ReferralRecord
from lispmob.wire.message import decode_control
from lispmob.wire.reader import Reader
from lispmob.wire.record import Locator

RLOC, OTHER = IPv4Address("203.0.113.5"), IPv4Address("203.0.113.6")
RLOC_6, OTHER_6 = IPv6Address("2001:db8::5"), IPv6Address("2001:db8::6")


def refusal(decode: Callable[[bytes], object], octets: bytes) -> str | None:
    """The counter of a refusal; None when it is read."""
    try:
        decode(octets)
    except MalformedMessage as malformed:
        return malformed.counter
    return None


def address_of(octets: bytes) -> object:
    return take_address(Reader(octets))


def inner(octets: bytes) -> object:
    """An inner packet, behind a data header."""
    return split_data_packet(DataHeader(instance_id=0).encode() + octets)


@pytest.mark.parametrize(
    ("decode", "whole", "shortest", "counter"),
    [
        (parse_ip_udp, build_ip_udp(RLOC, 1, OTHER, 2, b""), 28, "rx_ecm"),
        (parse_ip_udp, build_ip_udp(RLOC_6, 1, OTHER_6, 2, b""), 48, "rx_ecm"),
        (decode_control, bytes(4), 4, "rx_short"),
        (inner, build_ip_udp(RLOC, 1, OTHER, 2, b""), 28, "data_inner"),
        (inner, build_ip_udp(RLOC_6, 1, OTHER_6, 2, b""), 48, "data_inner"),
    ],
)
def test_octets_are_read_when_they_are_just_enough(
    decode: Callable[[bytes], object], whole: bytes, shortest: int, counter: str
) -> None:
    assert len(whole) == shortest
    assert refusal(decode, whole) in (None, "rx_type")  # four octets of type 0 are long enough, and no message
    assert refusal(decode, whole[:-1]) == counter


@pytest.mark.parametrize(("source", "destination"), [(RLOC, OTHER), (RLOC_6, OTHER_6)])
def test_an_inner_packet_of_nothing_but_its_ip_header_is_no_datagram_but_is_a_packet(
    source: IPv4Address | IPv6Address, destination: IPv4Address | IPv6Address
) -> None:
    header = 20 if source.version == 4 else 40
    bare = bytearray(build_ip_udp(source, 1, destination, 2, b"")[:header])
    if source.version == 4:
        bare[2:4], bare[10:12] = (20).to_bytes(2), bytes(2)
        total = sum(int.from_bytes(bare[at : at + 2]) for at in range(0, 20, 2))
        bare[10:12] = (0xFFFF - (total % 0xFFFF)).to_bytes(2)
    else:
        bare[4:6] = bytes(2)

    with pytest.raises(MalformedMessage, match="UDP header cut"):
        parse_ip_udp(bytes(bare))
    assert refusal(inner, bytes(bare)) is None


@pytest.mark.parametrize(
    ("source", "destination", "octets", "counter"),
    [
        (RLOC, OTHER, 3, "rx_short"),
        (RLOC, OTHER, 4, None),
        (RLOC_6, OTHER_6, 3, "rx_ecm"),
        (RLOC_6, OTHER_6, 4, None),
    ],
)
def test_a_message_in_an_ecm_has_four_octets_at_least(
    source: IPv4Address | IPv6Address, destination: IPv4Address | IPv6Address, octets: int, counter: str | None
) -> None:
    ecm = EncapsulatedControl(source, 4342, destination, 4342, b"\x10\x00\x00\x01"[:octets])

    assert refusal(EncapsulatedControl.decode, ecm.encode()) == counter


@pytest.mark.parametrize(("octets", "why"), [(15, "hold no authentication"), (16, "algorithm 0, not the configured")])
def test_sixteen_octets_say_which_authentication_a_message_has(octets: int, why: str) -> None:
    with pytest.raises(AuthenticationFailed, match=why):
        verify(bytes(octets), Key(b"secret", algorithm=Algorithm.HMAC_SHA_256_128))


@pytest.mark.parametrize(
    ("most", "more", "counter"),
    [
        (JsonText(b"j" * 4096), JsonText(b"j" * 4097), "rx_limit"),
        (SecurityKey(5, (b"k",) * 3, RLOC), SecurityKey(5, (b"k",) * 4, RLOC), "rx_limit"),
        (SecurityKey(5, (b"k" * 1024,), RLOC), SecurityKey(5, (b"k" * 1025,), RLOC), "rx_limit"),
    ],
)
def test_texts_and_keys_are_read_up_to_their_limits(most: object, more: object, counter: str) -> None:
    assert address_of(put_address(most)) == most  # type: ignore[arg-type]
    assert refusal(address_of, put_address(more)) == counter  # type: ignore[arg-type]


def authorized(count: int) -> bytes:
    eids = tuple(AuthorizedEid(IPv4Address(number), 32) for number in range(count))
    return EidAuthentication(2, 2, eids, bytes(16)).encode()


@pytest.mark.parametrize(("count", "counter"), [(32, None), (33, "rx_limit")])
def test_a_map_server_vouches_for_32_eids_at_most(count: int, counter: str | None) -> None:
    assert refusal(lambda octets: EidAuthentication.take(Reader(octets)), authorized(count)) == counter


@pytest.mark.parametrize(("locators", "counter"), [((32,) * 8, None), ((32,) * 8 + (1,), "rx_limit")])
def test_a_referral_names_256_servers_at_most(locators: tuple[int, ...], counter: str | None) -> None:
    records = tuple(
        ReferralRecord(IPv4Address(number << 8), 24, Referral.MS, (Locator(RLOC),) * count)
        for number, count in enumerate(locators)
    )

    assert refusal(MapReferral.decode, MapReferral(1, records).encode()) == counter


@pytest.mark.parametrize("rtrs", [0, 1, 2, 16])
def test_a_wrong_length_of_lispers_net_is_corrected_whatever_follows(rtrs: int) -> None:
    nat = NatTraversal(4342, 20001, RLOC, RLOC, None, (OTHER,) * rtrs)
    right = InfoReply(7, RLOC, 32, nat, ttl_min=5).encode()
    octets = put_address(nat)
    at = len(right) - len(octets) + 6
    wrong = right[:at] + (16).to_bytes(2) + right[at + 2 :]

    assert InfoReply.decode(wrong) == InfoReply.decode(right)

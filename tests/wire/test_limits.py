"""The bounds that keep hostile octets cheap, and deviations that are tolerated on purpose."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address

import pytest
from msgspec.structs import replace

from lispmob.errors import MalformedMessage
from lispmob.wire.address import DistinguishedName, EidPrefix, MacAddress
from lispmob.wire.auth import Key, sign, verify
from lispmob.wire.info import InfoReply
from lispmob.wire.lcaf import put_address, take_address
from lispmob.wire.lcaf_types import (
    AfiList,
    AsNumber,
    Encapsulation,
    EncapsulationFormat,
    ExplicitLocatorPath,
    InstanceId,
    JsonText,
    NatTraversal,
    NullBody,
    PathHop,
    SecurityKey,
    UnknownLcaf,
    VendorSpecific,
    WireAddress,
)
from lispmob.wire.map_notify import MapNotify
from lispmob.wire.map_register import MapRegister
from lispmob.wire.map_reply import MapReply
from lispmob.wire.map_request import EidRecord, MapRequest
from lispmob.wire.reader import Reader
from lispmob.wire.record import Action, Locator, MappingRecord

RLOC = IPv4Address("203.0.113.5")
RLOC_6 = IPv6Address("2001:db8::5")
EID = EidPrefix.parse("10.2.0.0/16")
RECORD = MappingRecord.of(EID, [Locator(RLOC)])


def nested(levels: int) -> WireAddress:
    address: WireAddress = RLOC
    for _ in range(levels):
        address = AfiList((address,))
    return address


def read(address: WireAddress) -> WireAddress:
    return take_address(Reader(put_address(address)))


def refusal_of(address: WireAddress) -> str:
    with pytest.raises(MalformedMessage) as caught:
        read(address)
    return caught.value.counter


def refusal_of_reply(*records: MappingRecord) -> str:
    with pytest.raises(MalformedMessage) as caught:
        MapReply.decode(MapReply(1, records).encode())
    return caught.value.counter


def distinct_records(count: int, locators: int = 0) -> list[MappingRecord]:
    return [MappingRecord(IPv4Address(index), 32, (Locator(RLOC),) * locators) for index in range(count)]


def test_lcafs_may_nest_four_deep() -> None:
    assert read(nested(4)) == nested(4)
    assert refusal_of(nested(5)) == "rx_lcaf"


def test_a_list_may_have_sixteen_elements() -> None:
    assert read(AfiList((RLOC,) * 16)) == AfiList((RLOC,) * 16)
    assert refusal_of(AfiList((RLOC,) * 17)) == "rx_lcaf"


def test_an_address_may_have_sixty_four_elements() -> None:
    four_lists = AfiList((AfiList((RLOC,) * 15),) * 4)

    assert read(four_lists) == four_lists
    assert refusal_of(AfiList((AfiList((RLOC,) * 16),) * 4)) == "rx_lcaf"


def test_more_rtrs_than_sixteen_are_left_alone() -> None:
    nat = NatTraversal(4342, 20001, RLOC, RLOC, None, (RLOC,) * 20)

    assert read(nat) == replace(nat, rtr_rlocs=(RLOC,) * 16)


def test_an_instance_id_holds_no_instance_id() -> None:
    assert refusal_of(InstanceId(1, InstanceId(2, RLOC))) == "rx_lcaf"
    assert refusal_of(InstanceId(1, AfiList((InstanceId(2, RLOC),)))) == "rx_lcaf"
    assert read(AfiList((InstanceId(1, RLOC), InstanceId(2, RLOC)))) is not None


@pytest.mark.parametrize(
    ("address", "counter"),
    [
        (DistinguishedName(b"n" * 256), "rx_limit"),
        (JsonText(b"j" * 4097), "rx_limit"),
        (SecurityKey(5, (b"k",) * 4, RLOC), "rx_limit"),
        (SecurityKey(5, (b"k" * 1025,), RLOC), "rx_limit"),
    ],
)
def test_long_names_texts_and_keys_are_refused(address: WireAddress, counter: str) -> None:
    assert refusal_of(address) == counter


def test_octets_that_an_lcaf_body_does_not_need_are_skipped() -> None:
    raw = bytes.fromhex("400300000300000c0001000e0001cb007105ffff")

    assert take_address(Reader(raw)) == AsNumber(65550, RLOC)


def test_thirty_two_records_are_read_and_more_refused() -> None:
    assert len(MapReply.decode(MapReply(1, tuple(distinct_records(32))).encode()).records) == 32
    assert refusal_of_reply(*distinct_records(33)) == "rx_limit"


def test_thirty_two_locators_are_read_and_more_refused() -> None:
    assert len(MapReply.decode(MapReply(1, tuple(distinct_records(1, 32))).encode()).records[0].locators) == 32
    assert refusal_of_reply(*distinct_records(1, 33)) == "rx_limit"


def test_a_message_may_have_256_locators() -> None:
    MapReply.decode(MapReply(1, tuple(distinct_records(8, 32))).encode())

    assert refusal_of_reply(*distinct_records(9, 32)) == "rx_limit"


def test_the_same_eid_prefix_twice_is_refused_host_bits_or_not() -> None:
    assert refusal_of_reply(RECORD, replace(RECORD, eid=IPv4Address("10.2.3.4"))) == "rx_policy"


@pytest.mark.parametrize(
    ("eid", "mask_len"),
    [(RLOC, 33), (RLOC_6, 129), (MacAddress(bytes(6)), 49), (InstanceId(7, RLOC), 33)],
)
def test_a_mask_longer_than_the_address_is_refused(eid: WireAddress, mask_len: int) -> None:
    assert refusal_of_reply(MappingRecord(eid, mask_len)) == "rx_mask"


@pytest.mark.parametrize("eid", [None, DistinguishedName(b"host"), AfiList((RLOC,))])
def test_a_mask_beside_what_has_no_bits_means_nothing(eid: WireAddress) -> None:
    record = MapReply.decode(MapReply(1, (MappingRecord(eid, 200),)).encode()).records[0]

    assert record.eid_prefix is None


def test_a_vendors_lcaf_has_the_message_dropped_wherever_it_is() -> None:
    vendor = AfiList((RLOC, VendorSpecific(0x00000C, b"")))

    assert refusal_of_reply(MappingRecord(vendor, 0)) == "rx_lcaf"
    assert refusal_of_reply(MappingRecord.of(EID, [Locator(vendor)])) == "rx_lcaf"


def test_an_eid_in_an_instance_id_is_a_prefix_of_it() -> None:
    prefix = EidPrefix.parse("[4660]2001:db8:2::/48")

    assert MappingRecord.of(prefix).eid == InstanceId(4660, prefix.address)
    assert MappingRecord.of(prefix).eid_prefix == prefix
    assert EidRecord.of(prefix).eid_prefix == prefix


def test_host_bits_are_kept_on_the_wire_and_cleared_in_the_prefix() -> None:
    record = MappingRecord(IPv4Address("10.2.3.4"), 16)

    assert MapReply.decode(MapReply(1, (record,)).encode()).records == (record,)
    assert record.eid_prefix == EID


def test_actions_that_no_rfc_names_are_kept_as_numbers() -> None:
    actions = [MapReply.decode(MapReply(1, (replace(RECORD, action=a),)).encode()).records[0].action for a in range(8)]

    assert actions == [*Action, 6, 7]


@pytest.mark.parametrize(
    ("address", "ips"),
    [
        (RLOC, (RLOC,)),
        (None, ()),
        (DistinguishedName(b"RTR"), ()),
        (UnknownLcaf(200, b""), ()),
        (NullBody(), ()),
        (AfiList((DistinguishedName(b"host@tp-4000"), RLOC, RLOC_6)), (RLOC, RLOC_6)),
        (ExplicitLocatorPath((PathHop(RLOC), PathHop(RLOC_6))), (RLOC,)),
        (ExplicitLocatorPath((PathHop(RLOC, is_lookup=True),)), ()),
        (ExplicitLocatorPath(()), ()),
        (SecurityKey(5, (b"key",), RLOC), (RLOC,)),
        (EncapsulationFormat(Encapsulation.LISP | Encapsulation.GUE, RLOC), (RLOC,)),
        (EncapsulationFormat(Encapsulation.VXLAN, RLOC), ()),
        (InstanceId(5, RLOC), (RLOC,)),
    ],
)
def test_a_locator_offers_the_addresses_that_can_be_encapsulated_to(
    address: WireAddress, ips: tuple[IPv4Address | IPv6Address, ...]
) -> None:
    locator = Locator(address)

    assert locator.ips == ips
    assert locator.ip == (ips[0] if ips else None)


@pytest.mark.parametrize(
    "request_",
    [
        MapRequest(1, None, (None,), (EidRecord.of(EID),)),
        MapRequest(1, RLOC, (RLOC,), (EidRecord.of(EID),), is_smr=True, is_smr_invoked=True),
        MapRequest(1, RLOC, (RLOC,), (EidRecord.of(EID), EidRecord(RLOC, 32)), is_smr=True),
        MapRequest(1, None, (RLOC,), (EidRecord.of(EID), EidRecord(RLOC, 32)), is_probe=True),
        MapRequest(1, None, (RLOC,), ()),
    ],
)
def test_a_map_request_that_asks_nothing_answerable_is_refused(request_: MapRequest) -> None:
    with pytest.raises(MalformedMessage) as caught:
        MapRequest.decode(request_.encode())

    assert caught.value.counter == "rx_policy"


def test_unsubscribing_names_no_itr_rloc() -> None:
    unsubscribe = MapRequest(
        1, None, (None,), (EidRecord.of(EID, wants_notify=True),), xtr_id=bytes(16), site_id=bytes(8)
    )

    assert MapRequest.decode(unsubscribe.encode()) == unsubscribe


@pytest.mark.parametrize("count", [0, 33])
def test_a_map_request_cannot_be_written_with_too_few_or_many_itr_rlocs(count: int) -> None:
    with pytest.raises(ValueError, match="ITR-RLOCs"):
        MapRequest(1, None, (RLOC,) * count, (EidRecord.of(EID),)).encode()


def test_an_xtr_id_has_sixteen_octets() -> None:
    with pytest.raises(ValueError, match="xTR-ID"):
        MapRegister(1, (RECORD,), xtr_id=b"short").encode()


def test_an_xtr_id_alone_is_sent_with_an_empty_site_id() -> None:
    register = MapRegister(1, (RECORD,), xtr_id=bytes(range(16)))

    assert MapRegister.decode(register.encode()) == replace(register, site_id=bytes(8))


def test_a_trailer_that_no_flag_announces_is_tolerated_in_a_map_notify() -> None:
    notify = MapNotify(1, (RECORD,), xtr_id=bytes(range(16)), site_id=bytes(8), is_site_flagged=False)
    raw = notify.encode()

    assert raw[0] == 0x40
    assert MapNotify.decode(raw) == notify
    assert MapNotify.decode(raw[:-24]) == MapNotify(1, (RECORD,))
    with pytest.raises(MalformedMessage) as caught:
        MapNotify.decode(raw[:-1])
    assert caught.value.counter == "rx_trailing"


def test_the_digest_of_a_map_notify_covers_its_trailer() -> None:
    raw = sign(MapNotify(1, (RECORD,), xtr_id=bytes(16)), Key(b"secret"))

    verify(raw, Key(b"secret"))
    assert MapNotify.decode(raw).site_id == bytes(8)


# As release 0.593 sent it: LCAF Length 16, a host name in place of the private locator, one RTR.
LISPERS_NET_REPLY = bytes.fromhex(
    "78000000650d50e0bfe2bb5800000000000000000000000040030000070000100000f7ae0001cb00710700000011766d000001c633640b"
)


def test_the_rtrs_of_a_lispers_net_reply_are_found_behind_its_length_of_sixteen() -> None:
    reply = InfoReply.decode(LISPERS_NET_REPLY)

    assert (reply.nat.global_etr_rloc, reply.nat.etr_port) == (IPv4Address("203.0.113.7"), 63406)
    assert reply.nat.rtr_rlocs == (IPv4Address("198.51.100.11"),)


@pytest.mark.parametrize("length", [0, 15, 17, 22, 24, 0xFFFF])
def test_any_other_wrong_length_of_an_info_reply_is_refused(length: int) -> None:
    at = LISPERS_NET_REPLY.index(b"\x07\x00\x00\x10") + 2
    octets = LISPERS_NET_REPLY[:at] + length.to_bytes(2) + LISPERS_NET_REPLY[at + 2 :]

    with pytest.raises(MalformedMessage):
        InfoReply.decode(octets)


@pytest.mark.parametrize("end", range(24, len(LISPERS_NET_REPLY)))
def test_a_cut_info_reply_is_refused_or_has_fewer_rtrs(end: int) -> None:
    try:
        reply = InfoReply.decode(LISPERS_NET_REPLY[:end])
    except MalformedMessage:
        return
    assert reply.nat.rtr_rlocs == ()


@pytest.mark.parametrize("nonce", [0, 1, 0x0102030405060708, 2**64 - 1])
def test_a_nonce_that_was_read_backwards_is_the_same_when_it_is_read_backwards_again(nonce: int) -> None:
    reversed_once = MapNotify(nonce, (RECORD,)).nonce_octets_reversed

    assert reversed_once.to_bytes(8) == nonce.to_bytes(8)[::-1]
    assert MapNotify(reversed_once, (RECORD,)).nonce_octets_reversed == nonce

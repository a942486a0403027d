"""A part of a registration as octets: nothing is lost, and reading in place gives the same as unpacking."""

from __future__ import annotations

import dataclasses
from ipaddress import ip_address

from hypothesis import given
from hypothesis import strategies as st

from lispmob.hub.map_server import packed_part
from lispmob.hub.map_server.part import XtrRegistration
from lispmob.wire.record import Locator, MappingRecord
from tests.hub.exchange import eid

TIMES = st.floats(min_value=0, max_value=1e9)
IDS = st.none() | st.sampled_from([bytes(16), bytes(range(16))])


@st.composite
def parts(draw: st.DrawFn) -> XtrRegistration:
    source = draw(st.sampled_from([ip_address("203.0.113.5"), ip_address("2001:db8::5")]))
    record = MappingRecord.of(eid("[7]10.1.0.1/32"), (Locator(source),), ttl_min=10)
    xtr_id = draw(IDS)
    return XtrRegistration(
        xtr=xtr_id if xtr_id is not None and any(xtr_id) else source.packed,
        record=record,
        expires_at=draw(TIMES),
        registered_at=draw(TIMES),
        nonce=draw(st.integers(0, 2**64 - 1)),
        source=source,
        proxy_map_reply=draw(st.booleans()),
        wants_merge=draw(st.booleans()),
        xtr_id=xtr_id,
        site_id=draw(st.none() | st.just(bytes(range(8)))),
        encoded=record.encode(),
        interval_s=draw(TIMES),
        has_lisp_sec=draw(st.booleans()),
        key_index=draw(st.none() | st.integers(0, 254)),
    )


@given(parts())
def test_a_part_that_was_packed_is_whole_again(part: XtrRegistration) -> None:
    packed = packed_part.pack(part, part.interval_s)
    again = packed_part.unpack(packed)

    assert again == part
    assert again.key_index == part.key_index
    assert packed_part.unpack(packed_part.without_key(packed)) == dataclasses.replace(part, key_index=None)


@given(parts())
def test_what_is_read_in_place_is_what_unpacking_gives(part: XtrRegistration) -> None:
    packed = packed_part.pack(part, part.interval_s)

    assert (packed_part.expires_at(packed), packed_part.registered_at(packed)) == (part.expires_at, part.registered_at)
    assert packed_part.nonce_of(packed) == part.nonce
    assert packed_part.is_proxied(packed) == part.proxy_map_reply
    assert packed_part.wants_merge(packed) == part.wants_merge
    assert packed_part.has_lisp_sec(packed) == part.has_lisp_sec
    assert packed_part.xtr_of(packed) == part.xtr
    assert packed_part.record_of(packed) == part.record
    assert packed_part.record_octets(packed) == len(part.encoded)
    assert packed_part.addresses(packed) == {packed_part.number_of(part.source)}


def test_a_key_of_a_site_with_more_than_an_octet_can_count_is_not_known() -> None:
    record = MappingRecord.of(eid("10.1.0.1/32"), ttl_min=10)
    source = ip_address("203.0.113.5")
    part = XtrRegistration(source.packed, record, 1.0, 0.0, 1, source, True, False, key_index=255)

    assert packed_part.unpack(packed_part.pack(part, 0.0)).key_index is None

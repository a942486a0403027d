from __future__ import annotations

import pytest

from lispmob.protocol.acceptance import Guard, accept_records
from lispmob.wire.record import Locator, MappingRecord
from tests.control.support import EID, SERVER, WIFI, ip, prefix

GUARD = Guard((EID,), frozenset({WIFI.address}), frozenset({SERVER}))
RLOC = Locator(ip("203.0.113.1"))
ASKED = prefix("10.2.0.7/32")


def positive(text: str) -> MappingRecord:
    return MappingRecord.of(prefix(text), (RLOC,))


def negative(text: str, ttl_min: int = 1440) -> MappingRecord:
    return MappingRecord.of(prefix(text), ttl_min=ttl_min)


def test_the_covering_record_and_its_parts_are_taken_and_strangers_ignored() -> None:
    wide, part, stranger = positive("10.2.0.0/16"), positive("10.2.9.0/24"), positive("172.16.0.0/16")

    assert accept_records([wide, part, stranger], ASKED, GUARD) == (wide, part)


@pytest.mark.parametrize("text", ["10.3.0.0/16", "[1]10.2.0.0/16", "2001:db8::/32", "10.2.0.6/32"])
def test_a_reply_that_does_not_cover_the_question_is_refused(text: str) -> None:
    assert accept_records([positive(text)], ASKED, GUARD) is None


def test_a_mapping_of_everything_is_refused() -> None:
    assert accept_records([positive("0.0.0.0/0")], ASKED, GUARD) is None


def test_a_mapping_that_holds_our_own_eid_is_refused() -> None:
    assert accept_records([positive("10.0.0.0/8")], ASKED, GUARD) is None


@pytest.mark.parametrize(
    ("asked", "claimed"), [("198.51.100.9/32", "198.51.100.0/24"), ("192.0.2.7/32", "192.0.2.0/24")]
)
def test_a_mapping_that_holds_our_rloc_or_the_map_server_is_refused(asked: str, claimed: str) -> None:
    assert accept_records([positive(claimed)], prefix(asked), GUARD) is None


def test_a_negative_answer_may_be_as_wide_as_the_hole() -> None:
    hole = negative("10.2.0.0/15", ttl_min=15)

    assert accept_records([hole], ASKED, GUARD) == (hole,)


def test_asked_for_a_whole_prefix_its_parts_are_an_answer() -> None:
    parts = [positive("10.2.0.0/25"), positive("10.2.0.128/25")]

    assert accept_records(parts, prefix("10.2.0.0/24"), GUARD) == tuple(parts)


def test_only_our_own_places_and_eids_are_ours() -> None:
    guard = Guard((EID,), frozenset({WIFI.address}))

    assert guard.is_ours(WIFI.address)
    assert guard.is_ours(EID.address)
    assert not guard.is_ours(ip("203.0.113.5"))

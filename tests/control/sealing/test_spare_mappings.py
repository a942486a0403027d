"""The mappings that a node behind a NAT keeps for when no RTR answers any more."""

from __future__ import annotations

from lispmob.control.sealing.spare_mappings import SPARE_S, SPARES_MAX, SpareMappings
from lispmob.wire.record import Locator, MappingRecord
from tests.control.support import ip, prefix

PEER, OTHER = prefix("10.2.0.7/32"), prefix("10.2.0.8/32")


def record(eid: str = "10.2.0.7/32", *places: str) -> MappingRecord:
    return MappingRecord.of(prefix(eid), tuple(Locator(ip(place)) for place in places), ttl_min=10)


def test_the_last_mapping_of_each_peer_is_used_once_the_rtrs_are_lost() -> None:
    spares = SpareMappings()
    spares.on_answer(PEER, record("10.2.0.7/32", "192.0.2.1"), 0.0)
    spares.on_answer(PEER, record("10.2.0.7/32", "192.0.2.2"), 60.0)

    assert spares.take(70.0) == [(PEER, record("10.2.0.7/32", "192.0.2.2"))]
    assert spares.take(71.0) == []


def test_old_mappings_and_those_without_locators_are_not_used() -> None:
    spares = SpareMappings()
    spares.on_answer(PEER, record("10.2.0.7/32", "192.0.2.1"), 0.0)
    spares.on_answer(OTHER, record("10.2.0.8/32"), SPARE_S)

    assert spares.take(SPARE_S + 1.0) == []


def test_what_was_used_is_given_up_once_when_an_rtr_answers_again() -> None:
    spares = SpareMappings()
    spares.on_answer(PEER, record("10.2.0.7/32", "192.0.2.1"), 0.0)
    spares.take(1.0)

    assert spares.give_up() == {PEER}
    assert spares.give_up() == set()


def test_no_more_peers_are_kept_than_keys_are_asked_for() -> None:
    spares = SpareMappings()
    for number in range(SPARES_MAX + 10):
        eid = f"10.2.{number // 256}.{number % 256}/32"
        spares.on_answer(prefix(eid), record(eid, "192.0.2.1"), 0.0)

    found = [eid for eid, _ in spares.take(1.0)]

    assert len(found) == SPARES_MAX
    assert prefix("10.2.0.9/32") not in found

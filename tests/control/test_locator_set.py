from __future__ import annotations

from dataclasses import replace

from lispmob.control.locator_set import MAX_LOCATORS, NEVER, EidRank, LocalLocator, LocatorSet
from lispmob.wire.address import EidPrefix
from tests.control.support import EID, LTE, WIFI, WIFI6, ip, locators


def test_locators_stand_in_the_order_of_the_rfc() -> None:
    assert locators(WIFI6, LTE, WIFI).locators == (WIFI, LTE, WIFI6)


def test_the_best_locator_has_the_lowest_priority_and_then_the_highest_weight() -> None:
    heavy = LocalLocator(ip("198.51.100.99"), priority=1, weight=200)

    assert locators(LTE, WIFI).best(4) == WIFI
    assert locators(WIFI, heavy).best(4) == heavy
    assert locators(WIFI).best(6) is None


def test_answers_are_asked_to_one_address_of_each_family() -> None:
    assert locators(WIFI, LTE, WIFI6).itr_rlocs == (WIFI.address, WIFI6.address)


def test_an_address_on_two_interfaces_is_one_locator() -> None:
    assert locators(replace(WIFI, priority=9, ifindex=7), WIFI).locators == (WIFI,)


def test_a_set_never_outgrows_a_record() -> None:
    many = [LocalLocator(ip("198.51.100.0") + number, priority=number) for number in range(1, 60)]

    kept = LocatorSet.of(1, many).locators

    assert len(kept) == MAX_LOCATORS
    assert max(one.priority for one in kept) == MAX_LOCATORS


def test_a_new_mtu_makes_no_new_mapping() -> None:
    assert locators(WIFI) == locators(replace(WIFI, mtu_bytes=1280))


def test_a_record_of_ours_is_authoritative_local_and_marks_the_probed_locator() -> None:
    record = locators(WIFI, LTE).to_record(EID, 10, probed=LTE.address)

    assert record.is_authoritative
    assert all(one.is_local and one.is_reachable for one in record.locators)
    assert [one.ip for one in record.locators if one.is_probed] == [LTE.address]


def test_each_eid_has_its_own_priorities_and_weights_in_its_record() -> None:
    special = EidPrefix.parse("10.9.0.1/32")
    own = locators(WIFI, replace(LTE, by_eid=(EidRank(special, 3, 40),)))

    def ranks(eid: EidPrefix) -> dict[object, tuple[int, int]]:
        return {one.address: (one.priority, one.weight) for one in own.to_record(eid, 10).locators}

    assert ranks(special)[LTE.address] == (3, 40)
    assert ranks(EID)[LTE.address] == (LTE.priority, LTE.weight)
    assert ranks(special)[WIFI.address] == ranks(EID)[WIFI.address]


def test_a_silent_uplink_is_never_to_be_used_whatever_an_eid_says_of_it() -> None:
    silent = replace(LTE, by_eid=(EidRank(EID, 3, 40),)).silenced()

    assert [one.priority for one in locators(silent).to_record(EID, 10).locators] == [NEVER]

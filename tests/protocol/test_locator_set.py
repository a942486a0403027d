from __future__ import annotations

import dataclasses

from lispmob.protocol.locator_set import MAX_LOCATORS, NEVER, EidRank, LocalLocator, LocatorSet
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
    assert locators(WIFI, LTE, WIFI6).itr_rlocs_from(LTE) == (LTE.address, WIFI6.address)


def test_the_address_that_asks_is_the_first_that_an_answer_may_go_to() -> None:
    assert locators(WIFI, LTE, WIFI6).itr_rlocs_from(WIFI6) == (WIFI6.address, WIFI.address)


def test_no_answer_is_asked_to_a_family_that_leads_nowhere() -> None:
    dead = (WIFI.silenced(), LTE.silenced())

    assert locators(*dead, WIFI6).itr_rlocs_from(WIFI6) == (WIFI6.address,)
    assert locators(*dead, WIFI6).live_families == {6}


def test_a_host_whose_uplinks_all_lead_nowhere_counts_all_its_families_as_alive() -> None:
    assert locators(WIFI.silenced(), WIFI6.silenced()).live_families == {4, 6}


def test_a_place_that_is_named_twice_is_one_locator() -> None:
    assert locators(dataclasses.replace(WIFI, priority=9), WIFI).locators == (WIFI,)


def test_one_address_on_three_interfaces_is_three_locators_with_names_of_their_own() -> None:
    second, third = (
        dataclasses.replace(WIFI, ifindex=WIFI.ifindex + 1, priority=9),
        dataclasses.replace(WIFI, ifindex=WIFI.ifindex + 2),
    )

    kept = locators(third, second, WIFI).locators

    assert [locator.place for locator in kept] == [WIFI.place, second.place, third.place]
    assert len({locator.name for locator in kept}) == 3
    assert kept[0].name == WIFI.address
    assert all(locator.name.is_link_local for locator in kept[1:])


def test_an_uplink_keeps_its_name_when_another_one_with_its_address_is_preferred() -> None:
    second = dataclasses.replace(WIFI, ifindex=WIFI.ifindex + 1, priority=9)

    before = {locator.ifindex: locator.name for locator in locators(WIFI, second).locators}
    after = {locator.ifindex: locator.name for locator in locators(WIFI.silenced(), second).locators}

    assert before == after


def test_a_set_never_outgrows_a_record() -> None:
    many = [LocalLocator(ip("198.51.100.0") + number, priority=number) for number in range(1, 60)]

    kept = LocatorSet.of(1, many).locators

    assert len(kept) == MAX_LOCATORS
    assert max(locator.priority for locator in kept) == MAX_LOCATORS


def test_a_new_mtu_makes_no_new_mapping() -> None:
    assert locators(WIFI) == locators(dataclasses.replace(WIFI, mtu_bytes=1280))


def test_a_record_of_ours_is_authoritative_local_and_marks_the_probed_locator() -> None:
    record = locators(WIFI, LTE).to_record(EID, 10, probed=LTE.address)

    assert record.is_authoritative
    assert all(locator.is_local and locator.is_reachable for locator in record.locators)
    assert [locator.ip for locator in record.locators if locator.is_probed] == [LTE.address]


def test_each_eid_has_its_own_priorities_and_weights_in_its_record() -> None:
    special = EidPrefix.parse("10.9.0.1/32")
    own = locators(WIFI, dataclasses.replace(LTE, by_eid=(EidRank(special, 3, 40),)))

    def ranks(eid: EidPrefix) -> dict[object, tuple[int, int]]:
        return {locator.address: (locator.priority, locator.weight) for locator in own.to_record(eid, 10).locators}

    assert ranks(special)[LTE.address] == (3, 40)
    assert ranks(EID)[LTE.address] == (LTE.priority, LTE.weight)
    assert ranks(special)[WIFI.address] == ranks(EID)[WIFI.address]


def test_a_silent_uplink_is_never_to_be_used_whatever_an_eid_says_of_it() -> None:
    silent = dataclasses.replace(LTE, by_eid=(EidRank(EID, 3, 40),)).silenced()

    assert [locator.priority for locator in locators(silent).to_record(EID, 10).locators] == [NEVER]

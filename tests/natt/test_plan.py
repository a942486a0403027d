"""The record of an EID, and the RTRs of all uplinks."""

from __future__ import annotations

from lispmob.natt.plan import NattPlan, Relay, UplinkPlan
from lispmob.wire.record import Locator
from tests.control.support import ip, prefix
from tests.natt.world import locator

WORK, HOME, OTHER = prefix("10.1.0.1/32"), prefix("10.1.0.2/32"), prefix("10.1.0.3/32")
ALL, WORKS, HOMES = ((Locator(ip(f"203.0.113.{number}")),) for number in (1, 2, 3))


def test_an_eid_with_a_record_of_its_own_has_that_and_all_others_have_the_common_one() -> None:
    plan = NattPlan(record_locators=ALL, eid_records=((WORK, WORKS), (HOME, HOMES)))

    assert [plan.locators_for(eid) for eid in (WORK, HOME, OTHER)] == [WORKS, HOMES, ALL]


def test_every_rtr_of_every_uplink_is_known() -> None:
    relays = [Relay(ip(f"198.51.100.{number}"), 4341) for number in (1, 2, 3)]
    plan = NattPlan(
        uplinks=(
            UplinkPlan(locator(), (relays[0], relays[1])),
            UplinkPlan(locator("192.168.2.2", 3), (relays[1], relays[2])),
            UplinkPlan(locator("203.0.113.9", 4)),
        )
    )

    assert plan.rtrs == {relay.address for relay in relays}
    assert NattPlan().rtrs == frozenset()

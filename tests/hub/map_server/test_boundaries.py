"""Limits of the hub, each reached and exceeded by one."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from lispmob.hub.map_server.asker_limits import AskerLimits, OctetBudget, Rate
from lispmob.hub.map_server.claims import Claims
from lispmob.hub.map_server.effect import Arrival
from lispmob.hub.map_server.info import OCTETS_LIMIT as INFO_OCTETS
from lispmob.hub.map_server.itr_places import shown_to
from lispmob.hub.map_server.map_resolver import OCTETS_LIMIT as REQUEST_OCTETS
from lispmob.hub.map_server.part import XtrRegistration
from lispmob.wire.address import DistinguishedName
from lispmob.wire.ecm import EncapsulatedControl
from lispmob.wire.lcaf_types import AfiList
from lispmob.wire.map_request import EidRecord, MapRequest
from lispmob.wire.record import Action, Locator, MappingRecord
from tests.hub.exchange import HUB, ask, eid, plane, reply_in, site, xtr

ITR = ip_address("203.0.113.7")
XTR_ID = bytes([7]) * 16


def padded_question(octets: int) -> Arrival:
    """A Map-Request for 10.1.0.1 in an ECM of so many octets."""
    request = MapRequest(7, None, (ITR,), (EidRecord.of(eid("10.1.0.1/32")),)).encode()
    inner = ip_address("192.0.2.200"), 50000, ip_address("10.1.0.1"), 4342
    bare = len(EncapsulatedControl(*inner, request).encode())
    return Arrival(EncapsulatedControl(*inner, request + bytes(octets - bare)).encode(), ITR, 50001, HUB)


@pytest.mark.parametrize(("octets", "counter"), [(REQUEST_OCTETS, "rx_trailing"), (REQUEST_OCTETS + 1, "rx_limit")])
def test_a_question_in_an_ecm_is_read_up_to_1024_octets(octets: int, counter: str) -> None:
    hub = plane(site("10.1.0.0/24"))
    arrival = padded_question(octets)
    assert len(arrival.payload) == octets

    assert hub.on_datagram(arrival, 0.0) == []
    assert hub.counters == {counter: 1}


@pytest.mark.parametrize(("octets", "is_read"), [(INFO_OCTETS, True), (INFO_OCTETS + 1, False)])
def test_an_info_request_is_read_up_to_512_octets(octets: int, is_read: bool) -> None:
    hub = plane(site("10.1.0.0/24"))

    hub.on_datagram(Arrival(b"\x70" + b"\xff" * (octets - 1), ITR, 50001, HUB), 0.0)

    assert hub.counters["rx_limit"] == (not is_read)
    assert hub.counters.total() == 1


@pytest.mark.parametrize(("below", "records"), [(8, 9), (9, 1)])
def test_an_answer_lists_eight_more_specific_prefixes_and_with_more_of_them_speaks_for_less(
    below: int, records: int
) -> None:
    hub = plane(site("10.1.0.0/16"))
    hub.on_datagram(xtr("203.0.113.5").register("10.1.0.0/16"), 0.0)
    for number in range(below):
        hub.on_datagram(xtr("203.0.113.9").register(f"10.1.{100 + number}.0/24"), 0.0)

    answer = reply_in(hub.on_datagram(ask("10.1.0.7/32"), 1.0)).records

    assert len(answer) == records
    assert (answer[0].eid_prefix == eid("10.1.0.0/16")) == (below == 8)


@pytest.mark.parametrize(("locators", "records"), [((12, 12), 3), ((12, 13), 1)])
def test_an_answer_lists_24_locators_of_more_specific_prefixes_and_with_more_of_them_speaks_for_less(
    locators: tuple[int, int], records: int
) -> None:
    hub = plane(site("10.1.0.0/16"))
    hub.on_datagram(xtr("203.0.113.5").register("10.1.0.0/16"), 0.0)
    for number, count in enumerate(locators):
        rlocs = [f"203.0.113.{100 + place}" for place in range(count)]
        hub.on_datagram(xtr("203.0.113.9").register(f"10.1.{100 + number}.0/24", rlocs=rlocs), 0.0)

    assert len(reply_in(hub.on_datagram(ask("10.1.0.7/32"), 1.0)).records) == records


@pytest.mark.parametrize(
    ("asked", "ttl_min"),
    [
        ("10.1.0.7/32", 1),  # a site has it, and no node has registered it (RFC 9301, 8.3)
        ("10.2.0.7/32", 15),  # no site has it
    ],
)
def test_a_negative_answer_is_for_one_minute_or_for_fifteen(asked: str, ttl_min: int) -> None:
    (record,) = reply_in(plane(site("10.1.0.0/24")).on_datagram(ask(asked), 0.0)).records

    assert (record.ttl_min, record.action, record.locators) == (ttl_min, Action.NATIVELY_FORWARD, ())


def part(nonce: int, address: str, at: float) -> XtrRegistration:
    place = ip_address(address)
    record = MappingRecord.of(eid("10.1.0.1/32"), (Locator(place),), ttl_min=10)
    return XtrRegistration(
        XTR_ID, record, at + 180.0, at, nonce, place, proxy_map_reply=True, wants_merge=False, xtr_id=XTR_ID
    )


@pytest.mark.parametrize(
    ("times", "is_copy"),
    [
        ((0.0, 2.0, 5.0), True),
        ((0.0, 2.0, 4.9), False),  # five seconds at least
        ((0.0, 6.0), False),  # and three registers
        ((0.0, 179.0, 180.0), True),
        ((0.0, 180.0, 186.0), False),  # three minutes apart they begin again
    ],
)
def test_a_second_machine_with_an_xtr_id_is_told_apart_by_three_registers_in_five_seconds(
    times: tuple[float, ...], is_copy: bool
) -> None:
    claims, held = Claims(), part(1_000, "203.0.113.5", 0.0)

    found = [claims.original([held], part(10 + number, "192.0.2.9", at), at) for number, at in enumerate(times)]

    assert found[:-1] == [None] * (len(times) - 1)
    assert (found[-1] is held) == is_copy


def test_an_octet_budget_is_refilled_with_time_and_an_answer_as_long_as_its_question_takes_none() -> None:
    budget = OctetBudget(100.0, 1000)

    assert budget.take(ITR, 1000, 0.0)
    assert not budget.take(ITR, 1, 0.0)
    assert budget.take(ITR, 0, 0.0)
    assert budget.take(ITR, 100, 0.1)
    assert not budget.take(ITR, 1, 1.0)


def test_of_too_many_budgets_the_one_used_longest_ago_is_forgotten() -> None:
    budget = OctetBudget(100.0, 1000, limit=2)
    first, second, third = (ITR + number for number in range(3))
    for address in (first, second, first):
        assert budget.take(address, 500, 0.0)

    assert budget.take(third, 1000, 0.0)

    assert [budget.take(address, 1, 0.0) for address in (first, third, second)] == [False, False, True]


@pytest.mark.parametrize(("each", "strangers", "registered"), [(3, 5, 4), (5, 3, 4)])
def test_a_stranger_has_a_share_of_what_all_strangers_have_and_a_node_its_own_besides(
    each: int, strangers: int, registered: int
) -> None:
    limits = AskerLimits(Rate(1, each), Rate(1, strangers), Rate(1, registered))

    assert sum(limits.take(ITR, 0.0, is_registered=False) for _ in range(10)) == min(each, strangers)
    others = sum(limits.take(ITR + 1, 0.0, is_registered=False) for _ in range(10))
    assert others == strangers - min(each, strangers)
    assert sum(limits.take(ITR, 0.0, is_registered=True) for _ in range(10)) == registered


def test_an_rtr_of_a_node_is_shown_its_own_locators_and_all_others_its_rtrs() -> None:
    rtr, place = ip_address("198.51.100.77"), ip_address("203.0.113.9")
    named = AfiList((place, DistinguishedName(b"laptop@tp-34265")))
    record = MappingRecord.of(eid("10.1.0.1/32"), (Locator(named), Locator(rtr, 254)), ttl_min=10)
    plain = MappingRecord.of(eid("10.1.0.1/32"), (Locator(place),), ttl_min=10)

    assert shown_to(record, rtr).locators == record.locators[:1]
    assert shown_to(record, ITR).locators == record.locators[1:]
    assert shown_to(record, ITR).ttl_min == 10
    assert shown_to(plain, ITR) is plain


@pytest.mark.parametrize(
    ("wants_notify", "source", "hosts"),
    [
        (False, "10.1.0.9", ["10.1.0.1/32"]),
        (True, "10.1.0.9", ["10.1.0.1/32", "10.1.0.9/32"]),
        (True, None, ["10.1.0.1/32"]),
        (True, "192.0.2.9", ["10.1.0.1/32"]),  # of no site
    ],
)
def test_what_a_shared_registry_is_asked_for_is_the_eid_and_for_a_subscription_its_source_too(
    wants_notify: bool, source: str | None, hosts: list[str]
) -> None:
    hub = plane(site("10.1.0.0/24"))
    source_eid = None if source is None else ip_address(source)
    asked = EidRecord.of(eid("10.1.0.1/32"), wants_notify=wants_notify)
    request = MapRequest(7, source_eid, (ITR,), (asked,), xtr_id=XTR_ID, site_id=bytes(8))
    ecm = EncapsulatedControl(ip_address("192.0.2.200"), 50000, ip_address("10.1.0.1"), 4342, request.encode())

    found = hub.map_resolver.hosts_in(Arrival(ecm.encode(), ITR, 50001, HUB), 0.0)

    assert [str(host) for host in found] == hosts

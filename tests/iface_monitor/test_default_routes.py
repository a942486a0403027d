"""Default routes from next hops, halves and events."""

from __future__ import annotations

from ipaddress import ip_address

from msgspec.structs import replace

from lispmob.iface_monitor.default_routes import (
    HIGH_HALF,
    LOW_HALF,
    WHOLE,
    Candidate,
    Ipv6DefaultRoutes,
    TableLookup,
    merge,
)

MAIN = {TableLookup(4, 254), TableLookup(6, 254)}
ROUTER = Candidate(6, 254, WHOLE, 2, ip_address("fe80::1"), 1024)
SECOND = replace(ROUTER, gateway=ip_address("fe80::2"))


def test_one_half_is_no_default_route_and_two_halves_are() -> None:
    low = Candidate(4, 254, LOW_HALF, 5, None, 0)
    high = replace(low, part=HIGH_HALF, metric=50)

    assert merge([low], MAIN) == []
    assert [(route.ifindex, route.metric) for route in merge([low, high], MAIN)] == [(5, 50)]


def test_halves_on_different_interfaces_do_not_make_a_default_route() -> None:
    low = Candidate(4, 254, LOW_HALF, 5, None, 0)

    assert merge([low, replace(low, part=HIGH_HALF, ifindex=6)], MAIN) == []


def test_a_table_that_no_rule_looks_up_does_not_count() -> None:
    assert merge([replace(ROUTER, table=51820)], MAIN) == []


def test_a_replacing_route_takes_the_place_of_those_with_its_metric() -> None:
    held = Ipv6DefaultRoutes()
    held.reset([ROUTER, replace(ROUTER, metric=2048)])

    held.on_added([SECOND], is_replacing=True)

    assert {(str(candidate.gateway), candidate.metric) for candidate in held} == {("fe80::2", 1024), ("fe80::1", 2048)}


def test_one_next_hop_of_several_can_go() -> None:
    held = Ipv6DefaultRoutes()
    held.reset([ROUTER, SECOND])

    held.on_removed([ROUTER])

    assert list(held) == [SECOND]


def test_an_interface_that_goes_down_takes_its_routes_with_it_without_an_event_for_each() -> None:
    held = Ipv6DefaultRoutes()
    held.reset([ROUTER, replace(ROUTER, ifindex=3)])

    held.on_link_down(2)

    assert [candidate.ifindex for candidate in held] == [3]

"""Routes and rules that refuse, such as a VPN's kill switch: what the kernel does not get to is no default route."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from lispmob.iface_monitor.default_routes import FOR_SOME, HIGH_HALF, LOW_HALF, WHOLE, Candidate, TableLookup, merge
from lispmob.iface_monitor.snapshot import Link, LocalAddress, NetworkState, UplinkPolicy

ETH0, ETH1 = 2, 3
VIA_ETH0 = Candidate(4, 254, WHOLE, ETH0, ip_address("192.0.2.1"), 100)
VIA_ETH1 = Candidate(4, 254, WHOLE, ETH1, ip_address("198.51.100.1"), 200)
KILL = Candidate(4, 254, WHOLE, 0, None, 50, refusal="blackhole")
MAIN = TableLookup(4, 254)
MAIN6 = TableLookup(6, 254)
POLICY = UplinkPolicy()


def rule(place: int, refusal: str = "the routing rule `1000: unreachable`", **more: object) -> TableLookup:
    return TableLookup(4, 0, order=place, place=place, refusal=refusal, **more)  # type: ignore[arg-type]


def table(number: int, place: int) -> TableLookup:
    return TableLookup(4, number, order=place, place=place)


def ways(candidates: list[Candidate], tables: set[TableLookup]) -> dict[int, str]:
    """Interfaces with a default route, and what refuses it."""
    return {route.ifindex: route.refused_by for route in merge(candidates, tables)}


@pytest.mark.parametrize(
    ("candidates", "tables", "refused"),
    [
        ([KILL, VIA_ETH0], {MAIN}, {ETH0}),
        ([replace(KILL, metric=150), VIA_ETH0, VIA_ETH1], {MAIN}, {ETH1}),
        ([replace(KILL, metric=4294967295), VIA_ETH0], {MAIN}, set()),
        ([replace(KILL, refusal="throw"), VIA_ETH0], {MAIN}, {ETH0}),
        ([replace(KILL, metric=300), VIA_ETH0, replace(VIA_ETH1, table=77)], {MAIN, table(77, 5)}, {ETH1}),
        ([replace(KILL, refusal="throw", metric=300), replace(VIA_ETH1, table=77)], {MAIN, table(77, 5)}, set()),
        ([replace(KILL, table=52, metric=300), VIA_ETH0], {MAIN, table(52, -27000)}, {ETH0}),
        ([replace(KILL, table=52, refusal="throw"), VIA_ETH0], {MAIN, table(52, -27000)}, set()),
        ([replace(KILL, table=52), VIA_ETH0], {MAIN}, set()),
        ([VIA_ETH0], {MAIN, rule(-31766)}, {ETH0}),
        ([VIA_ETH0], {MAIN, rule(234)}, set()),
        ([replace(VIA_ETH1, table=77), VIA_ETH0], {MAIN, table(77, -31000), rule(-30000)}, {ETH0}),
        ([VIA_ETH0], {MAIN, TableLookup(4, 0, None, FOR_SOME, -30000, True, "the rule")}, set()),
    ],
    ids=[
        "blackhole with a smaller metric",
        "between two uplinks",
        "last of all",
        "throw in the last table",
        "in main, the uplink behind it",
        "throw in main, the uplink behind it",
        "in a table before main",
        "throw in a table before main",
        "in a table that nobody looks up",
        "rule before main",
        "rule behind main",
        "rule between two tables",
        "rule for some packets",
    ],
)
def test_what_stands_behind_a_refusal_is_no_default_route(
    candidates: list[Candidate], tables: set[TableLookup], refused: set[int]
) -> None:
    assert {ifindex for ifindex, by in ways(candidates, tables).items() if by} == refused


def test_both_halves_refuse_whatever_their_metric_and_one_half_does_not() -> None:
    low, high = replace(KILL, part=LOW_HALF, metric=900), replace(KILL, part=HIGH_HALF, metric=900)

    assert ways([low, high, VIA_ETH0], {MAIN}) == {ETH0: "the route `blackhole both halves of the default metric 900`"}
    assert ways([low, VIA_ETH0], {MAIN}) == {ETH0: ""}


def test_the_halves_of_a_vpn_are_in_front_of_a_kill_switch_that_is_a_whole_route() -> None:
    halves = [replace(VIA_ETH1, part=part, metric=900) for part in (LOW_HALF, HIGH_HALF)]

    found = ways([KILL, *halves, VIA_ETH0], {MAIN})

    assert (found[ETH1], found[ETH0]) == ("", "the route `blackhole default metric 50`")


def test_a_source_that_is_refused_is_served_by_no_route_and_the_others_are() -> None:
    source = ip_network("192.0.2.0/28")
    from_there = TableLookup(4, 100, source, FOR_SOME, -30000)

    (route,) = merge([replace(KILL, table=100), VIA_ETH0], {MAIN, from_there})

    assert [route.serves(ip_address(text)) for text in ("192.0.2.7", "192.0.2.77")] == [False, True]


def test_a_rule_that_refuses_one_source_says_nothing_about_others() -> None:
    refused = rule(-30000, source=ip_network("192.0.2.7/32"))

    (route,) = merge([VIA_ETH0], {MAIN, refused})

    assert [route.serves(ip_address(text)) for text in ("192.0.2.7", "192.0.2.8")] == [False, True]


def test_in_ipv6_a_route_for_a_source_is_taken_before_one_that_refuses_all_packets() -> None:
    prefix = ip_network("2001:db8:1::/64")
    routed = Candidate(6, 254, WHOLE, ETH0, ip_address("fe80::1"), 512, source=prefix)
    refusing = Candidate(6, 254, WHOLE, 0, None, 1, refusal="unreachable")

    assert [route.refused_by for route in merge([routed, refusing], {MAIN6})] == [""]
    (route,) = merge([replace(routed, source=None), replace(refusing, source=prefix, metric=9999)], {MAIN6})
    assert [route.serves(ip_address(text)) for text in ("2001:db8:1::2", "2001:db8:2::2")] == [False, True]


def test_an_uplink_that_is_refused_is_none_and_says_by_what() -> None:
    link = Link(ETH0, "eth0", "", True, True, False, 1500)
    addresses = [LocalAddress(ip_address("192.0.2.2"), 24, ETH0), LocalAddress(ip_address("2001:db8::2"), 64, ETH0)]
    over_ipv6 = Candidate(6, 254, WHOLE, ETH0, ip_address("fe80::1"), 1024)
    state = NetworkState.of([link], addresses, merge([KILL, VIA_ETH0, over_ipv6], {MAIN, MAIN6}))

    (uplink,) = state.uplinks(POLICY)

    assert [str(address) for address in uplink.addresses] == ["2001:db8::2"]
    assert (state.refusal_of(ETH0, 4), state.refusal_of(ETH0, 6)) == ("the route `blackhole default metric 50`", "")


METRICS = st.integers(0, 9)
KINDS = st.sampled_from(["", "", "blackhole", "unreachable", "prohibit", "throw"])


@given(
    routes=st.lists(
        st.tuples(st.sampled_from([77, 254, 88]), METRICS, KINDS), max_size=8, unique_by=lambda one: one[:2]
    ),
    places=st.permutations([-1, 0, 1]),
    refusing=st.sampled_from([None, -2, 2, 5]),
)
def test_a_packet_that_asks_table_after_table_gets_to_what_is_called_a_default_route(
    routes: list[tuple[int, int, str]], places: list[int], refusing: int | None
) -> None:
    order = dict(zip([77, 254, 88], places, strict=True))
    candidates = [
        Candidate(4, number, WHOLE, 0 if kind else 10 + at, None, metric, refusal=kind)
        for at, (number, metric, kind) in enumerate(routes)
    ]
    tables = {table(number, place * 3) for number, place in order.items()}
    tables |= {rule(refusing)} if refusing is not None else set()

    found = ways(candidates, tables)

    for candidate in candidates:
        if not candidate.refusal:
            asked = bound(candidate.ifindex, candidates, order, refusing)
            assert (found[candidate.ifindex] == "") is asked, candidate


def bound(ifindex: int, candidates: list[Candidate], order: dict[int, int], refusing: int | None) -> bool:
    """Whether the kernel finds a route for a packet that is bound to this interface: rule by rule, by the metric."""
    steps: list[tuple[int, int | None]] = [(place * 3, number) for number, place in order.items()]
    steps += [(refusing, None)] if refusing is not None else []
    for _, number in sorted(steps):
        if number is None:
            return False
        for route in sorted((each for each in candidates if each.table == number), key=lambda each: each.metric):
            if route.refusal == "throw":
                break
            if route.refusal:
                return False
            if route.ifindex == ifindex:
                return True
    return False

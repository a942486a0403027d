from __future__ import annotations

import random
from collections import Counter
from ipaddress import ip_address

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lispmob.datapath.ask import choose_uplink
from lispmob.datapath.model import Uplink
from tests.datapath.binding import ffi, lib
from tests.datapath.oracle import spread
from tests.datapath.oracle.spread import Contender

CABLE = spread.locator_identity(ip_address("192.0.2.1"), 4341)
WIFI = spread.locator_identity(ip_address("192.0.2.2"), 4341)
LTE = spread.locator_identity(ip_address("2001:db8::3"), 4341)

contenders = st.lists(
    st.builds(
        Contender,
        identity=st.integers(0, (1 << 64) - 1),
        priority=st.sampled_from([0, 1, 2, 255]),
        weight=st.sampled_from([0, 1, 2, 50, 100, 255]),
    ),
    max_size=8,
    unique_by=lambda one: one.identity,
)
flows = st.integers(0, (1 << 64) - 1)


def ten_thousand(seed: int = 1) -> list[int]:
    chance = random.Random(seed)
    return [chance.getrandbits(64) for _ in range(10_000)]


def chosen_by(ones: list[Contender], flow: int) -> int | None:
    table = ffi.new(
        "struct lm_contender[]", [(contender.identity, contender.priority, contender.weight) for contender in ones] or 1
    )
    index = int(lib.lm_rendezvous_choose(table, len(ones), flow))
    return None if index < 0 else index


@settings(max_examples=400, deadline=None)
@given(contenders, st.lists(flows, min_size=1, max_size=20))
def test_c_and_python_choose_the_same(ones: list[Contender], some_flows: list[int]) -> None:
    for flow in some_flows:
        assert chosen_by(ones, flow) == spread.choose(ones, flow)


@given(st.binary(max_size=40))
def test_c_and_python_agree_on_who_is_who(data: bytes) -> None:
    assert int(lib.lm_rendezvous_identity(data, len(data))) == spread.identity(data)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize(
    ("weights", "part"), [((3, 1), 0.75), ((75, 25), 0.75), ((1, 1), 0.5), ((0, 0), 0.5), ((255, 1), 255 / 256)]
)
def test_ten_thousand_flows_are_split_by_weight_within_two_percent(
    weights: tuple[int, int], part: float, seed: int
) -> None:
    ones = [Contender(CABLE, 1, weights[0]), Contender(WIFI, 1, weights[1])]

    share = sum(chosen_by(ones, flow) == 0 for flow in ten_thousand(seed)) / 10_000

    assert abs(share - part) < 0.02


def test_flows_whose_hashes_differ_in_one_bit_are_spread_too() -> None:
    ones = [Contender(CABLE, 1, 3), Contender(WIFI, 1, 1)]

    for shift in (0, 16, 32, 50):
        share = sum(chosen_by(ones, number << shift) == 0 for number in range(10_000)) / 10_000
        assert abs(share - 0.75) < 0.02, shift


def test_three_locators_share_as_their_weights_say() -> None:
    ones = [Contender(CABLE, 1, 50), Contender(WIFI, 1, 30), Contender(LTE, 1, 20)]

    counts = Counter(chosen_by(ones, flow) for flow in ten_thousand())

    assert [abs(counts[index] / 10_000 - part) < 0.02 for index, part in enumerate((0.5, 0.3, 0.2))] == [True] * 3


@given(contenders.filter(lambda ones: len(ones) > 1), st.data(), st.lists(flows, min_size=1, max_size=50))
def test_when_a_locator_dies_only_its_flows_move(ones: list[Contender], data: st.DataObject, some: list[int]) -> None:
    ones = [Contender(contender.identity, 1, contender.weight or 1) for contender in ones]
    dead = data.draw(st.integers(0, len(ones) - 1))
    left = [one for index, one in enumerate(ones) if index != dead]

    for flow in some:
        before, after = spread.choose(ones, flow), spread.choose(left, flow)
        assert before is not None
        assert after is not None
        assert before == dead or left[after] == ones[before]


def test_the_flows_of_a_dead_locator_go_to_the_others_by_weight() -> None:
    ones = [Contender(CABLE, 1, 100), Contender(WIFI, 1, 75), Contender(LTE, 1, 25)]
    moved = [flow for flow in ten_thousand() if chosen_by(ones, flow) == 0]

    share = sum(chosen_by(ones[1:], flow) == 0 for flow in moved) / len(moved)

    assert abs(share - 0.75) < 0.03


@given(contenders, flows)
def test_only_the_lowest_priority_takes_part_and_weight_nothing_loses(ones: list[Contender], flow: int) -> None:
    index = spread.choose(ones, flow)

    if index is None:
        assert all(contender.priority == 255 for contender in ones)
        return
    best = min(contender.priority for contender in ones)
    assert ones[index].priority == best
    assert ones[index].weight or not any(contender.weight for contender in ones if contender.priority == best)


@given(contenders, flows, st.randoms())
def test_the_order_of_the_locators_does_not_matter(ones: list[Contender], flow: int, chance: random.Random) -> None:
    ones = [Contender(contender.identity, contender.priority, contender.weight or 1) for contender in ones]
    shuffled = chance.sample(ones, len(ones))

    one, other = spread.choose(ones, flow), spread.choose(shuffled, flow)

    assert (None if one is None else ones[one]) == (None if other is None else shuffled[other])


@given(
    st.lists(st.tuples(st.integers(1, 1 << 20), st.sampled_from([1, 2, 255]), st.integers(0, 255)), max_size=6), flows
)
def test_what_rehearse_asks_the_datapath_is_answered_by_its_own_rule(
    drawn: list[tuple[int, int, int]], flow: int
) -> None:
    uplinks = [
        Uplink(ifindex, f"up{ifindex}", (), priority=priority, weight=weight) for ifindex, priority, weight in drawn
    ]

    index = spread.choose(
        [Contender(spread.uplink_identity(up.ifindex), up.priority, up.weight) for up in uplinks], flow
    )

    assert choose_uplink(uplinks, flow) is (None if index is None else uplinks[index])

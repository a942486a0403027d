"""The plan of a run of the benchmarks: everything fits into its time, and what is asked for is measured."""

from __future__ import annotations

from itertools import pairwise

import pytest

from lispmob.lab.bench import __main__ as bench
from lispmob.lab.bench import household, plan
from lispmob.lab.bench.paths import NIC_PATHS, PATHS, PLAIN_PATHS, RTR_PATHS, SEALED_PATHS, cable_of, kind_of, tier_of
from lispmob.lab.bench.plan import Plan, Turns
from lispmob.names.shares import NAMES_OF_USER_BURST


def planned(*words: str) -> Plan:
    """What the command line asks for."""
    told = bench.parse(words)
    return plan.made(told.case, told.path, told.rounds, told.seconds, 60 * told.minutes)


def names(made: Plan) -> list[str]:
    return [part.name for part in made.parts]


class Clock:
    """Seconds that pass when the test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def quiet(_: str) -> None:
    """Takes what is told, and drops it."""


def played(made: Plan, slower: float = 1.0) -> tuple[dict[str, int], float]:
    """The rounds that each part had, and what all took, when everything takes `slower` times as long as planned."""
    clock = Clock()
    turns = Turns(made, clock, quiet)
    rounds = {}
    for part in made.parts:
        clock.now += slower * part.once_s
        rounds[part.name] = 0
        for _ in turns.of(part.name):
            clock.now += slower * part.each_s
            rounds[part.name] += 1
    return rounds, turns.spent_s()


def test_the_whole_bench_is_planned_for_ten_minutes_at_most_with_three_rounds_of_every_path() -> None:
    whole = planned()

    assert whole.seconds <= plan.PLANNED_SHARE * 600
    assert whole.rounds["traffic"] >= 3
    assert whole.rounds["start"] >= 3


def test_the_whole_bench_has_a_part_for_every_case_but_those_with_a_run_of_their_own() -> None:
    parts = names(planned())

    assert parts == ["nodes", "standby", "table", "tools", "control", "counting", "traffic", "start", "household"]
    assert set(plan.OWN_RUN_CASES) == {*plan.CASES} - {*bench.parse([]).case}


@pytest.mark.parametrize("case", plan.CASES)
def test_each_case_by_itself_has_a_part_that_takes_time(case: str) -> None:
    alone = planned("--case", case)

    assert alone.seconds > 0
    assert alone.seconds < planned().seconds
    assert min(alone.rounds.values()) >= 1


@pytest.mark.parametrize("path", PATHS)
def test_every_path_is_measured_by_something_and_in_a_few_seconds(path: str) -> None:
    assert {*plan.cases_of(path)} <= {*plan.TRAFFIC_CASES}
    assert 0 < plan.traffic_s(path, plan.TRAFFIC_CASES, 1.5) < 20


def test_the_flood_has_a_run_of_its_own_of_eight_minutes_as_the_makefile_has_it() -> None:
    flood = planned("--case", "flood", "--path", "tun", "--path", "ebpf", "--rounds", "2", "--minutes", "8")

    assert names(flood) == ["flood"]
    assert flood.seconds <= 480
    assert flood.rounds["flood"] == 2


def test_fewer_cases_have_more_rounds_and_never_more_than_were_asked_for() -> None:
    few = ("--case", "tcp1", "--case", "udp64", "--path", "vxlan", "--path", "ebpf")

    assert planned(*few, "--rounds", "40").rounds["traffic"] == 40
    assert planned(*few, "--rounds", "2").rounds["traffic"] == 2
    assert planned(*few, "--rounds", "400").seconds <= 600


def test_a_quick_run_has_one_round_of_everything() -> None:
    assert set(planned("--quick").rounds.values()) == {1}


def test_a_tier_that_is_not_asked_for_takes_no_time() -> None:
    both, one = planned("--case", "standby"), planned("--case", "standby", "--path", "tun")

    assert both.seconds > one.seconds


def test_a_plan_grows_with_its_time_and_with_nothing_else() -> None:
    seconds = [planned("--minutes", str(minutes), "--rounds", "50").seconds for minutes in (8, 10, 12, 20)]

    assert all(less < more for less, more in pairwise(seconds))


def test_what_waits_rests_beside_what_is_measured_meanwhile() -> None:
    alone, beside = planned("--case", "standby"), planned("--case", "standby", "--case", "table", "--case", "tools")

    assert alone.seconds_of("counting") == plan.REST_S + plan.COUNT_S
    assert beside.seconds < alone.seconds + beside.seconds_of("table") + beside.seconds_of("tools")


def test_a_run_that_goes_as_planned_has_all_rounds_in_its_time() -> None:
    whole = planned()
    rounds, spent_s = played(whole)

    assert {name: count for name, count in rounds.items() if count} == dict(whole.rounds)
    assert spent_s == pytest.approx(whole.seconds)


def test_a_slow_machine_leaves_out_the_rounds_that_can_be_done_without() -> None:
    made = planned("--case", "tcp1", "--case", "start", "--rounds", "30")
    in_time, late = played(made)[0], played(made, slower=2.0)[0]

    assert 3 <= late["traffic"] < in_time["traffic"]
    assert late["start"] >= 3
    assert played(made, slower=2.0)[1] <= made.budget_s + max(2 * part.each_s for part in made.parts)


def test_a_very_slow_machine_does_the_least_rounds_and_no_more() -> None:
    made = planned()

    assert played(made, slower=10.0)[0] == {part.name: part.least for part in made.parts}


def test_a_part_that_is_not_planned_has_no_rounds() -> None:
    assert list(Turns(planned("--case", "table"), Clock(), quiet).of("traffic")) == []


def test_the_plan_says_in_a_line_what_takes_how_long() -> None:
    line = planned("--case", "table", "--path", "tun", "--rounds", "2").line()

    assert line == "plan: 16 of 600 s: table 16 s (2 rounds)"


@pytest.mark.parametrize(
    ("path", "kind", "cable", "tier"),
    [
        ("veth", "veth", "", "tun"),
        ("tun-plain", "tun-plain", "", "tun"),
        ("vxlan-noseg", "vxlan", "-noseg", "tun"),
        ("ebpf-nic", "ebpf", "-nic", "ebpf"),
        ("auto-nic", "auto", "-nic", "auto"),
        ("ebpf-rtr", "ebpf", "-rtr", "ebpf"),
    ],
)
def test_the_name_of_a_path_says_what_it_goes_through_and_on_which_cable(
    path: str, kind: str, cable: str, tier: str
) -> None:
    assert (kind_of(path), cable_of(path), tier_of(path)) == (kind, cable, tier)


def test_every_path_has_one_name() -> None:
    assert len(set(PATHS)) == len(PATHS)
    assert {*PLAIN_PATHS, *NIC_PATHS, *RTR_PATHS, *SEALED_PATHS} <= {*PATHS}


def test_a_household_asks_for_no_more_new_names_than_one_user_may_at_once() -> None:
    assert household.KNOWN <= NAMES_OF_USER_BURST

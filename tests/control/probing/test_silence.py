"""Unanswered data, from the datapath's report to the decision (virtual time): how fast, and how rarely wrong."""

from __future__ import annotations

import pytest

from lispmob.control.probing.path import VOLLEY, State
from lispmob.control.probing.probing import PathChanged, ProbeConfig, ReachabilityChanged
from lispmob.protocol.effect import Event, WatchForSilence
from lispmob.protocol.locator_set import LocatorSet
from lispmob.wire.address import IpAddress
from tests.control.probing.probing_world import EID, LTE, OTHER, PEER, PEER6, SOME_EID, WIFI, WIFI6, World
from tests.datapath.oracle.silence import Word

HOURS = 3.0


def settled(rtt_s: float = 0.1, seed: int = 1, loss: float = 0.0) -> World:
    """A path whose round trip is known from one probe only, as soon after the first packet."""
    world = World(seed=seed, rtt_s=rtt_s)
    world.begin()
    world.run(2.0 + 2 * rtt_s)
    world.loss_each_way = loss
    return world


def left_at(world: World) -> float:
    at, change = world.of(ReachabilityChanged)[0]
    assert change == ReachabilityChanged(PEER, is_up=False)
    return at


@pytest.mark.parametrize("rtt_s", [0.02, 0.08, 0.1, 0.6])
@pytest.mark.parametrize("pause_s", [0.001, 0.01])
def test_with_data_both_ways_a_dead_locator_is_left_within_three_round_trips(rtt_s: float, pause_s: float) -> None:
    world = settled(rtt_s)
    world.flow(world.now + 30.0, pause_s)
    world.run(world.now + 10.0)
    died_at = world.now

    world.dead.add(PEER)
    world.run(died_at + 10.0)

    assert left_at(world) - died_at <= 3 * rtt_s + 2 * pause_s + 1e-6


@pytest.mark.parametrize("rtt_s", [0.02, 0.08, 0.3])
def test_a_sender_that_waits_for_acknowledgements_leaves_within_three_round_trips(rtt_s: float) -> None:
    world = settled(rtt_s)
    world.flow(world.now + 10.0, 0.005, octets=1400)
    world.run(world.now + 10.0)  # the flow ends here, as that of TCP with a full window
    died_at = world.now

    world.dead.add(PEER)
    world.run(died_at + 10.0)

    assert left_at(world) - died_at <= 3 * rtt_s + 0.005 + 1e-6


@pytest.mark.parametrize("rtt_s", [0.02, 0.1, 0.25])
def test_with_data_one_way_only_a_dead_locator_is_left_within_two_timeouts(rtt_s: float) -> None:
    world = settled(rtt_s)
    world.flow(world.now + 300.0, 0.02, answers=False)
    world.run(world.now + 120.0)
    died_at = world.now

    world.dead.add(PEER)
    world.run(died_at + 10.0)

    assert left_at(world) - died_at <= 2 * ProbeConfig().timeout_s


def test_after_an_unanswered_flood_a_conversation_is_watched_as_closely_as_ever() -> None:
    world = settled(0.08)
    world.flow(world.now + 5.0, 0.001, answers=False)
    world.run(world.now + 6.0)
    world.flow(world.now + 30.0, 0.01)
    world.run(world.now + 3.0)
    died_at = world.now

    world.dead.add(PEER)
    world.run(died_at + 10.0)

    assert left_at(world) - died_at <= 3 * 0.08 + 0.02 + 1e-6


def test_one_sided_data_on_a_living_path_is_never_taken_for_death_and_costs_a_probe_a_second_at_most() -> None:
    world = settled()
    began_at, before = world.now, len(world.sent)

    world.flow(began_at + 600.0, 0.02, answers=False)
    world.run(began_at + 600.0)

    assert {word for _, word in world.alarms} == {Word.ONE_SIDED}
    assert len(world.sent) - before <= 620
    assert world.state() is State.UP
    assert world.of(ReachabilityChanged) == []


def test_silence_for_as_long_as_the_peer_usually_thinks_soon_costs_little() -> None:
    world = settled()
    began_at = world.now
    world.flow(began_at + 600.0, 1.0, octets=1400, think_s=0.4)

    world.run(began_at + 600.0)

    assert len(world.sent) <= 600  # each of the 600 answers is late
    assert world.of(PathChanged) == []


def test_data_that_arrives_again_ends_the_suspicion_though_no_probe_was_answered() -> None:
    world = settled()
    world.take(world.prober.on_unanswered(PEER, True, world.now))
    assert world.state() is State.VERIFYING

    world.take(world.prober.on_heard([(WIFI.address, PEER)], world.now + 0.01))

    assert world.state() is State.UP


def test_data_over_one_pair_proves_no_other() -> None:
    world = World()
    world.begin(WIFI, LTE)
    world.run(2.0)
    world.dead.add(LTE.address)

    for _ in range(60):
        world.take(world.prober.on_heard([(WIFI.address, PEER)], world.now))
        world.run(world.now + 1.0)

    assert world.state(LTE.address) is State.DOWN
    assert world.state(WIFI.address) is State.UP


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize(("pause_s", "octets"), [(0.02, 200), (0.2, 200), (1.0, 1400), (7.0, 1400)])
def test_hours_of_data_with_a_tenth_lost_each_way_make_nothing_flap(seed: int, pause_s: float, octets: int) -> None:
    world = settled(0.08, seed, loss=0.1)
    hours_s = 3600.0 * (HOURS if pause_s > 0.1 else 0.25)

    world.flow(world.now + hours_s, pause_s, octets=octets)
    world.run(world.now + hours_s)

    assert world.of(PathChanged) == []
    assert world.alarms  # there were reports that could mislead


def test_the_event_of_a_death_says_that_data_found_it() -> None:
    world = settled()
    world.flow(world.now + 30.0, 0.01)
    world.run(world.now + 5.0)
    world.dead.add(PEER)
    world.run(world.now + 5.0)

    (_, event), *_ = world.of(Event)
    assert isinstance(event, Event)
    assert (event.kind, event.fields["why"]) == ("path-down", "data unanswered")


def heads(world: World) -> dict[IpAddress, IpAddress | None]:
    """The representative of each group of locators, as the datapath was told last."""
    return {one.remote: one.head for _, one in world.of(WatchForSilence) if isinstance(one, WatchForSilence)}


def test_the_locators_of_a_peer_are_watched_together_and_one_that_died_stands_for_no_other() -> None:
    world = World()
    world.begin(WIFI, WIFI6, targets=(PEER6, OTHER, PEER))
    world.run(3.0)
    alive = heads(world)
    world.dead.add(PEER)
    world.run(100.0)
    while_dead = heads(world)
    world.dead.clear()
    world.run(200.0)

    assert alive == dict.fromkeys((PEER, OTHER, PEER6), PEER)
    assert {while_dead[OTHER], while_dead[PEER6]} == {OTHER}
    assert heads(world) == alive


def test_a_locator_without_a_group_and_those_of_different_peers_are_watched_alone() -> None:
    world = World()
    world.take(world.prober.on_locators(LocatorSet.of(1, (WIFI,)), 0.0))
    world.take(world.prober.on_targets({PEER: EID, OTHER: SOME_EID}, 0.0))
    world.run(3.0)

    assert heads(world) == {PEER: None, OTHER: None}


def test_where_round_trips_vary_probes_are_given_the_time_that_they_take() -> None:
    world = World(ProbeConfig(measures=True, interval_s=1.0), rtt_s=0.1)
    world.begin()
    for second in range(1, 60):
        world.rtt_s = 0.1 if second % 2 else 0.2
        world.run(float(second))
    world.rtt_s = 0.2

    world.take(world.prober.on_unanswered(PEER, True, world.now))
    world.run(world.now + 2.0)

    assert world.of(ReachabilityChanged) == []
    assert world.state() is State.UP


def quick(world: World) -> dict[IpAddress, float | None]:
    """The timeouts that the datapath was told last."""
    return {one.remote: one.patience_s for _, one in world.of(WatchForSilence) if isinstance(one, WatchForSilence)}


def test_a_needless_question_about_one_locator_makes_patient_about_that_one_and_about_all_of_them_about_all() -> None:
    world = World()
    world.begin(WIFI, WIFI6, targets=(PEER6, PEER))
    world.run(3.0)
    before = quick(world)

    world.take(world.prober.on_unanswered(PEER, True, world.now, is_alone=True))
    world.run(world.now + 0.5)
    alone = quick(world)
    world.take(world.prober.on_unanswered(PEER, True, world.now))
    world.run(world.now + 0.5)

    assert before == pytest.approx({PEER: 0.11, PEER6: 0.11})
    assert alone == pytest.approx({PEER: 0.22, PEER6: 0.11})
    assert quick(world) == pytest.approx({PEER: 0.44, PEER6: 0.22})


def test_the_datapath_is_told_of_shorter_patience_again_after_calm_seconds_and_not_before() -> None:
    world = World()
    world.begin()
    world.run(3.0)
    world.take(world.prober.on_unanswered(PEER, True, world.now))
    world.run(world.now + 0.5)
    assert quick(world) == pytest.approx({PEER: 0.22})
    told = len(world.of(WatchForSilence))

    world.run(12.0)
    assert len(world.of(WatchForSilence)) == told
    world.run(16.0)

    assert quick(world) == pytest.approx({PEER: 0.11})


def test_a_silence_is_looked_into_by_a_whole_volley_before_the_verdict() -> None:
    world = settled()
    world.dead.add(PEER)
    before = len(world.sent)

    world.take(world.prober.on_unanswered(PEER, True, world.now))
    world.run(world.now + 1.0)

    ((down_at, _),) = world.of(ReachabilityChanged)
    assert len([at for at, _ in world.sent[before:] if at < down_at]) == VOLLEY

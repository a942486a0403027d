"""The prober in a small network (`probing_world.py`), in virtual time."""

from __future__ import annotations

from ipaddress import ip_address
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lispmob.control.probing.path import Pair, State
from lispmob.control.probing.probing import PathChanged, ProbeConfig, ReachabilityChanged, UplinkChanged
from lispmob.protocol.effect import Count, Event, SendControl, WatchForSilence
from lispmob.wire.map_reply import MapReply
from tests.control.probing.probing_world import EID, LTE, OTHER, PEER, PEER6, SOME_EID, WIFI, WIFI6, World


def test_a_locator_in_use_is_asked_soon_and_then_every_half_minute() -> None:
    world = World()

    world.begin()
    world.run(300.0)

    times = [at for at, _ in world.sent]
    assert times[0] <= 1.0
    assert 8 <= len(times) <= 14
    assert all(22.5 <= later - sooner <= 38.0 for sooner, later in pairwise(times))
    assert world.state() is State.UP


def test_every_pair_of_one_family_is_probed_from_its_own_side() -> None:
    world = World()

    world.begin(WIFI, LTE, WIFI6, targets=(PEER, OTHER, PEER6))
    world.run(5.0)

    assert {pair for _, pair in world.sent} == {
        Pair(WIFI.address, PEER),
        Pair(WIFI.address, OTHER),
        Pair(LTE.address, PEER),
        Pair(LTE.address, OTHER),
        Pair(WIFI6.address, PEER6),
    }
    sent = [effect for _, effect in world.of(SendControl) if isinstance(effect, SendControl)]
    assert all(effect.ifindex == (3 if effect.source == LTE.address else 2) for effect in sent)


def test_silence_brings_a_locator_down_within_two_timeouts_of_a_probe() -> None:
    world = World(ProbeConfig(timeout_s=1.0))
    world.begin()
    world.run(100.0)
    world.dead.add(PEER)
    before = len(world.sent)

    world.run(200.0)

    first_unanswered = world.sent[before][0]
    (at, change), *_ = world.of(ReachabilityChanged)
    assert change == ReachabilityChanged(PEER, is_up=False)
    assert at - first_unanswered <= 2.0 + 1e-6
    assert not world.prober.is_reachable(PEER)


def test_a_probe_counts_as_lost_when_its_time_is_over_and_no_sooner() -> None:
    world = World(ProbeConfig(timeout_s=1.0))
    world.begin()
    world.run(100.0)
    path = world.prober.path(WIFI.address, PEER)
    assert path is not None
    world.dead.add(PEER)
    before = len(world.sent)
    while len(world.sent) == before:
        world.run(world.now + 0.1)
    asked_at, probes = world.sent[before][0], path.quality.probes

    world.take(world.prober.on_timer(asked_at + 0.99))
    assert (path.quality.loss, path.quality.probes) == (0.0, probes)
    world.take(world.prober.on_timer(asked_at + 1.0))
    assert (path.quality.loss, path.quality.probes) == (1 / (probes + 1), probes + 1)


def test_nothing_is_asked_in_the_moment_of_the_verdict() -> None:
    world = World()
    world.begin()
    world.run(10.0)
    world.dead.add(PEER)
    world.run(120.0)

    (down_at, _), *_ = world.of(ReachabilityChanged)
    assert down_at not in [at for at, _ in world.sent]


@pytest.mark.parametrize(("interval_s", "first_s"), [(30.0, 2.0), (1.0, 1.0)])
def test_a_locator_that_has_just_died_is_asked_again_soon_and_then_after_twice_as_long_each_time(
    interval_s: float, first_s: float
) -> None:
    world = World(ProbeConfig(interval_s=interval_s, backoff_max_s=64.0, timeout_s=0.5))
    world.begin()
    world.run(50.0)
    world.dead.add(PEER)
    world.run(400.0)
    died_at = next(
        at for at, change in world.of(ReachabilityChanged) if change == ReachabilityChanged(PEER, is_up=False)
    )
    asked = [died_at, *(at for at, _ in world.sent if at > died_at)]

    pauses = [later - sooner for sooner, later in pairwise(asked)][:5]

    wanted = [first_s * factor for factor in (1, 1, 2, 4, 8)]
    assert all(0.7 * pause <= got <= 1.3 * pause for got, pause in zip(pauses, wanted, strict=True)), pauses


def test_a_dead_locator_is_asked_ever_less_often_and_comes_back_with_the_first_answer() -> None:
    world = World(ProbeConfig(interval_s=30, backoff_max_s=60))
    world.begin()
    world.run(50.0)
    world.dead.add(PEER)
    world.run(700.0)
    asked = [at for at, _ in world.sent if at > 200.0]
    world.dead.clear()

    world.run(800.0)

    gaps = [later - sooner for sooner, later in pairwise(asked)]
    assert gaps
    assert all(45.0 <= gap <= 75.0 for gap in gaps)
    (up_at, change) = world.of(ReachabilityChanged)[-1]
    assert change == ReachabilityChanged(PEER, is_up=True)
    assert up_at <= 700.0 + 75.0 + world.rtt_s
    assert world.state() is State.UP


@pytest.mark.parametrize("seed", range(5))
def test_a_tenth_of_all_packets_lost_each_way_makes_no_locator_flap_in_a_day(seed: int) -> None:
    world = World(seed=seed)
    world.loss_each_way = 0.1
    world.begin()

    world.run(86_400.0)

    assert world.of(ReachabilityChanged) == []
    path = world.prober.path(WIFI.address, PEER)
    assert path is not None
    assert path.quality.loss is not None
    assert 0.05 <= path.quality.loss <= 0.4


def test_a_path_that_dies_again_and_again_has_to_answer_more_than_once() -> None:
    world = World(ProbeConfig(interval_s=5, backoff_max_s=4, jitter=0.0))
    world.begin()
    world.run(10.0)
    ups: list[float] = []
    for _ in range(3):
        world.dead.add(PEER)
        world.run(world.now + 10.0)
        assert world.state() is State.DOWN
        world.dead.clear()
        alive_at, before = world.now, len(world.sent)
        world.run(world.now + 12.0)
        ups.append(sum(1 for at, _ in world.sent[before:] if at <= world.of(PathChanged)[-1][0]))
        assert world.state() is State.UP, alive_at

    assert ups[0] == 1
    assert ups[-1] > ups[0]


def settled(config: ProbeConfig = ProbeConfig()) -> tuple[World, int]:  # noqa: B008
    """A world in which the first probes have been answered, and how many were sent."""
    world = World(config)
    world.begin()
    world.run(40.0)
    return world, len(world.sent)


def hear(world: World, times: int) -> None:
    """Data comes in every five seconds."""
    for _ in range(times):
        world.take(world.prober.on_heard([(WIFI.address, PEER)], world.now))
        world.run(world.now + 5.0)


def test_data_vouches_for_a_path_for_a_while_and_not_without_end() -> None:
    world, before = settled()

    hear(world, times=800)

    assert 2 <= len(world.sent) - before <= 10


def test_data_that_proves_the_path_spares_the_probes() -> None:
    world, before = settled()

    hear(world, times=100)

    assert len(world.sent) == before


def test_quality_is_measured_on_request_although_data_proves_the_path() -> None:
    world, before = settled(ProbeConfig(measures=True))

    hear(world, times=100)

    assert len(world.sent) - before >= 12


def test_a_hint_is_verified_and_never_believed() -> None:
    world, before = settled()

    world.take(world.prober.on_hint(PEER, "status bit", world.now))
    world.run(world.now + 3.0)

    assert len(world.sent) == before + 1
    assert world.state() is State.UP
    assert world.of(PathChanged) == []


def test_only_the_last_dead_pair_makes_a_locator_unreachable() -> None:
    world = World()
    world.begin(WIFI, LTE)
    world.run(40.0)
    world.dead.add(WIFI.address)

    world.run(120.0)
    after_one = world.of(ReachabilityChanged), world.of(PathChanged)
    world.dead.add(PEER)
    world.run(240.0)

    assert after_one[0] == []
    assert [effect for _, effect in after_one[1]] == [PathChanged(WIFI.address, PEER, is_up=False)]
    assert [effect for _, effect in world.of(ReachabilityChanged)] == [ReachabilityChanged(PEER, is_up=False)]


def test_an_uplink_that_reaches_no_peer_while_others_do_is_told_until_it_does_again() -> None:
    world = World()
    world.begin(WIFI, LTE, targets=(PEER, OTHER))
    world.run(40.0)
    world.dead.add(WIFI.address)
    world.run(120.0)
    silent = WIFI.address in world.prober.silent
    world.dead.clear()

    world.run(240.0)

    told = [effect for _, effect in world.of(UplinkChanged)]
    assert silent
    assert told == [UplinkChanged(WIFI.address, is_up=False), UplinkChanged(WIFI.address, is_up=True)]


def test_a_dead_peer_is_not_blamed_on_our_uplinks() -> None:
    world = World()
    world.begin(WIFI, LTE)
    world.run(40.0)
    world.dead.add(PEER)

    world.run(200.0)

    assert WIFI.address not in world.prober.silent
    assert LTE.address not in world.prober.silent


def test_a_late_answer_says_slow_and_not_lost() -> None:
    world = World(ProbeConfig(timeout_s=0.2), rtt_s=0.3)
    world.begin()

    world.run(200.0)

    path = world.prober.path(WIFI.address, PEER)
    assert path is not None
    assert path.quality.loss == 0.0
    assert path.quality.rtt_s == pytest.approx(0.3)
    assert path.timeout_s(ProbeConfig(timeout_s=0.2)) >= 0.3
    assert world.state() is State.UP


def test_round_trip_loss_and_jitter_are_estimated_per_pair() -> None:
    world = World(ProbeConfig(interval_s=5), rtt_s=0.04)
    world.loss_each_way = 0.05
    world.begin()

    world.run(600.0)

    path = world.prober.path(WIFI.address, PEER)
    assert path is not None
    quality = path.quality
    assert quality.rtt_s == pytest.approx(0.04)
    assert quality.jitter_s == pytest.approx(0.0, abs=1e-6)
    assert quality.loss is not None
    assert 0.02 < quality.loss < 0.35
    assert quality.probes == 64


def test_no_more_than_a_hundred_probes_a_second_leave_however_many_locators_there_are() -> None:
    world = World()
    remotes = [ip_address(f"192.0.{2 + n // 200}.{1 + n % 200}") for n in range(600)]
    world.dead.update(remotes)

    world.begin(WIFI, targets=remotes)
    world.run(60.0)

    times = [at for at, _ in world.sent]
    assert max(sum(1 for at in times if start <= at < start + 1) for start in range(60)) <= 170
    assert all(not world.prober.is_reachable(remote) for remote in remotes)


def test_a_forged_or_foreign_answer_changes_nothing() -> None:
    world = World()
    world.begin()
    world.run(1.0)

    unknown = world.prober.on_map_reply(MapReply(999_999, (), is_probe=True), WIFI.address, world.now)
    no_probe = world.prober.on_map_reply(MapReply(1, ()), WIFI.address, world.now)

    assert unknown is None
    assert no_probe is None


def test_a_locator_that_is_used_no_more_is_forgotten() -> None:
    world = World()
    world.begin()
    world.run(40.0)

    world.take(world.prober.on_targets({}, world.now))

    assert world.prober.paths == ()
    assert world.of(WatchForSilence)[-1][1] == WatchForSilence(PEER, None)
    assert world.prober.is_reachable(PEER)


def test_after_a_sleep_everything_is_asked_again_and_nothing_is_held_dead() -> None:
    world = World()
    world.begin()
    world.run(40.0)
    world.dead.add(PEER)
    world.run(120.0)
    assert not world.prober.is_reachable(PEER)
    world.dead.clear()

    world.take(world.prober.on_slept(world.now))
    reachable_at_once = world.prober.is_reachable(PEER)
    world.run(world.now + 1.0)

    assert reachable_at_once
    assert world.state() is State.UP


def test_switched_off_it_asks_nothing() -> None:
    world = World()
    world.begin()

    world.take(world.prober.on_config(ProbeConfig(), False, world.now))

    assert world.prober.paths == ()


def test_every_probe_is_counted_and_every_change_is_told() -> None:
    world = World()
    world.begin()
    world.run(40.0)
    world.dead.add(PEER)
    world.run(100.0)

    assert len(world.of(Count)) == len(world.sent)
    (_, event), *_ = world.of(Event)
    assert isinstance(event, Event)
    assert event.kind == "path-down"
    assert event.fields["rloc"] == str(PEER)


STEPS = st.lists(
    st.tuples(st.sampled_from(["die", "live", "heard", "hint", "silent", "slept", "targets"]), st.floats(0, 40)),
    max_size=25,
)


@settings(max_examples=60, deadline=None)
@given(STEPS, st.floats(0, 0.5))
def test_whatever_happens_a_locator_in_use_is_asked_again(steps: list[tuple[str, float]], loss: float) -> None:
    world = World()
    world.loss_each_way = loss
    world.begin(WIFI, LTE)
    for what, pause in steps:
        world.run(world.now + pause)
        match what:
            case "die":
                world.dead.add(PEER)
            case "live":
                world.dead.clear()
            case "heard":
                world.take(world.prober.on_heard([(WIFI.address, PEER), (LTE.address, OTHER)], world.now))
            case "hint":
                world.take(world.prober.on_hint(PEER, "status bit", world.now))
            case "silent":
                world.take(world.prober.on_unanswered(PEER, pause > 20, world.now))
            case "slept":
                world.take(world.prober.on_slept(world.now))
            case _:
                world.take(world.prober.on_targets({PEER: SOME_EID, OTHER: EID}, world.now))
        wake_at = world.prober.wake_at()
        assert wake_at is not None
        assert wake_at <= world.now + 76.0

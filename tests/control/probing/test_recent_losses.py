"""A path that loses packets all the time is told from one that lost some, and from a dead one."""

from __future__ import annotations

import pytest

from lispmob.control.probing.probing import ProbeConfig
from lispmob.control.probing.recent_losses import CLEAN_ROW, COUNTS_S, QUIET_S, SECONDS_MIN, RecentLosses
from lispmob.protocol.effect import Event
from tests.control.probing.probing_world import PEER, WIFI, World

PROBING = ProbeConfig(interval_s=5.0)
A_THIRD = "..x.x..x.x..x"


def outcomes(pattern: str, every_s: float = 5.0, start: float = 1000.0) -> tuple[RecentLosses, float, list[bool]]:
    """One probe every `every_s` seconds, each lost (x) or answered; with the time after the last, and all changes."""
    losses, now, changes = RecentLosses(), start, []
    for letter in pattern:
        if losses.on_outcome(letter == ".", now - 1.0, now):
            changes.append(losses.is_lossy)
        now += every_s
    return losses, now, changes


def test_a_third_of_the_probes_lost_is_a_lossy_path_with_its_share_and_its_time() -> None:
    losses, now, changes = outcomes(A_THIRD)

    assert changes == [True]
    loss = losses.loss(now)
    assert loss is not None
    assert (round(loss.share, 2), loss.probes) == (round(5 / 13, 2), 13)
    assert loss.over_s == pytest.approx(13 * 5.0 + 1.0)


@pytest.mark.parametrize(
    "pattern",
    [
        "." * 60,
        ".....x.....................",
        "......xxx..................",  # an interruption
        "x" * (SECONDS_MIN - 1),  # too few to tell
        ("." * 20 + "x") * 6,  # a twentieth is no news
    ],
)
def test_some_lost_probes_are_no_lossy_path(pattern: str) -> None:
    losses, now, changes = outcomes(pattern)

    assert changes == []
    assert losses.loss(now) is None


def test_a_volley_that_is_lost_counts_once_however_many_probes_it_has() -> None:
    losses, now, _ = outcomes("." * 20)
    for _ in range(3):
        for place in range(7):
            losses.on_outcome(False, now + place / 10, now + 1.0)
        losses.on_outcome(True, now + 1.0, now + 1.1)
        now += 10.0

    assert not losses.is_lossy


def test_it_ends_after_a_row_of_answers_and_does_not_begin_again_with_what_was_lost_before() -> None:
    _, _, changes = outcomes(A_THIRD + "." * CLEAN_ROW + "x" + "." * 20)

    assert changes == [True, False]


def test_it_ends_when_nothing_was_lost_for_minutes_even_if_few_probes_were_sent() -> None:
    losses, now, _ = outcomes(A_THIRD)
    assert losses.loss(now + QUIET_S - 10.0) is not None

    assert losses.loss(now + QUIET_S + 1.0) is None
    assert losses.on_outcome(True, now + QUIET_S + 10.0, now + QUIET_S + 11.0)
    assert not losses.is_lossy


def test_old_losses_do_not_add_up() -> None:
    pattern = "..x" * 20  # four of eleven lost in the time that counts

    assert outcomes(pattern, every_s=COUNTS_S / 11)[2] == []
    assert outcomes(pattern, every_s=COUNTS_S / 30)[2] == [True]


def test_late_answers_are_no_losses() -> None:
    losses, now = RecentLosses(), 1000.0
    for _ in range(20):
        losses.on_outcome(False, now, now + 1.0)
        losses.on_late(now, now + 1.5)
        now += 5.0

    assert losses.loss(now) is None
    assert losses.is_known(now)


def told(world: World) -> list[str]:
    events = (effect for _, effect in world.told if isinstance(effect, Event))
    return [event.kind for event in events if event.kind in ("path-lossy", "path-steady")]


@pytest.mark.parametrize("loss_each_way", [0.17, 0.22])
@pytest.mark.parametrize("seed", range(4))
def test_a_path_is_lossy_after_some_minutes_of_loss_stays_so_and_ends_after_it(seed: int, loss_each_way: float) -> None:
    world = World(PROBING, seed=seed)
    world.begin(WIFI)
    world.clock.run(120.0)
    assert told(world) == []

    world.loss_each_way = loss_each_way
    world.clock.run(600.0)
    assert told(world) == ["path-lossy"]
    world.clock.run(1800.0)
    assert told(world) == ["path-lossy"]

    world.loss_each_way = 0.0
    world.clock.run(240.0)
    (path,) = world.prober.paths
    assert path.losses.loss(world.now) is None
    assert told(world) == ["path-lossy", "path-steady"]


def test_no_probe_is_sent_for_it() -> None:
    world = World(PROBING)
    world.begin(WIFI)
    world.clock.run(600.0)

    assert len(world.sent) <= 600.0 / (PROBING.interval_s * (1 - PROBING.jitter)) + 1


@pytest.mark.parametrize("seed", range(6))
def test_a_path_that_loses_one_probe_in_25_is_not_lossy(seed: int) -> None:
    world = World(PROBING, seed=seed)
    world.loss_each_way = 0.02
    world.begin(WIFI)
    world.clock.run(3600.0)

    assert told(world) == []


def test_request_and_answer_with_a_third_lost_show_it_within_minutes() -> None:
    world = World()
    world.begin(WIFI)
    world.clock.run(5.0)

    world.loss_each_way = 0.16
    world.flow(306.0, 1.0)
    world.clock.run(300.0)

    assert told(world) == ["path-lossy"]


def test_a_path_that_dies_and_comes_back_is_not_lossy() -> None:
    world = World(PROBING)
    world.begin(WIFI)
    for _ in range(6):
        world.clock.run(40.0)
        world.dead.add(PEER)
        world.clock.run(20.0)
        world.dead.clear()

    assert told(world) == []

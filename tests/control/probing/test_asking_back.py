"""A peer that probes us may be in doubt: pairs without recent proof are probed in return, and no others."""

from __future__ import annotations

import pytest

from lispmob.control.probing.path import PROOF_LASTS_S, Pair
from tests.control.probing.probing_world import LTE, PEER, WIFI, World

PROBED = Pair(WIFI.address, PEER)
ELSEWHERE = LTE.address


def settled() -> World:
    """Both pairs are up, and have been quiet for longer than a proof is valid."""
    world = World()
    world.begin(WIFI, LTE)
    world.run(PROOF_LASTS_S + 2.0)
    assert not any(path.is_down for path in world.prober.paths)
    world.sent.clear()
    return world


def sent_to_the_pair(world: World) -> int:
    world.take(world.prober.on_timer(world.now))
    return sum(pair == PROBED for _, pair in world.sent)


def test_a_pair_that_nothing_has_proven_is_asked_back_at_once() -> None:
    world = settled()

    world.take(world.prober.on_probed(PEER, ELSEWHERE, world.now))

    assert world.prober.wake_at() == world.now
    assert sent_to_the_pair(world) == 1


def test_data_that_is_told_of_before_the_timer_is_proof_enough() -> None:
    """The data came in before the probe, and the datapath had not been polled since then."""
    world = settled()

    world.take(world.prober.on_probed(PEER, ELSEWHERE, world.now))
    world.take(world.prober.on_heard([(WIFI.address, PEER)], world.now))

    assert sent_to_the_pair(world) == 0


def test_the_pair_that_the_probe_came_by_is_not_asked_back() -> None:
    world = settled()

    world.take(world.prober.on_probed(PEER, WIFI.address, world.now))

    assert sent_to_the_pair(world) == 0


@pytest.mark.parametrize("probes", [2, 20])
def test_a_peer_that_probes_often_is_asked_back_once(probes: int) -> None:
    world = settled()

    for _ in range(probes):
        world.take(world.prober.on_probed(PEER, ELSEWHERE, world.now))
        world.take(world.prober.on_timer(world.now))

    assert sent_to_the_pair(world) == 1


def test_a_pair_that_is_gone_when_the_timer_comes_is_not_asked() -> None:
    world = settled()

    world.take(world.prober.on_probed(PEER, ELSEWHERE, world.now))
    world.begin(LTE)

    assert sent_to_the_pair(world) == 0

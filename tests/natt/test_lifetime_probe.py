"""The binding lifetime as measured through NATs whose lifetime is known."""

from __future__ import annotations

from itertools import count

import pytest

from lispmob.natt.keepalive import SHORTEST_S, Lifetime
from lispmob.natt.lifetime_probe import LifetimeProbe, Phase
from lispmob.wire.map_reply import MapReply
from lispmob.wire.record import MappingRecord
from tests.internet.nat import Kind, NatBox
from tests.internet.network import World, ip
from tests.natt.probing_host import ProbingHost, Servers, seen_at
from tests.natt.world import EID, locator


def prober(world: World, nat: NatBox) -> ProbingHost[LifetimeProbe]:
    here = locator()
    probe = LifetimeProbe(here, EID, seen_at(nat.public), new_nonce=count(1).__next__, known=Lifetime())
    return ProbingHost(world, nat, here, probe)


def measured(timeout_s: float, **options: object) -> Lifetime:
    world = World()
    Servers(world)
    nat = NatBox(world, "203.0.113.200", timeout_s=timeout_s, **options)  # type: ignore[arg-type]
    host = prober(world, nat)
    world.run(1800.0)
    assert host.probe.wake_at() is None
    return host.probe.lifetime


@pytest.mark.parametrize("kind", [Kind.ENDPOINT_INDEPENDENT, Kind.ADDRESS_DEPENDENT])
@pytest.mark.parametrize("timeout_s", [12.0, 25.0, 45.0, 90.0, 150.0, 600.0])
def test_the_interval_fits_the_nat(timeout_s: float, kind: Kind) -> None:
    interval_s = measured(timeout_s, mapping=kind, filtering=kind).interval_s

    assert interval_s <= max(0.75 * timeout_s, SHORTEST_S)
    assert interval_s >= min(0.3 * timeout_s, 60.0)


def test_a_symmetric_nat_is_measured_as_well() -> None:
    world = World()
    Servers(world)
    kind = Kind.ADDRESS_AND_PORT_DEPENDENT
    host = prober(world, NatBox(world, "203.0.113.200", mapping=kind, filtering=kind, timeout_s=45.0))

    world.run(600.0)

    assert (host.probe.lifetime.at_least_s, host.probe.lifetime.below_s) == (30.0, 60.0)


def test_with_a_server_that_resolves_nothing_nothing_is_learnt_and_the_probe_gives_up() -> None:
    world = World()
    Servers(world, resolves=False)
    host = prober(world, NatBox(world, "203.0.113.200"))

    world.run(1800.0)

    assert host.probe.lifetime == Lifetime()
    assert host.probe.wake_at() is None


def test_an_answer_without_a_question_is_counted() -> None:
    world = World()
    Servers(world)
    host = prober(world, NatBox(world, "203.0.113.200"))
    stray = MapReply(12345, MapReply.decode(_reply()).records).encode()

    assert [str(effect) for effect in host.probe.on_spare_datagram(stray, 1.0)] == ["Count(name='rx_nonce')"]


def test_an_answer_to_another_question_does_not_end_a_trial() -> None:
    world = World()
    Servers(world, resolves=False)
    host = prober(world, NatBox(world, "203.0.113.200"))
    while host.probe.phase is not Phase.ASKING:
        world.run(0.5)
    stray = MapReply(12345, MapReply.decode(_reply()).records).encode()

    said = [str(effect) for effect in host.probe.on_spare_datagram(stray, world.now)]

    assert said == ["Count(name='rx_nonce')"]
    assert host.probe.phase is Phase.ASKING


def _reply() -> bytes:
    return MapReply(1, (MappingRecord.of(EID),)).encode()


def test_the_place_outside_has_to_be_the_one_that_the_uplink_is_seen_at() -> None:
    world = World()
    Servers(world)
    nat = NatBox(world, "203.0.113.200")
    host = prober(world, nat)
    nat.renumber(str(ip("203.0.113.201")))
    host.restart()

    world.run(4.0)

    assert host.probe.phase.value == "resting"


def test_a_server_that_answers_nothing_is_asked_in_five_trials_and_no_more() -> None:
    world = World()
    Servers(world, resolves=False)
    host = prober(world, NatBox(world, "203.0.113.200"))
    trials, before = 0, host.probe.phase
    for _ in range(3600):
        world.run(0.5)
        trials += before is not Phase.RESTING and host.probe.phase is Phase.RESTING
        before = host.probe.phase

    assert trials == 5
    assert host.probe.wake_at() is None

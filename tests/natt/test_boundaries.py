"""Waits and limits of the NAT traversal, each just below and just above its boundary."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count

import pytest

from lispmob.natt.checksum_probe import ChecksumProbe
from lispmob.natt.firewall_probe import FirewallProbe, Way, WayFound
from lispmob.natt.keepalive import Lifetime, interval_for
from lispmob.natt.rtr import RtrChoice, RtrProbes
from lispmob.protocol.effect import SendControl
from lispmob.wire.map_reply import MapReply
from tests.control.support import only
from tests.internet.nat import NatBox
from tests.internet.network import World, ip
from tests.natt.world import EID, MAP_SERVER, RTR, RTR2, MapServerHost, NodeHost, RtrHost, locator

RTR3 = ip("198.51.100.79")


@pytest.mark.parametrize(
    ("known", "trial_s"),
    [
        (Lifetime(), 15.0),
        (Lifetime(14.9), 15.0),
        (Lifetime(15.0), 30.0),
        (Lifetime(120.0), 160.0),
        (Lifetime(160.0), None),  # as long as the longest keepalive interval needs
        (Lifetime(15.0, 60.0), 30.0),
        (Lifetime(15.0, 30.0), 22.5),  # short intervals cost packets, so they are found to within 5 s
        (Lifetime(15.0, 20.1), pytest.approx(17.55)),
        (Lifetime(15.0, 20.0), None),
        (Lifetime(20.0, 30.1), pytest.approx(30.0)),
        (Lifetime(30.0, 60.0), None),
        (Lifetime(0.0, 15.0), 7.5),
        (Lifetime(0.0, 5.1), pytest.approx(2.55)),
        (Lifetime(0.0, 5.0), None),
    ],
)
def test_a_lifetime_is_tried_until_it_is_known_well_enough(known: Lifetime, trial_s: float | None) -> None:
    assert known.next_trial_s() == trial_s
    assert known.is_measured == (trial_s is None)


@pytest.mark.parametrize(
    ("known", "interval_s"),
    [
        (Lifetime(), 20.0),  # unmeasured
        (Lifetime(26.0), 20.0),
        (Lifetime(28.0), 21.0),  # three quarters
        (Lifetime(0.0, 15.0), 5.0),  # a NAT that forgets faster than that is not worth a battery
        (Lifetime(6.0, 15.0), 5.0),
        (Lifetime(8.0, 15.0), 6.0),
        (Lifetime(159.0), 119.25),
        (Lifetime(200.0), 120.0),  # a registration expires after 180 s
    ],
)
def test_a_binding_is_kept_by_three_quarters_of_its_lifetime_from_5_to_120_seconds(
    known: Lifetime, interval_s: float
) -> None:
    assert known.interval_s == interval_s
    assert interval_for(known, None, 1000.0) == interval_s
    assert interval_for(known, 33.0, 1000.0) == 33.0
    assert interval_for(known, 33.0, 4.0) == 4.0


@pytest.mark.parametrize(("after_s", "counts"), [(0.5, True), (3.0, True), (3.01, False)])
def test_the_answer_of_a_spare_rtr_counts_for_three_seconds(after_s: float, counts: bool) -> None:
    probes = RtrProbes(locator(), new_nonce=count(7).__next__)
    probes.probe([RTR2], now=100.0)

    answer = probes.on_map_reply(MapReply(7, (), is_probe=True), 100.0 + after_s)

    assert (answer is not None) == counts
    if answer is not None:
        assert answer[0] == RTR2
        assert answer[1] == pytest.approx(after_s)
    assert probes.on_map_reply(MapReply(7, (), is_probe=True), 100.0) is None, "an answer counts once"


def test_an_answer_to_another_kind_of_question_is_none_of_a_spare_rtr() -> None:
    probes = RtrProbes(locator(), new_nonce=count(7).__next__)
    probes.probe([RTR2], now=100.0)

    assert probes.on_map_reply(MapReply(7, ()), 100.1) is None
    assert probes.on_map_reply(MapReply(8, (), is_probe=True), 100.1) is None
    assert probes.on_map_reply(MapReply(7, (), is_probe=True), 100.1) is not None


@pytest.mark.parametrize(("rtt_s", "next_rtr"), [(0.99, RTR3), (1.01, RTR2)])
def test_an_rtr_that_was_never_measured_ranks_as_if_it_answered_within_a_second(rtt_s: float, next_rtr: object) -> None:
    choice = RtrChoice()
    choice.on_offered((RTR, RTR2, RTR3))
    choice.on_answered(RTR3, rtt_s)

    assert choice.on_failed() == next_rtr


def test_a_round_trip_counts_a_quarter_beside_the_former_ones() -> None:
    choice = RtrChoice()
    choice.on_offered((RTR,))
    for rtt_s in (0.1, 0.5):
        choice.on_answered(RTR, rtt_s)

    assert choice.rtt_s(RTR) == pytest.approx(0.2)


def times_asked(wake_at: Callable[[], float | None], on_timer: Callable[[float], object]) -> list[float]:
    """When a probe that nothing answers wakes; a call just before changes nothing."""
    found: list[float] = []
    while (at := wake_at()) is not None:
        assert on_timer(at - 0.001) == []
        found.append(at)
        on_timer(at)
        assert len(found) < 10
    return found


def test_packets_without_a_checksum_are_given_up_three_seconds_after_the_first_of_three_tries() -> None:
    probe = ChecksumProbe(locator(), new_nonce=count(1).__next__)
    assert len(only(probe.on_rtr(RTR, 10.0), SendControl)) == 1

    assert times_asked(probe.wake_at, probe.on_timer) == [11.0, 12.0, 13.0]
    assert probe.passes_to(RTR) is False
    assert probe.passes_to(RTR2) is None


@pytest.mark.parametrize(
    ("answered", "way"), [(0, Way.UNKNOWN), (1, Way.UNKNOWN), (2, Way.FILTERED), (3, Way.FILTERED)]
)
def test_a_firewall_is_believed_after_two_answers_that_came_by_the_other_port_alone(answered: int, way: Way) -> None:
    probe = FirewallProbe(locator(), EID, MAP_SERVER, 50321, new_nonce=count(1).__next__)
    control_nonce, said, now = 2, list[object](), 10.0
    assert len(probe.start(now)) == 2
    for tries in range(1, 4):
        if tries <= answered:
            assert probe.on_control_reply(MapReply(control_nonce, ()))
        assert probe.wake_at() == now + tries
        said += [effect for effect in probe.on_timer(now + tries) if isinstance(effect, WayFound)]

    assert said == [WayFound(locator().address, way)]
    assert probe.way is way
    assert probe.wake_at() is None


def test_a_node_that_stops_withdraws_by_one_uplink_alone() -> None:
    world = World()
    server = MapServerHost(world)
    RtrHost(world)
    node = NodeHost(world)
    near, far = NatBox(world, "203.0.113.200"), NatBox(world, "203.0.113.201")
    node.attach((locator("192.168.1.2", 2), near), (locator("10.9.9.9", 3), far))
    world.run(2.0)
    assert [machine.state.value for machine in node.traversal.machines] == ["relayed", "relayed"]

    node.perform(node.traversal.on_shutdown(world.now))
    withdrawn = node.outbound(world.now)
    world.run(0.2)

    assert len({one.source for one in withdrawn}) == 1
    assert server.record() is None


@pytest.mark.parametrize("moves", [False, True])
def test_an_uplink_registers_again_when_the_next_info_reply_shows_another_place_and_only_then(moves: bool) -> None:
    world = World()
    MapServerHost(world)
    RtrHost(world)
    nat = NatBox(world, "203.0.113.200", timeout_s=7200.0)
    node = NodeHost(world, keepalive_s=47.0)
    node.attach((locator(), nat))
    world.run(1.0)
    world.run(3600.0 - 1.5)  # the reply was for an hour; no keepalive is due soon
    if moves:
        nat.renumber("203.0.113.201")
    since = world.now

    world.run(2.0)

    assert bool(node.outbound(since)) == moves
    assert bool([event for at, event in node.events if at > since and event.kind == "natt"]) == moves
    assert node.state == "relayed"


@pytest.mark.parametrize(("priority", "state"), [(1, "relayed"), (254, "relayed"), (255, "idle")])
def test_an_uplink_with_priority_255_asks_for_no_rtr(priority: int, state: str) -> None:
    world = World()
    MapServerHost(world)
    RtrHost(world)
    node = NodeHost(world)
    node.attach((locator(priority=priority), NatBox(world, "203.0.113.200")))

    world.run(2.0)

    assert node.state == state
    assert bool(node.traversal.plan.defaults) == (state == "relayed")


def test_the_lifetimes_of_16_nats_are_remembered() -> None:
    world = World()
    MapServerHost(world)
    RtrHost(world)
    node = NodeHost(world)
    nats = [NatBox(world, f"203.0.113.{100 + number}") for number in range(17)]
    for number, nat in enumerate(nats):
        node.attach((locator(ifindex=2 + number), nat))
        world.run(1.0)
        node.perform(node.traversal.on_lifetime(node.traversal.machines[0].locator.place, Lifetime(60.0), world.now))

    intervals = []
    for number, nat in reversed([*enumerate(nats)]):
        node.attach((locator(ifindex=102 + number), nat))
        world.run(1.0)
        intervals.append(node.traversal.machines[0].lifetime)

    assert intervals == [Lifetime(60.0)] * 16 + [Lifetime()]


def test_the_place_outside_is_that_of_the_best_uplink_behind_a_nat_and_none_without_one() -> None:
    world = World()
    MapServerHost(world)
    RtrHost(world)
    node = NodeHost(world)
    near, far = NatBox(world, "203.0.113.200"), NatBox(world, "203.0.113.201")
    places = [node.traversal.outside]
    node.attach((locator("192.168.1.2", 2, priority=2), near), (locator("10.9.9.9", 3, priority=1), far))
    world.run(2.0)

    places.append(node.traversal.outside)
    node.attach((locator("192.0.2.10"), world.internet))
    world.run(2.0)
    places.append(node.traversal.outside)

    assert [place and (str(place[0].address), str(place[1].address)) for place in places] == [
        None,
        ("10.9.9.9", "203.0.113.201"),
        None,
    ]


def test_a_lifetime_of_an_uplink_whose_nat_has_no_address_yet_or_that_is_gone_is_remembered_for_none() -> None:
    world = World()
    node, nat = NodeHost(world), NatBox(world, "203.0.113.200")
    node.attach((locator(), nat))
    place = node.traversal.machines[0].locator.place

    node.perform(node.traversal.on_lifetime(place, Lifetime(60.0), 0.0))
    node.perform(node.traversal.on_lifetime((place[0], 99), Lifetime(60.0), 0.0))
    MapServerHost(world)
    RtrHost(world)
    node.attach((locator(ifindex=7), nat))
    world.run(120.0)

    assert node.state == "relayed"
    assert node.traversal.machines[0].lifetime == Lifetime()


@pytest.mark.parametrize("has_server", [True, False])
def test_an_uplink_counts_as_unserved_once_no_server_has_answered_and_no_sooner(has_server: bool) -> None:
    world = World()
    if has_server:
        MapServerHost(world)
        RtrHost(world)
    node = NodeHost(world)
    node.attach((locator(), NatBox(world, "203.0.113.200")))
    (machine,) = node.traversal.machines
    assert not machine.is_unserved

    world.run(60.0)

    assert machine.is_unserved is not has_server

"""The purpose of a node: it moves, and its peers hardly notice."""

from __future__ import annotations

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from lispmob.control.registration import LIFETIME_S, State
from lispmob.wire.address import EidPrefix
from lispmob.wire.map_request import EidRecord, MapRequest
from tests.internet.world import HUB, Packet, Weather, build, ip, locator

PHASES = [phase for phase in Phase if phase is not Phase.explain]
FOUL = Weather(loss=0.2, duplication=0.1, delay_s=(0.005, 0.25))


def test_nodes_that_are_registered_reach_each_other() -> None:
    lab = build(nodes=3)

    lab.chat(1.0)

    assert lab.is_connected()


def test_a_peer_follows_a_move_within_two_round_trips() -> None:
    lab = build()
    mover, peer = lab.nodes
    lab.chat(2.0)

    mover.attach(locator("203.0.113.7", ifindex=3))
    lab.world.run(0.05)  # SMR, Map-Request, Map-Reply, data: 10 ms each way
    start = lab.world.now
    peer.talk_to(mover)
    lab.world.run(0.02)

    assert [at for at, _ in mover.received if at >= start]


def test_a_move_is_registered_before_it_is_told() -> None:
    lab = build()
    mover, _ = lab.nodes
    lab.chat(2.0)
    start = len(mover.sent)

    mover.attach(locator("203.0.113.7"))

    first_bytes = [effect.payload[0] for _, effect in mover.sent[start:]]
    assert first_bytes[0] >> 4 == 3
    assert MapRequest.decode(mover.sent[start + 1][1].payload).is_smr


@pytest.mark.parametrize("seed", range(12))
def test_two_nodes_that_move_at_once_in_foul_weather_find_each_other(seed: int) -> None:
    lab = build(seed=seed, weather=FOUL)
    lab.chat(20.0)

    for number, node in enumerate(lab.nodes, start=1):
        node.attach(locator(f"203.0.113.{number}", ifindex=3))
    lab.chat(30.0)

    assert lab.is_connected()


def test_a_node_that_was_away_for_minutes_is_back_at_once() -> None:
    lab = build()
    mover, peer = lab.nodes
    lab.chat(5.0)

    mover.attach()
    lab.chat(100.0)
    mover.attach(locator("203.0.113.7"))
    lab.world.run(0.1)
    start = lab.world.now
    peer.talk_to(mover)
    lab.world.run(0.02)

    assert [at for at, _ in mover.received if at >= start]


def test_a_node_that_slept_registers_again_when_it_wakes() -> None:
    lab = build()
    sleeper, _ = lab.nodes
    lab.chat(2.0)
    sleeper.is_asleep = True
    lab.world.run(2 * LIFETIME_S)
    assert lab.hubs[0].plane.map_server.registrations.lookup(sleeper.eid) is None

    sleeper.is_asleep = False
    sleeper.perform(sleeper.node.on_slept(lab.world.now))
    lab.world.run(1.0)

    assert lab.hubs[0].plane.map_server.registrations.lookup(sleeper.eid) is not None


def test_a_hub_that_was_away_gets_every_registration_back() -> None:
    lab = build(nodes=3)
    lab.hubs[0].is_up = False
    lab.world.run(400.0)
    assert [registration.state for node in lab.nodes for registration in node.node.registrations] == [State.LOST] * 3

    lab.hubs[0].is_up = True
    lab.world.run(61.0)

    assert all(registration.is_confirmed for node in lab.nodes for registration in node.node.registrations)


def test_a_second_hub_answers_when_the_first_is_silent() -> None:
    lab = build(hubs=(HUB, "192.0.2.2"))
    lab.hubs[0].is_up = False

    lab.chat(3.0)

    assert lab.is_connected()


def test_an_unregistered_eid_is_asked_for_once_and_then_left_alone() -> None:
    lab = build()
    node, other = lab.nodes
    other.perform(other.node.on_shutdown(lab.world.now))
    lab.world.run(1.0)
    start = len(node.sent)

    for _ in range(20):
        node.talk_to(other)
        lab.world.run(1.0)

    asked = [effect for _, effect in node.sent[start:] if effect.payload[0] >> 4 == 8]
    assert len(asked) == 1


def test_a_forged_smr_costs_one_lookup_and_changes_nothing() -> None:
    lab = build()
    node, peer = lab.nodes
    lab.chat(2.0)
    before = node.table.lookup(peer.eid)
    asked = (EidRecord.of(EidPrefix.host(node.eid)),)
    attacker = ip("203.0.113.66")
    forged = MapRequest(0, peer.eid, (attacker,), asked, is_smr=True, dont_map_reply=True)

    for _ in range(100):
        lab.world.internet.send(Packet(attacker, ip("198.51.100.1"), forged.encode()))
    start = len(node.sent)
    lab.world.run(2.0)

    requests = [effect for _, effect in node.sent[start:] if effect.payload[0] >> 4 == 8]
    assert len(requests) <= 3
    assert {effect.destination for effect in requests} <= {ip(HUB)}
    assert node.table.lookup(peer.eid) == before


moves = st.lists(
    st.tuples(
        st.integers(0, 2),  # which node moves
        st.lists(st.integers(1, 40), max_size=2, unique=True),  # to which addresses
        st.floats(0.01, 30.0),  # and how long all stay there
    ),
    min_size=1,
    max_size=8,
)


@settings(max_examples=25, deadline=None, phases=PHASES)
@given(moves, st.integers(0, 1000))
def test_whatever_the_moves_and_the_weather_all_are_connected_when_it_clears(
    steps: list[tuple[int, list[int], float]], seed: int
) -> None:
    lab = build(nodes=3, seed=seed, weather=FOUL)
    for who, addresses, pause_s in steps:
        lab.nodes[who].attach(*(locator(f"203.0.113.{40 * who + address}", ifindex=address) for address in addresses))
        lab.chat(pause_s)
        assert all((node.node.wake_at() is not None) or not node.node.locators for node in lab.nodes)

    for number, node in enumerate(lab.nodes, start=1):
        node.attach(locator(f"198.51.100.{100 + number}"))
    lab.chat(12.0)
    lab.world.internet.weather = Weather()
    lab.chat(20.0)  # a register that is lost repeatedly is sent again after 1, 3, 7, 15, 31 s

    assert lab.is_connected()

"""Nonces in data (RFC 9300, 10.1): the probes that they save, and the failures that only they detect."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from lispmob.control.probing.path import ProbeConfig, State
from lispmob.control.probing.probing import ReachabilityChanged
from lispmob.protocol.effect import AskForEcho, SendControl
from lispmob.wire.map_reply import MapReply
from lispmob.wire.map_request import EidRecord, MapRequest
from tests.control.probing.probing_world import LTE, PEER, PEER6, WIFI, WIFI6, World
from tests.control.support import EID, only
from tests.node.test_node import CONFIG, datagram, node

ECHOES = ProbeConfig(echoes=True)


def hearing(config: ProbeConfig = ECHOES, *, echoes: bool = True, seed: int = 1) -> World:
    """Data comes in from the peer for a quarter of an hour; the only proof of the way there is one probe's answer."""
    world = World(config, seed=seed)
    world.echoes = echoes
    world.begin()
    world.run(2.0)
    world.hear(900.0)
    return world


def asked(world: World) -> list[int]:
    return [ask.nonce for _, ask in world.of(AskForEcho) if isinstance(ask, AskForEcho) and ask.nonce is not None]


def test_nonces_that_come_back_save_every_probe() -> None:
    world = hearing()

    world.run(600.0)

    assert len(world.sent) == 1
    assert 600 / 30 / 1.25 - 2 <= len(asked(world)) <= 600 / 30 / 0.75
    assert all(0 <= nonce < 1 << 24 for nonce in asked(world))
    assert world.state() is State.UP


def test_a_locator_that_swallows_what_we_send_while_its_data_comes_in_is_found_dead_by_the_missing_echo() -> None:
    world = hearing()
    world.run(100.0)
    world.swallowing.add(PEER)

    world.run(300.0)

    at, change = world.of(ReachabilityChanged)[0]
    assert change == ReachabilityChanged(PEER, is_up=False)
    longest_s = ECHOES.interval_s * (1 + ECHOES.jitter)
    assert at - 100.0 <= longest_s + (1 + ECHOES.tries) * ECHOES.timeout_s
    assert AskForEcho(PEER, None) in [ask for _, ask in world.of(AskForEcho)]


@pytest.mark.parametrize(("config", "echoes"), [(ProbeConfig(), True), (ECHOES, False)])
def test_a_peer_is_asked_only_if_it_says_that_it_answers_and_by_default_none_is(
    config: ProbeConfig, echoes: bool
) -> None:
    world = hearing(config, echoes=echoes)

    world.run(300.0)

    assert asked(world) == []


def test_without_data_from_there_a_nonce_could_not_come_back_and_probes_ask() -> None:
    world = World(ECHOES)
    world.echoes = True
    world.begin()

    world.run(300.0)

    assert asked(world) == []
    assert len(world.sent) > 300 / 30 / 1.25 - 1


def test_a_locator_that_data_goes_to_is_asked_though_the_peer_sends_by_another_one_of_its_own() -> None:
    world = World(ECHOES)
    world.echoes = True
    world.begin(WIFI, WIFI6, targets=(PEER, PEER6))
    world.run(2.0)
    for second in range(2, 100):
        world.run(second)
        world.take(world.prober.on_heard([(WIFI6.address, PEER6)], world.now))

    assert len(asked(world)) >= 2
    assert [pair.remote for _, pair in world.sent].count(PEER) == 1


def test_who_cannot_echo_since_he_sends_to_another_locator_of_ours_is_probed_and_asked_again_seldom() -> None:
    world = hearing()
    world.swallows_nonces = True

    world.run(700.0)

    assert len(asked(world)) <= 3
    assert len(world.sent) > 700 / 30 / 1.25 - 2
    assert world.state() is State.UP


def test_an_echo_to_another_locator_of_ours_proves_nothing_about_this_one() -> None:
    world = hearing()
    world.swallowing.add(PEER)
    while not asked(world):
        world.run(world.now + 0.5)

    world.take(world.prober.on_echoed(LTE.address, PEER, world.now))
    world.run(world.now + 2.0)

    assert len(world.sent) > 1


@settings(max_examples=50)
@given(
    st.integers(0, 1000),
    st.lists(st.tuples(st.floats(0.1, 60), st.sampled_from(["swallow", "heal", "die", "sleep", "hint"])), max_size=12),
)
def test_data_causes_no_question_for_longer_than_its_sender_waits(seed: int, events: list[tuple[float, str]]) -> None:
    world = hearing(seed=seed)
    for pause_s, what in events:
        world.run(world.now + pause_s)
        match what:
            case "swallow":
                world.swallowing.add(PEER)
            case "heal":
                world.swallowing.clear()
                world.dead.clear()
            case "die":
                world.dead.add(PEER)
            case "sleep":
                world.take(world.prober.on_slept(world.now))
            case _:
                world.take(world.prober.on_hint(PEER, "hint", world.now))
    world.dead.add(PEER)
    world.run(world.now + 200.0)

    last = world.of(AskForEcho)[-1:]
    path = world.prober.path(WIFI.address, PEER)
    assert path is not None
    assert not path.is_asking
    assert not last or last[0][1] == AskForEcho(PEER, None) or world.echoed_at[-1:] > [last[0][0]]


@pytest.mark.parametrize("echoes", [False, True])
def test_our_answers_say_whether_we_echo(echoes: bool) -> None:
    machine = node(replace(CONFIG, echo_nonce=echoes))
    machine.on_locators([WIFI], 0.0)
    probe = MapRequest(5, None, (PEER,), (EidRecord.of(EID),), is_probe=True)

    answer = only(machine.on_datagram(datagram(probe.encode(), source=PEER), 1.0), SendControl)[0]

    assert MapReply.decode(answer.payload).has_echo_nonce == echoes

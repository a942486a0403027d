"""How a flow ends at both sides: closed, cancelled, silent, or with its host. In memory, in virtual time."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lispmob.flow.effect import Failure
from lispmob.flow.message import Kind, Reason, decode
from tests.internet.network import Weather

from .world import A, B, Network, from_the_holder, kinds, nothing, pair


@pytest.mark.parametrize("closer", ["caller", "holder"])
def test_when_one_side_closes_the_other_is_notified_once(closer: str) -> None:
    network, a, b = pair(Network(weather=Weather(duplication=0.5, loss=0.2)))
    a.call(B, "backup")
    network.run(5.0)

    (a if closer == "caller" else b).close((a if closer == "caller" else b).opened[0].flow)
    network.run(60.0)

    told, silent = (b, a) if closer == "caller" else (a, b)
    assert [ended.reason_code for ended in told.ended] == [Reason.DONE]
    assert silent.ended == []
    assert a.ports == b.ports == {}


@pytest.mark.parametrize("lost", [0, 1, 2])
def test_a_lost_close_of_the_holder_is_said_again_and_no_more_once_it_was_answered(lost: int) -> None:
    network, a, b = pair()
    a.call(B, "backup")
    network.run(5.0)
    said: list[bytes] = []
    network.lose = lambda octets, way: way.source == B and (said.append(octets) or len(said) <= lost)  # type: ignore[func-returns-value]

    b.close(b.opened[0].flow)
    network.run(60.0)

    assert [ended.reason_code for ended in a.ended] == [Reason.DONE]
    assert len(said) == lost + 1
    assert b.endpoint.wake_at() is None


def test_a_holder_that_is_not_answered_says_close_three_times_and_forgets() -> None:
    network, a, b = pair()
    a.call(B, "backup", lifetime_s=0)
    network.run(5.0)
    network.weather = replace(network.weather, loss=1.0)
    network.sent.clear()

    b.close(b.opened[0].flow)
    network.run(60.0)

    assert [at - network.sent[0][0] for at, _, _ in network.sent] == pytest.approx([0.0, 0.5, 1.5])
    assert b.endpoint.wake_at() is None


def test_a_peer_that_is_gone_is_noticed_within_the_lifetime_by_both() -> None:
    network, a, b = pair()
    a.call(B, "backup", lifetime_s=30)
    network.run(5.0)

    network.weather = replace(network.weather, loss=1.0)
    network.run(60.0)

    assert [ended.reason_code for ended in a.ended] == [Reason.NO_ANSWER]
    assert [ended.reason_code for ended in b.ended] == [Reason.NO_ANSWER]


def test_a_flow_that_lives_is_kept_for_days_and_no_timer_wakes_for_one_without_lifetime() -> None:
    network, a, b = pair()
    a.call(B, "backup", lifetime_s=600)
    network.run(2 * 86400.0)
    assert a.ended == b.ended == []

    network, a, b = pair()
    a.call(B, "backup", lifetime_s=0)
    network.run(60.0)

    assert a.endpoint.wake_at() is None
    assert b.endpoint.wake_at() is None


def test_an_alive_of_an_unknown_flow_is_met_with_silence() -> None:
    network, a, b = pair()
    a.call(B, "backup", lifetime_s=60)
    network.run(1.0)
    network.lose = from_the_holder
    b.close(b.opened[0].flow)  # its messages are lost, as after a restart
    network.run(18.0)
    network.lose = nothing
    network.sent.clear()

    network.run(80.0)

    assert Kind.ALIVE in kinds(network)
    assert all(way.source == A for _, octets, way in network.sent if decode(octets).kind is Kind.ALIVE)


def test_a_stop_is_told_to_every_end() -> None:
    network, a, b = pair()
    a.call(B, "backup")
    a.call(B, "backup")
    network.run(1.0)

    b.perform(b.endpoint.close_all(network.now))
    network.run(1.0)

    assert [ended.reason_code for ended in a.ended] == [Reason.SHUTTING_DOWN] * 2


def test_a_call_that_is_cancelled_takes_its_offer_back() -> None:
    network, a, b = pair(Network(lose=from_the_holder))
    flow = a.call(B, "backup")
    network.run(0.5)
    assert len(b.ports) == 1

    a.close(flow)
    network.run(1.0)

    assert a.failed[0].failure is Failure.CANCELLED
    assert b.ports == {}

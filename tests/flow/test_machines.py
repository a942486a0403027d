"""Allocation, its refusals, and how it copes with loss, forgery and floods. In memory, in virtual time."""

from __future__ import annotations

from ipaddress import ip_address
from itertools import pairwise
from statistics import median

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lispmob.flow.auth import FlowKey, Way
from lispmob.flow.effect import Failure
from lispmob.flow.holder import Legacy, NameTaken
from lispmob.flow.limits import Limits
from lispmob.flow.message import Kind, Message, Reason, decode, encode, is_version_1
from lispmob.flow.quality import FlowClass, Quality
from tests.internet.network import FAIR, Weather

from .world import A, B, Host, Network, from_the_holder, kinds, nothing, pair

KEY = FlowKey(7, b"sixteen octets at least")
STRANGER = ip_address("10.99.0.66")


# --- opening


def test_a_flow_is_open_after_one_round_trip_and_both_ends_have_it() -> None:
    network, a, b = pair()

    flow = a.call(B, "backup")
    network.run(1.0)

    assert a.opened_at[flow] == pytest.approx(1000.02)
    assert [opened.port for opened in b.opened] == [50000]
    assert a.connected[flow] == (B, 40000)


def test_the_caller_stops_asking_and_confirming_once_it_was_answered() -> None:
    network, a, _b = pair()

    a.call(B, "backup", lifetime_s=0)
    network.run(60.0)

    assert kinds(network) == [Kind.REQUEST, Kind.ACCEPT, Kind.ACCEPT, Kind.CONFIRM, Kind.CONFIRM, Kind.CONFIRM]


def test_a_name_is_found_with_and_without_host_and_domain_and_case() -> None:
    network = Network()
    a, b = Host(network, A, "a"), Host(network, B, "b", domain="lisp.home.arpa")
    b.hold("Backup")

    for name in ("backup", "BACKUP.b", "backup.B.lisp.home.arpa", "backup.lisp.home.arpa"):
        a.call(B, name)
    a.call(B, "backup.c")
    network.run(1.0)

    assert len(a.opened) == 4
    assert [failed.failure for failed in a.failed] == [Failure.NO_SUCH_NAME]


def test_version_1_passes_two_firewalls_that_only_let_answers_in_but_for_the_control_port() -> None:
    network, a, b = pair()
    a.firewall = set()
    b.firewall = {(3359, A, port) for port in range(65536)}

    flow = a.call(B, "backup")
    network.run(1.0)
    network.sent.clear()

    assert flow in a.opened_at
    assert len(b.opened) == 1
    assert (50000, B, 40000) in a.firewall
    assert (40000, A, 50000) in b.firewall


def test_the_wish_reaches_the_program_and_comes_back_granted() -> None:
    network, a, b = pair()
    wish = Quality(FlowClass.VOICE, delay_ms=50)

    a.call(B, "backup", wish=wish)
    network.run(1.0)

    assert a.opened[0].granted == wish
    assert b.opened[0].granted == wish


def test_a_program_is_asked_and_may_take_its_time() -> None:
    network, a, b = pair()
    b.hold("chat", asks_program=True)
    a.call(B, "chat", timeout_s=20)
    network.run(8.0)
    assert a.opened == []

    b.perform(b.endpoint.holder.on_answer(b.asked[0].flow, network.now))
    network.run(1.0)

    assert len(a.opened) == len(b.opened) == 1
    assert len(b.asked) == 1


# --- refusing


@pytest.mark.parametrize(
    ("hold", "name", "reason"),
    [
        ({}, "printer", Reason.NO_SUCH_NAME),
        ({"may_call": lambda caller: caller == STRANGER}, "held", Reason.NOT_ALLOWED),
        ({"key": KEY}, "held", Reason.AUTHENTICATION),
    ],
)
def test_a_call_that_may_not_be_is_refused_with_its_reason(hold: dict[str, object], name: str, reason: Reason) -> None:
    network, a, b = pair()
    b.hold("held", **hold)

    a.call(B, name)
    network.run(1.0)

    assert [failed.reason_code for failed in a.failed] == [reason]
    assert b.opened == []


def test_what_a_peer_writes_is_no_order_to_a_terminal() -> None:
    network, a, b = pair()
    b.hold("chat", asks_program=True)
    a.call(B, "chat", caller="me\x1b[2J\n")
    flow = a.call(STRANGER, "backup")
    network.run(0.1)
    nonce = next(decode(octets).caller_nonce for _, octets, way in network.sent if way.destination == STRANGER)
    refusal = Message(Kind.REFUSE, nonce, reason_code=3, reason_text="no\x1b]0;owned\x07 way \u00e9\u202e")

    network.carry(encode(refusal), Way(STRANGER, 3359, A, a.ports[flow]))
    network.run(0.1)

    assert b.asked[0].caller_says == "me\\x1b[2J\\n"
    assert a.failed[0].why == "no\\x1b]0;owned\\x07 way \u00e9\\u202e"


def test_a_program_that_does_not_answer_and_one_that_says_no_refuse_the_call() -> None:
    network, a, b = pair()
    b.hold("slow", asks_program=True)
    b.hold("shy", asks_program=True)
    a.call(B, "slow", timeout_s=30)
    a.call(B, "shy")
    network.run(0.5)
    shy = next(asked for asked in b.asked if asked.name == b"shy")

    b.perform(b.endpoint.holder.on_answer(shy.flow, network.now, Reason.NOT_ALLOWED))
    network.run(15.0)

    assert [failed.reason_code for failed in a.failed] == [Reason.NOT_ALLOWED, Reason.NO_ANSWER]


def test_a_quiet_holder_does_not_say_what_it_does_not_have() -> None:
    network, a, _b = pair(is_quiet=True)

    a.call(B, "printer")
    network.run(15.0)

    assert a.failed[0].failure is Failure.TIMED_OUT
    assert Kind.REFUSE not in kinds(network)


def test_a_second_holder_of_a_name_is_told_who_has_it() -> None:
    _, _, b = pair()

    with pytest.raises(NameTaken, match="tester"):
        b.hold("BACKUP")


def test_a_host_without_sockets_is_busy_and_has_forgotten_the_call() -> None:
    network, a, b = pair(has_sockets=False)

    a.call(B, "backup")
    network.run(1.0)

    assert a.failed[0].reason_code == Reason.BUSY
    assert b.endpoint.holder.wake_at() is None


def test_what_is_asked_of_a_dead_host_fails_in_time_and_delays_no_other_question() -> None:
    network, a, _b = pair()

    dead = [a.call(STRANGER, "backup") for _ in range(100)]
    alive = a.call(B, "backup")
    network.run(0.05)
    assert a.opened_at[alive] == pytest.approx(1000.02)
    network.run(12.0)

    assert sorted(failed.flow for failed in a.failed) == dead
    assert {failed.failure for failed in a.failed} == {Failure.TIMED_OUT}


@pytest.mark.parametrize(
    ("rtt_s", "pauses"),
    [(None, [1.0, 2.0, 4.0, 4.0]), (0.02, [0.25, 0.5, 1.0, 2.0, 4.0]), (0.5, [1.5, 3.0, 4.0]), (3.0, [9.0])],
)
def test_a_request_is_repeated_after_three_round_trips_where_they_are_known(
    rtt_s: float | None, pauses: list[float]
) -> None:
    network, a, _b = pair(Network(weather=Weather(loss=1.0)))

    a.call(B, "backup", timeout_s=60, rtt_s=rtt_s)
    network.run(sum(pauses) * 1.1 + 0.01)
    times = [at for at, octets, _ in network.sent if decode(octets).kind is Kind.REQUEST]

    waited = [later - earlier for earlier, later in pairwise(times)][: len(pauses)]
    assert waited == pytest.approx(pauses, rel=0.11)


def test_one_port_unreachable_may_be_forged_and_two_end_the_call() -> None:
    network, a, _b = pair(Network(weather=Weather(loss=1.0)))
    flow = a.call(B, "backup")

    a.perform(a.endpoint.on_unreachable(flow, network.now))
    network.run(0.1)
    assert a.failed == []
    network.run(0.2)
    assert len([1 for kind in kinds(network) if kind is Kind.REQUEST]) == 2
    a.perform(a.endpoint.on_unreachable(flow, network.now))

    assert a.failed[0].failure is Failure.NO_FLOW_DAEMON


# --- loss and repetition


@pytest.mark.parametrize("seed", [1, 2])
def test_with_loss_and_duplicates_every_flow_opens_once(seed: int) -> None:
    limits = Limits(
        flows=4096, flows_per_name=4096, flows_per_peer=4096, pending=4096, pending_per_peer=4096,
        requests_per_peer_s=1e5, requests_per_peer_burst=10_000, requests_s=1e5,
    )  # fmt: skip
    network, a, b = pair(Network(seed, Weather(0.1, 0.1, (0.01, 0.06))), limits=limits)
    calls = {}
    for _ in range(2000):
        calls[a.call(B, "backup", timeout_s=60, lifetime_s=0)] = network.now
        network.run(0.02)
    network.run(60.0)

    assert sorted(a.opened_at) == sorted(calls)
    assert len(b.opened) == len({opened.port for opened in b.opened}) == 2000
    waits = [a.opened_at[flow] - at for flow, at in calls.items()]
    assert median(waits) <= 1.5 * 0.12 + 1.0
    assert a.ended == b.ended == []


@given(st.integers(0, 10_000), st.floats(0.0, 0.4), st.floats(0.0, 0.5))
def test_both_ends_agree_on_what_is_open_once_the_network_is_well(seed: int, loss: float, duplicates: float) -> None:
    network, a, b = pair(Network(seed, Weather(loss, duplicates, (0.0, 0.2))))
    flows = [a.call(B, "backup", timeout_s=20, lifetime_s=60) for _ in range(5)]
    network.run(10.0)
    a.close(flows[0])
    network.run(50.0)
    network.weather = FAIR
    network.run(120.0)

    live_a = {a.ports[opened.flow] for opened in a.opened if opened.flow in a.ports}
    live_b = {opened.port for opened in b.opened if opened.flow in b.ports}
    assert live_a == live_b


# --- version 0


def test_a_request_of_version_0_is_echoed_from_a_new_port() -> None:
    network, a, _b = pair()

    flow = a.call(B, "backup", is_legacy=True)
    network.run(1.0)

    assert [(octets, way.source_port) for _, octets, way in network.sent] == [(b"backup", 50000), (b"backup", 40000)]
    assert a.connected[flow] == (B, 40000)
    assert a.opened_at[flow] == pytest.approx(1000.02)


def test_the_program_has_a_flow_of_version_0_with_its_first_datagram() -> None:
    network, a, b = pair()
    a.call(B, "backup", is_legacy=True)
    network.run(1.0)
    assert b.opened == []

    a.send(b"hello", 50000, B, 40000)
    network.run(1.0)

    assert len(b.opened) == 1


def test_a_program_that_speaks_first_has_it_at_once_if_wanted() -> None:
    network, a, b = pair(legacy=Legacy.AT_ONCE)

    a.call(B, "backup", is_legacy=True)
    network.run(1.0)

    assert len(b.opened) == 1


def test_a_lost_echo_of_a_flow_that_its_program_has_already_is_said_again_for_ten_seconds() -> None:
    network, a, b = pair(Network(lose=from_the_holder), legacy=Legacy.AT_ONCE)
    flow = a.call(B, "backup", is_legacy=True)
    network.run(2.0)
    network.lose = nothing
    network.run(4.0)
    assert a.connected[flow] == (B, 40000)

    network.run(10.0)
    a.send(b"backup", 50000, B, 3359)
    network.run(1.0)

    assert [opened.port for opened in b.opened] == [50000, 50000]
    assert network.sent[-1][2].source_port == 40001


def test_a_lost_echo_is_asked_for_again_and_gives_the_same_port() -> None:
    network, a, _b = pair(Network(lose=from_the_holder))

    flow = a.call(B, "backup", is_legacy=True)
    network.run(2.0)
    network.lose = nothing
    network.run(4.0)

    assert a.connected[flow] == (B, 40000)
    assert {way.source_port for _, _, way in network.sent if way.source == B} == {40000}


@pytest.mark.parametrize(
    ("legacy", "name"), [(Legacy.NO, "backup"), (Legacy.FIRST_DATAGRAM, "printer"), (Legacy.FIRST_DATAGRAM, "held")]
)
def test_version_0_knows_no_refusal_but_silence(legacy: Legacy, name: str) -> None:
    network, a, b = pair(legacy=legacy)
    b.hold("held", key=KEY)

    a.call(B, name, is_legacy=True)
    network.run(12.0)

    assert all(way.source == A for _, _, way in network.sent)
    assert a.failed[0].failure is Failure.TIMED_OUT
    assert sum(b.endpoint.counters.values()) > 0


def test_nothing_makes_a_caller_of_version_1_speak_version_0() -> None:
    network, a, _b = pair(Network(lose=from_the_holder))

    a.call(B, "backup")
    network.run(12.0)

    assert all(is_version_1(octets) for _, octets, way in network.sent if way.source == A)


# --- keys


def test_a_caller_with_the_key_gets_through_and_one_without_it_is_ignored() -> None:
    network, a, b = pair()
    b.hold("safe", key=KEY)

    a.call(B, "safe", key=KEY)
    a.call(B, "safe", key=FlowKey(7, b"another key of sixteen"))
    network.run(15.0)

    assert len(a.opened) == len(b.opened) == 1
    assert a.failed[0].failure is Failure.TIMED_OUT
    assert b.endpoint.counters["flow_auth"] > 0


def test_a_replayed_request_with_a_key_opens_nothing() -> None:
    network, a, b = pair()
    b.hold("safe", key=KEY)
    a.call(B, "safe", key=KEY, lifetime_s=0)
    network.run(1.0)
    _, request, way = next(sent for sent in network.sent if decode(sent[1]).kind is Kind.REQUEST)
    a.close(a.opened[0].flow)
    network.run(60.0)

    for _ in range(5):
        network.carry(request, way)
        network.run(1.0)
    network.run(30.0)

    assert len(b.opened) == 1
    assert b.ports == {}

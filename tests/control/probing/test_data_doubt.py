"""Detection of a filter on UDP port 4341 where probes pass: by two questions that take the way of the data."""

from __future__ import annotations

from ipaddress import ip_address
from itertools import count

import pytest

from lispmob.control.node_config import NodeConfig
from lispmob.control.probing.data_doubt import (
    AGAIN_S,
    ANSWER_S,
    FORGET_S,
    HELD_AGAIN_S,
    HELD_FIRST_S,
    LASTS_S,
    TRIES,
    DataDoubts,
    Question,
    Route,
    Verdict,
)
from lispmob.natt.arrival import DataControl
from lispmob.natt.effect import SendFromDataPort
from lispmob.node.node import Node
from lispmob.protocol.locator_set import LocalLocator
from lispmob.wire.address import EidPrefix, IpAddress
from lispmob.wire.data_header import CONTROL_INSTANCE_ID, DataHeader
from lispmob.wire.ip_udp import parse_ip_udp
from lispmob.wire.map_reply import MapReply
from lispmob.wire.map_request import MapRequest

PEER, OTHER, OWN = ip_address("192.0.2.9"), ip_address("192.0.2.10"), ip_address("198.51.100.7")
EID = EidPrefix.parse("10.99.0.2/32")


def doubts(*, is_probed: bool = True) -> DataDoubts:
    route = Route(EID, OWN, 3) if is_probed else None
    return DataDoubts(lambda _: route, new_nonce=count(100).__next__)


def silent(one: DataDoubts, remote: IpAddress = PEER, began: float = 0.0) -> list[Question]:
    """Report silences until the questions leave."""
    for step in range(3):
        asked = one.on_silent(remote, began + step * LASTS_S / 2)
    return asked


def inner(question: Question) -> tuple[int, MapRequest]:
    """The port to which the answer shall go, and the probe."""
    assert DataHeader.decode(question.payload[:8]).instance_id == CONTROL_INSTANCE_ID
    packet = parse_ip_udp(question.payload[8:])
    return packet.source_port, MapRequest.decode(packet.payload)


def answered(one: DataDoubts, question: Question, now: float) -> bool:
    port, request = inner(question)
    return one.on_map_reply(MapReply(request.nonce, (), is_probe=True).encode(), in_data=port == 4341, now=now)


def give_up(one: DataDoubts, began: float) -> None:
    for step in range(TRIES):
        one.on_timer(began + (step + 1) * ANSWER_S)


def test_a_few_silences_are_no_doubt() -> None:
    one = doubts()

    assert one.on_silent(PEER, 0.0) == []
    assert [one.on_silent(PEER, at) for at in (0.1, 0.2, 0.3)] == [[], [], []]
    assert one.wake_at() is None


def test_the_questions_go_the_way_of_the_data_and_one_wants_its_answer_there_too() -> None:
    first, second = silent(doubts())

    assert [inner(question)[0] for question in (first, second)] == [4342, 4341]
    assert {(question.remote, question.local, question.ifindex) for question in (first, second)} == {(PEER, OWN, 3)}
    assert inner(first)[1].is_probe


@pytest.mark.parametrize(
    ("answers", "verdict"),
    [((False, False), Verdict.OUT), ((True, False), Verdict.BACK), ((True, True), None), ((False, True), None)],
)
def test_what_is_answered_tells_the_direction_that_is_filtered(
    answers: tuple[bool, bool], verdict: Verdict | None
) -> None:
    one = doubts()
    for question, is_answered in zip(silent(one), answers, strict=True):
        if is_answered:
            assert answered(one, question, LASTS_S)

    give_up(one, LASTS_S)

    assert one.verdicts(LASTS_S + 5).get(PEER) is verdict
    assert one.wake_at() is None


def test_data_from_the_locator_ends_the_doubt_at_any_time() -> None:
    one = doubts()
    silent(one)
    give_up(one, LASTS_S)
    assert one.verdicts(10.0) == {PEER: Verdict.OUT}

    one.on_heard([OTHER])
    assert one.verdicts(10.0) == {PEER: Verdict.OUT}
    one.on_heard([PEER])
    assert one.verdicts(10.0) == {}


def test_a_locator_whose_probes_are_not_answered_is_another_matter() -> None:
    one = doubts(is_probed=False)

    assert silent(one) == []
    assert one.verdicts(LASTS_S) == {}


def test_the_verdict_is_checked_again_while_packets_leave_and_forgotten_when_none_do() -> None:
    one = doubts()
    silent(one)
    give_up(one, LASTS_S)
    judged = LASTS_S + TRIES * ANSWER_S

    assert [one.on_silent(PEER, judged + at) for at in (20.0, 40.0, AGAIN_S - 1)] == [[], [], []]
    assert len(one.on_silent(PEER, judged + AGAIN_S)) == 2
    assert one.verdicts(judged + AGAIN_S) == {PEER: Verdict.OUT}
    assert one.verdicts(judged + AGAIN_S + FORGET_S) == {}


def test_a_locator_that_packets_have_left_is_tested_ever_more_seldom_until_data_passes() -> None:
    one = doubts()
    silent(one)
    give_up(one, LASTS_S)
    judged = LASTS_S + TRIES * ANSWER_S
    one.hold([PEER])

    at = judged
    for rest_s in (HELD_FIRST_S, 2 * HELD_FIRST_S, 4 * HELD_FIRST_S, HELD_AGAIN_S, HELD_AGAIN_S):
        at += rest_s
        assert one.wake_at() == at
        assert len(one.on_timer(at)) == 2
        give_up(one, at)
        at += TRIES * ANSWER_S
        assert one.verdicts(at) == {PEER: Verdict.OUT}

    for question in one.on_timer(at + HELD_AGAIN_S):
        answered(one, question, at + HELD_AGAIN_S)
    assert one.verdicts(at + 1000.0) == {}
    assert one.passing(at + 1000.0) == {PEER}
    assert one.wake_at() is None


def test_a_held_locator_is_tested_at_once_after_a_move() -> None:
    one = doubts()
    silent(one)
    give_up(one, LASTS_S)
    one.hold([PEER])

    one.on_moved()

    assert len(one.on_timer(LASTS_S + TRIES * ANSWER_S + 0.1)) == 2


def test_a_locator_that_is_held_no_more_is_forgotten() -> None:
    one = doubts()
    silent(one)
    give_up(one, LASTS_S)
    one.hold([PEER])
    assert one.verdicts(LASTS_S + 10 * FORGET_S) == {PEER: Verdict.OUT}

    one.hold([])

    assert one.verdicts(LASTS_S + 10 * FORGET_S) == {}
    assert one.wake_at() is None


def test_a_stranger_ends_nothing() -> None:
    one = doubts()
    silent(one)

    assert not one.on_map_reply(MapReply(7, ()).encode(), in_data=False, now=LASTS_S)
    assert not one.on_map_reply(b"\x20", in_data=True, now=LASTS_S)


def test_a_flood_of_silent_locators_is_bounded() -> None:
    one = doubts()
    for number in range(1000):
        one.on_silent(ip_address(number + 1), float(number))

    assert len(one._doubts) <= 64


def test_a_node_of_ours_answers_the_first_question_by_control_and_the_second_in_data() -> None:
    one = doubts()
    peer = Node(NodeConfig((EID,)), new_nonce=count(1).__next__, jitter=lambda: 0.5)
    peer.on_locators([LocalLocator(PEER, 2, "eth0")], 0.0)

    ways = []
    for question in silent(one):
        packet = parse_ip_udp(question.payload[8:])
        arrival = DataControl(
            packet.payload, OWN, packet.source_port, PEER, packet.destination_port, OWN, 4341, PEER, ifindex=2
        )
        (sent,) = [effect for effect in peer.on_data_control(arrival, 1.0) if hasattr(effect, "payload")]
        in_data = isinstance(sent, SendFromDataPort)
        payload = parse_ip_udp(sent.payload[8:]).payload if in_data else sent.payload
        ways.append(in_data)
        assert one.on_map_reply(payload, in_data=in_data, now=LASTS_S)

    assert ways == [False, True]
    assert one.verdicts(LASTS_S) == {}


@pytest.mark.parametrize(
    ("times", "asks"),
    [
        ((0.0, LASTS_S), False),  # three reports of silence at least
        ((0.0, 0.1, LASTS_S), True),
        ((0.0, 0.1, LASTS_S - 0.1), False),  # which began so long ago at least
        ((0.0, 0.1, FORGET_S + 0.2), False),  # and each came soon after the one before
        ((0.0, 0.1, FORGET_S + 0.1), True),
    ],
)
def test_silence_is_doubted_when_it_was_reported_three_times_over_a_while(times: tuple[float, ...], asks: bool) -> None:
    one = doubts()

    asked = [one.on_silent(PEER, at) for at in times]

    assert asked[:-1] == [[]] * (len(times) - 1)
    assert bool(asked[-1]) == asks


def test_of_64_locators_in_doubt_the_one_reported_longest_ago_makes_room() -> None:
    one = doubts()
    remotes = [ip_address("203.0.113.0") + number for number in range(65)]
    for number, remote in enumerate(remotes):
        one.on_silent(remote, number / 1000)
        one.on_silent(remote, number / 1000 + 0.0001)

    assert one.on_silent(remotes[0], LASTS_S + 1.0) == [], "its former reports are forgotten"
    assert one.on_silent(remotes[-1], LASTS_S + 1.0) != []

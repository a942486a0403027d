"""The machine of sealed data: who begins a handshake, when a key is replaced, and when it is forgotten."""

from __future__ import annotations

import dataclasses

import pytest

from lispmob.control.sealing.handshake_carriage import take_first
from lispmob.control.sealing.sealed_entries import PARTING_S
from lispmob.protocol.effect import (
    Event,
    ForgetPeer,
    ForgetSession,
    InstallSession,
    SendControl,
    SendKeepalive,
)
from lispmob.wire.key_record import KeyRecord
from tests.control.sealing.sealed_pair import (
    ALICE_EID,
    ALICE_RLOC,
    BOB_EID,
    BOB_RLOC,
    Side,
    a_pair,
    alice,
    bob,
    deliver_first,
    deliver_second,
    first_of,
    pinned,
    request_of,
    settle,
    shake_hands,
)
from tests.control.support import ip, only, run_until
from tests.crypto.support import needs_libcrypto

pytestmark = needs_libcrypto


def test_traffic_to_a_peer_with_a_known_key_leads_to_a_session_after_one_round_trip() -> None:
    one, other = a_pair()
    ours, theirs = shake_hands(one, other, 0.0)

    assert (ours.send_key, ours.receive_key) == (theirs.receive_key, theirs.send_key)
    assert (ours.local_index, ours.remote_index) == (theirs.remote_index, theirs.local_index)
    assert (ours.is_confirmed, theirs.is_confirmed) == (True, False)
    assert (ours.sources, theirs.sources) == ((BOB_EID,), (ALICE_EID,))
    assert ours.aead == "aes-128-gcm"
    assert len(ours.send_key) == 16


def test_the_handshake_goes_to_the_locator_of_the_peer_in_a_probe_of_178_octets() -> None:
    one, other = a_pair()
    sent = first_of(one, other)

    assert (sent.destination, sent.source, len(sent.payload)) == (BOB_RLOC, ALICE_RLOC, 178)
    assert request_of(sent).is_probe


def test_the_initiator_says_at_once_that_it_has_the_session() -> None:
    one, other = a_pair()
    (answered,) = only(deliver_first(first_of(one, other), ALICE_RLOC, other, 0.0), SendControl)
    told = deliver_second(answered, one, 0.0)

    assert only(told, SendKeepalive) == [SendKeepalive(one.knows(other).peer)]
    assert [event.kind for event in only(told, Event)] == ["sealed"]
    assert len(answered.payload) <= 178


def test_a_first_message_that_is_lost_is_sent_again_after_1_2_4_and_every_5_seconds() -> None:
    one, other = a_pair()
    first_of(one, other)
    when = [at for at, effects in run_until(one.machine, 30.0) if only(effects, SendControl)]

    assert when == [1.0, 3.0, 7.0, 12.0, 17.0, 22.0, 27.0]


def test_without_traffic_a_handshake_is_given_up_after_90_seconds_and_nothing_wakes_the_node() -> None:
    one, other = a_pair()
    first_of(one, other)
    run_until(one.machine, 200.0)

    assert one.machine.wake_at() is None
    assert one.machine.entries.peers[0].why_unsealed == "no answer to the handshake"


def test_traffic_keeps_a_handshake_going() -> None:
    one, other = a_pair()
    peer = one.knows(other).peer
    first_of(one, other)
    for second in range(1, 120):
        one.machine.on_seal_wanted(peer, float(second))
        run_until(one.machine, float(second))

    assert one.machine.wake_at() is not None


def test_the_second_message_of_an_earlier_try_still_counts() -> None:
    one, other = a_pair()
    sent = first_of(one, other)
    one.machine.on_timer(1.0)
    (answered,) = only(deliver_first(sent, ALICE_RLOC, other, 1.2), SendControl)

    assert only(deliver_second(answered, one, 1.3), InstallSession)
    settle(one)
    assert one.machine.wake_at() is None


def test_when_both_begin_at_once_both_sessions_stand_with_keys_that_fit() -> None:
    one, other = a_pair()
    by_one, by_other = first_of(one, other), first_of(other, one)
    told_other = deliver_first(by_one, ALICE_RLOC, other, 0.1)
    told_one = deliver_first(by_other, BOB_RLOC, one, 0.1)
    (end_one,) = only(deliver_second(only(told_other, SendControl)[0], one, 0.2), InstallSession)
    (end_other,) = only(deliver_second(only(told_one, SendControl)[0], other, 0.2), InstallSession)

    assert end_one.send_key == only(told_other, InstallSession)[0].receive_key
    assert end_other.send_key == only(told_one, InstallSession)[0].receive_key
    settle(one)
    settle(other)
    assert (one.machine.wake_at(), other.machine.wake_at()) == (None, None)


def test_nothing_wakes_an_idle_node_and_traffic_replaces_an_old_key() -> None:
    one, other = a_pair()
    shake_hands(one, other, 0.0)

    settle(one)
    assert one.machine.wake_at() is None
    assert only(one.machine.on_seal_wanted(1, 120.0), SendControl)


def test_the_responder_leaves_it_to_the_initiator_to_replace_a_key_until_165_seconds() -> None:
    one, other = a_pair()
    _, theirs = shake_hands(one, other, 0.0)
    other.machine.on_confirmed(theirs.peer, theirs.local_index, 0.0)

    assert not only(other.machine.on_seal_wanted(theirs.peer, 164.0), SendControl)
    assert only(other.machine.on_seal_wanted(theirs.peer, 165.0), SendControl)


@pytest.mark.parametrize("begun_at", [0.0, 400.0, 10_000.0])
def test_keys_are_forgotten_after_540_seconds_whatever_woke_the_node(begun_at: float) -> None:
    one, other = a_pair()
    ours, _ = shake_hands(one, other, begun_at)

    assert not only(one.machine.on_timer(begun_at + 100.0), ForgetSession)
    assert not only(one.machine.on_timer(begun_at + 539.0), ForgetSession)
    assert only(one.machine.on_timer(begun_at + 540.0), ForgetSession) == [ForgetSession(ours.local_index)]


def test_a_peer_that_begins_again_and_again_has_three_sessions_in_use_and_two_that_wait() -> None:
    one, other = a_pair()
    for number in range(6):
        _, theirs = shake_hands(one, other, float(number))
        other.machine.on_confirmed(theirs.peer, theirs.local_index, float(number))
    for number in range(6, 12):
        shake_hands(one, other, float(number))

    sessions = other.machine.entries.peers[0].sessions
    assert [session.is_confirmed for session in sessions] == [True, True, True, False, False]
    assert [session.at for session in sessions] == [3.0, 4.0, 5.0, 10.0, 11.0]
    assert [session.at for session in one.machine.entries.peers[0].sessions] == [9.0, 10.0, 11.0]


def test_handshakes_whose_answers_get_lost_cost_no_session_in_use() -> None:
    one, other = a_pair()
    _, theirs = shake_hands(one, other, 0.0)
    other.machine.on_confirmed(theirs.peer, theirs.local_index, 0.1)
    (sent,) = only(one.machine.on_seal_wanted(one.knows(other).peer, 120.0), SendControl)
    forgotten = only(deliver_first(sent, ALICE_RLOC, other, 120.0), ForgetSession)
    at = 120.0
    for _ in range(12):
        at = one.machine.wake_at() or at
        for again in only(one.machine.on_timer(at), SendControl):
            forgotten += only(deliver_first(again, ALICE_RLOC, other, at), ForgetSession)

    assert forgotten
    assert theirs.local_index not in [session.local_index for session in forgotten]
    assert other.machine.entries.peers[0].is_sealed(at)


def test_what_packets_leave_with_is_the_session_that_was_confirmed_last() -> None:
    one, other = a_pair()
    _, first = shake_hands(one, other, 0.0)
    _, second = shake_hands(one, other, 1.0)
    (peer,) = other.machine.entries.peers

    other.machine.on_confirmed(second.peer, second.local_index, 2.0)
    other.machine.on_confirmed(first.peer, first.local_index, 3.0)

    assert peer.confirmed is not None
    assert peer.confirmed.local_index == first.local_index


def test_a_peer_that_lost_its_sessions_answers_the_handshake_that_silence_begins() -> None:
    one, other = a_pair()
    shake_hands(one, other, 0.0)
    reborn = bob(pinned=pinned(one), memory=other.memory)
    (sent,) = only(one.machine.on_silence(BOB_RLOC, 60.0), SendControl)

    assert only(deliver_first(sent, ALICE_RLOC, reborn, 60.0), InstallSession)
    assert one.machine.on_silence(BOB_RLOC, 60.1) == []


@pytest.mark.parametrize(("after_s", "asks"), [(4.9, False), (5.0, True)])
@pytest.mark.parametrize("reason", ["silence", "clear text"])
def test_silence_and_clear_text_cause_a_handshake_five_seconds_after_the_last_try(
    reason: str, after_s: float, asks: bool
) -> None:
    one, other = a_pair()
    shake_hands(one, other, 10.0)
    number = one.knows(other).peer

    silent = reason == "silence"
    now = 10.0 + after_s
    effects = one.machine.on_silence(BOB_RLOC, now) if silent else one.machine.on_clear_heard(number, now)

    assert bool(only(effects, SendControl)) == asks


def test_silence_of_another_locator_begins_nothing() -> None:
    one, other = a_pair()
    shake_hands(one, other, 0.0)

    assert one.machine.on_silence(ip("192.0.2.99"), 60.0) == []


def test_after_a_suspend_no_session_of_before_is_used() -> None:
    one, other = a_pair()
    ours, _ = shake_hands(one, other, 0.0)

    assert one.machine.on_slept() == [ForgetPeer(ours.peer)]
    assert only(one.machine.on_seal_wanted(ours.peer, 10.0), SendControl)


def draw_indices(side: Side, *indices: int) -> None:
    """The next indices that are drawn, before the usual ones."""
    usual, wanted = side.machine._tools.draw, list(indices)

    def draw(octets: int) -> bytes:
        return wanted.pop(0).to_bytes(4) if octets == 4 and wanted else usual(octets)

    side.machine._tools = dataclasses.replace(side.machine._tools, draw=draw)


def index_of(sent: SendControl) -> int:
    first = take_first(request_of(sent))
    assert first is not None
    return int.from_bytes(first.message[4:8])


def test_no_index_of_a_session_in_use_is_given_again() -> None:
    one, other = a_pair()
    draw_indices(one, 77)
    assert shake_hands(one, other, 0.0)[0].local_index == 77
    draw_indices(one, 77, 0, 77, 78)

    assert index_of(first_of(one, other, 120.0)) == 78


def test_no_index_of_an_open_handshake_is_given_again() -> None:
    one, other = a_pair()
    draw_indices(one, 77)
    assert index_of(first_of(one, other)) == 77
    draw_indices(one, 77, 78)

    (again,) = only(one.machine.on_timer(1.0), SendControl)
    assert index_of(again) == 78


def test_no_index_of_a_replaced_key_is_given_again_while_its_sessions_receive() -> None:
    one, other = alice(), bob(pinned=pinned(alice()))
    one.machine.on_vouched(BOB_EID, KeyRecord((other.public,)), 0.0)
    draw_indices(one, 77)
    assert shake_hands(one, other, 0.0)[0].local_index == 77
    one.machine.on_vouched(BOB_EID, KeyRecord((bytes([3]) * 32,)), 1.0)
    draw_indices(one, 77, 78)
    assert index_of(first_of(one, other, 1.5)) == 78

    one.machine.on_timer(1.0 + PARTING_S)
    draw_indices(one, 77)
    (again,) = only(one.machine.on_timer(1.0 + 2 * PARTING_S), SendControl)
    assert index_of(again) == 77

"""The machine of sealed data: which keys it trusts, and what it does with messages that are not vouched for."""

from __future__ import annotations

import dataclasses

import pytest
from msgspec.structs import replace

from lispmob.control.sealing.handshake_carriage import First, put_second, take_first, take_second
from lispmob.control.sealing.sealed_entries import PARTING_S
from lispmob.errors import MalformedMessage
from lispmob.protocol.datagram import Datagram
from lispmob.protocol.effect import (
    Count,
    Event,
    ForgetPeer,
    InstallMapping,
    InstallSession,
    SendControl,
)
from lispmob.wire.key_record import KeyRecord
from lispmob.wire.lcaf_types import AfiList, SecurityKey
from lispmob.wire.map_reply import MapReply
from lispmob.wire.map_request import MapRequest
from lispmob.wire.message import decode_control
from tests.control.sealing.sealed_pair import (
    ALICE_EID,
    ALICE_RLOC,
    BOB_EID,
    BOB_KEY,
    BOB_RLOC,
    Side,
    a_pair,
    alice,
    bob,
    counted,
    deliver_first,
    deliver_second,
    first_of,
    pinned,
    request_of,
    settle,
    shake_hands,
)
from tests.control.support import ip, only, prefix
from tests.crypto.support import needs_libcrypto

pytestmark = needs_libcrypto


def test_a_first_message_of_an_unknown_node_waits_until_the_mapping_system_says_whose_key_it_is() -> None:
    one, other = alice(pinned=pinned(bob())), bob()
    told = deliver_first(first_of(one, other), ALICE_RLOC, other, 0.0)

    assert only(told, SendControl) == []
    assert other.machine.take_questions() == [ALICE_EID]
    vouched = other.machine.on_vouched(ALICE_EID, KeyRecord((one.public,)), 0.5)
    assert only(vouched, InstallSession)
    assert only(vouched, SendControl)


def test_a_first_message_whose_key_is_not_vouched_for_is_dropped_after_two_seconds() -> None:
    one, other = alice(pinned=pinned(bob())), bob()
    deliver_first(first_of(one, other), ALICE_RLOC, other, 0.0)

    assert other.machine.wake_at() == 2.0
    assert counted(other.machine.on_timer(2.0)) == ["rx_auth"]


def test_at_most_64_first_messages_wait() -> None:
    other = bob()
    refused = 0
    for number in range(70):
        stranger = Side(bytes([number + 1]) * 32, prefix(f"10.9.0.{number}/32"), ALICE_RLOC, pinned=pinned(other))
        told = deliver_first(first_of(stranger, other), ip(f"198.51.100.{number + 1}"), other, 0.0)
        refused += counted(told).count("rx_rate")

    assert refused == 6


def test_the_static_key_has_to_be_the_one_of_the_source_eid() -> None:
    other = bob(pinned=pinned(alice()))
    impostor = Side(bytes(range(1, 33)), ALICE_EID, ALICE_RLOC, pinned=pinned(other))
    told = deliver_first(first_of(impostor, other), ALICE_RLOC, other, 0.0)

    assert told == [Count("rx_auth")]


def test_a_vouched_key_that_has_changed_is_asked_about_and_then_taken() -> None:
    other = bob()
    other.machine.on_vouched(ALICE_EID, KeyRecord((alice().public,)), 0.0)
    fresh = Side(bytes(range(1, 33)), ALICE_EID, ALICE_RLOC, pinned=pinned(other))
    deliver_first(first_of(fresh, other), ALICE_RLOC, other, 0.0)
    told = other.machine.on_vouched(ALICE_EID, KeyRecord((fresh.public,)), 0.1)

    assert [event.kind for event in only(told, Event)] == ["key-changed"]
    assert only(told, InstallSession)


def test_a_key_that_the_hub_swaps_does_not_open_the_sessions_of_the_old_one() -> None:
    one, other = alice(), bob(pinned=pinned(alice()))
    one.machine.on_vouched(BOB_EID, KeyRecord((other.public,)), 0.0)
    ours, _ = shake_hands(one, other, 0.0)
    settle(one)
    told = one.machine.on_vouched(BOB_EID, KeyRecord((alice().public[::-1],)), 1.0)

    (entry,) = only(told, InstallMapping)
    assert entry.must_seal
    assert entry.peer != ours.peer, "nothing is sealed with the old keys any more"
    assert ForgetPeer(ours.peer) not in told, "what is on its way still opens"
    assert ForgetPeer(ours.peer) in one.machine.on_timer(1.0 + PARTING_S)


def test_a_swapped_key_does_not_matter_where_one_is_pinned() -> None:
    one, other = a_pair()
    shake_hands(one, other, 0.0)
    told = one.machine.on_vouched(BOB_EID, KeyRecord((bytes(range(32)),)), 1.0)

    assert [event.kind for event in only(told, Event)] == ["key-changed"]
    assert only(told, ForgetPeer) == []


def test_an_answer_that_comes_after_the_key_has_changed_makes_no_session() -> None:
    one, other = alice(), bob(pinned=pinned(alice()))
    one.machine.on_vouched(BOB_EID, KeyRecord((other.public,)), 0.0)
    (answered,) = only(deliver_first(first_of(one, other), ALICE_RLOC, other, 0.0), SendControl)
    one.machine.on_vouched(BOB_EID, KeyRecord((bytes(range(32)),)), 0.1)

    assert counted(deliver_second(answered, one, 0.2)) == ["rx_policy"]


def test_a_replayed_first_message_is_refused_even_after_a_restart() -> None:
    one, other = a_pair()
    sent = first_of(one, other)
    deliver_first(sent, ALICE_RLOC, other, 0.0)

    assert counted(deliver_first(sent, ALICE_RLOC, other, 0.1)) == ["rx_replay"]
    reborn = bob(pinned=pinned(one), memory=other.memory)
    assert counted(deliver_first(sent, ip("192.0.2.66"), reborn, 9.0)) == ["rx_replay"]


def test_a_replay_after_the_state_directory_was_lost_gives_its_sender_no_key() -> None:
    one, other = a_pair()
    sent = first_of(one, other)
    _, before = sent, only(deliver_first(sent, ALICE_RLOC, other, 0.0), InstallSession)[0]
    reborn = bob(pinned=pinned(one))
    reborn.machine._tools = dataclasses.replace(
        reborn.machine._tools, draw=lambda octets: bytes(range(77, 77 + octets))
    )
    (after,) = only(deliver_first(sent, ip("192.0.2.66"), reborn, 9.0), InstallSession)

    assert after.send_key != before.send_key
    assert not after.is_confirmed


@pytest.mark.parametrize("at", range(132))
def test_every_octet_of_a_first_message_counts(at: int) -> None:
    one, other = a_pair()
    request = request_of(first_of(one, other))
    first = take_first(request)
    assert first is not None
    flipped = bytearray(first.message)
    flipped[at] ^= 0x40
    datagram = Datagram(b"", ALICE_RLOC, 4342, BOB_RLOC, 2)
    told = other.machine.on_first(replace(first, message=bytes(flipped)), datagram, request.nonce, 0.0)

    assert len(told) == 1
    assert counted(told)[0] in ("rx_auth", "rx_lcaf")


@pytest.mark.parametrize("at", range(80))
def test_every_octet_of_a_second_message_counts_and_the_genuine_one_is_still_taken(at: int) -> None:
    one, other = a_pair()
    (answered,) = only(deliver_first(first_of(one, other), ALICE_RLOC, other, 0.0), SendControl)
    reply = decode_control(answered.payload)
    assert isinstance(reply, MapReply)
    second = take_second(reply)
    assert second is not None
    flipped = bytearray(second)
    flipped[at] ^= 0x40
    forged = decode_control(put_second(reply.nonce, bytes(flipped), BOB_EID, BOB_RLOC))
    assert isinstance(forged, MapReply)
    told = one.machine.on_answer(forged, 0.1)

    assert told is not None
    assert counted(told)[0] in ("rx_auth", "rx_lcaf")
    assert only(deliver_second(answered, one, 0.2), InstallSession)


@pytest.mark.parametrize("octets", [0, 1, 131, 133])
def test_a_handshake_of_another_length_is_refused(octets: int) -> None:
    request = MapRequest(7, ALICE_EID.address, (SecurityKey(241, (bytes(octets),), ALICE_RLOC),), (), is_probe=True)
    with pytest.raises(MalformedMessage, match="length"):
        take_first(request)


def test_two_handshakes_in_one_message_are_refused() -> None:
    key = SecurityKey(241, (bytes(132),), ALICE_RLOC)
    with pytest.raises(MalformedMessage) as refused:
        take_first(MapRequest(7, ALICE_EID.address, (AfiList((key, key)),), (), is_probe=True))
    assert refused.value.counter == "rx_lcaf"


def test_a_probe_with_the_keys_of_another_suite_is_no_handshake() -> None:
    key = SecurityKey(5, (bytes(32),), ALICE_RLOC)
    assert take_first(MapRequest(7, ALICE_EID.address, (key,), (), is_probe=True)) is None


def test_a_handshake_with_our_own_key_is_refused() -> None:
    other = bob(pinned=(*pinned(alice()),))
    mirror = Side(BOB_KEY, ALICE_EID, ALICE_RLOC, pinned=pinned(other))

    assert counted(deliver_first(first_of(mirror, other), ALICE_RLOC, other, 0.0)) == ["rx_policy"]


def test_a_handshake_for_an_eid_of_another_node_is_refused() -> None:
    one, other = a_pair()
    first = take_first(request_of(first_of(one, other)))
    assert first is not None
    elsewhere = First(first.message, first.initiator, prefix("10.7.0.1/32"))
    told = other.machine.on_first(elsewhere, Datagram(b"", ALICE_RLOC, 4342, BOB_RLOC), 1, 0.0)

    assert told == [Count("rx_policy")]


def test_a_flood_of_handshakes_is_answered_20_times_a_second_for_a_source_and_100_times_in_all() -> None:
    other = bob(pinned=pinned(alice()))
    one = alice(pinned=pinned(other))
    one.knows(other)
    answered = {"one": 0, "all": 0}
    for _ in range(200):
        one.machine.entries.peers[0].rest()
        sent = first_of(one, other)
        answered["one"] += len(only(deliver_first(sent, ip("192.0.2.66"), other, 0.0), SendControl))
    assert answered["one"] in (19, 20), "the limit is a sum of floats"
    for number in range(200):
        one.machine.entries.peers[0].rest()
        sent = first_of(one, other)
        told = deliver_first(sent, ip(f"203.0.113.{number + 1}"), other, 0.0)
        answered["all"] += len(only(told, SendControl))

    assert answered["one"] + answered["all"] in (99, 100)


def test_a_handshake_with_a_time_before_the_last_one_of_its_key_is_refused() -> None:
    one, other = a_pair()
    shake_hands(one, other, 0.0)
    other.machine.keys.on_time(one.public, 2_000_000_000_000_000_000)

    assert counted(deliver_first(first_of(one, other, 5.0), ALICE_RLOC, other, 5.0)) == ["rx_replay"]

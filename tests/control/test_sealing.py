"""The machine of sealed data: who asks whom, when, and what is sent in clear meanwhile."""

from __future__ import annotations

import dataclasses

import pytest
from msgspec.structs import replace

from lispmob.control.sealing.handshake_carriage import First, put_first, put_second, take_first, take_second
from lispmob.control.sealing.peer_keys import fingerprint
from lispmob.errors import MalformedMessage
from lispmob.protocol.datagram import Datagram
from lispmob.protocol.effect import (
    Count,
    Event,
    ForgetPeer,
    ForgetSession,
    InstallMapping,
    InstallSession,
    MachineEffect,
    RefuseClear,
    RemoveMapping,
    SendControl,
    SendKeepalive,
    UsableLocator,
)
from lispmob.wire.key_record import KeyRecord
from lispmob.wire.lcaf_types import AfiList, SecurityKey
from lispmob.wire.map_reply import MapReply
from lispmob.wire.map_request import MapRequest
from lispmob.wire.message import decode_control
from lispmob.wire.record import Locator, MappingRecord
from tests.control.sealed_pair import (
    ALICE_EID,
    ALICE_RLOC,
    BOB_EID,
    BOB_KEY,
    BOB_RLOC,
    Memory,
    Side,
    a_pair,
    alice,
    bob,
    deliver_first,
    deliver_second,
    mapping_of,
    pinned,
    settle,
    shake_hands,
)
from tests.control.support import ip, only, prefix, run_until
from tests.crypto.support import needs_libcrypto

pytestmark = needs_libcrypto


def counted(effects: list[MachineEffect]) -> list[str]:
    return [effect.name for effect in only(effects, Count)]


def request_of(sent: SendControl) -> MapRequest:
    request = decode_control(sent.payload)
    assert isinstance(request, MapRequest)
    return request


def first_of(one: Side, other: Side, now: float = 0.0) -> SendControl:
    (sent,) = only(one.machine.on_seal_wanted(one.knows(other).peer, now), SendControl)
    return sent


# --- who begins, and what comes of it


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
    assert one.machine.entries.peers[0].trouble == "no answer to the handshake"


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


# --- new keys


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


def test_keys_are_forgotten_after_540_seconds_whatever_woke_the_node() -> None:
    one, other = a_pair()
    ours, _ = shake_hands(one, other, 0.0)

    assert not only(one.machine.on_timer(539.0), ForgetSession)
    assert only(one.machine.on_timer(540.0), ForgetSession) == [ForgetSession(ours.local_index)]


def test_a_peer_that_begins_again_and_again_has_no_more_than_four_sessions() -> None:
    one, other = a_pair()
    forgotten = []
    for number in range(6):
        sent = first_of(one, other, float(number))
        told = deliver_first(sent, ALICE_RLOC, other, float(number))
        forgotten += only(told, ForgetSession)
        deliver_second(only(told, SendControl)[0], one, float(number))

    assert len(forgotten) == 2
    assert len(other.machine.entries.peers[0].sessions) == 4


def test_a_peer_that_lost_its_sessions_answers_the_handshake_that_silence_begins() -> None:
    one, other = a_pair()
    shake_hands(one, other, 0.0)
    reborn = bob(pinned=pinned(one), memory=other.memory)
    (sent,) = only(one.machine.on_silence(BOB_RLOC, 60.0), SendControl)

    assert only(deliver_first(sent, ALICE_RLOC, reborn, 60.0), InstallSession)
    assert one.machine.on_silence(BOB_RLOC, 60.1) == []


def test_silence_of_another_locator_begins_nothing() -> None:
    one, other = a_pair()
    shake_hands(one, other, 0.0)

    assert one.machine.on_silence(ip("192.0.2.99"), 60.0) == []


def test_after_a_suspend_no_session_of_before_is_used() -> None:
    one, other = a_pair()
    ours, _ = shake_hands(one, other, 0.0)

    assert one.machine.on_slept() == [ForgetPeer(ours.peer)]
    assert only(one.machine.on_seal_wanted(ours.peer, 10.0), SendControl)


# --- whose key it is


def test_a_first_message_of_somebody_unknown_waits_until_the_mapping_system_says_whose_key_it_is() -> None:
    one, other = alice(pinned=pinned(bob())), bob()
    told = deliver_first(first_of(one, other), ALICE_RLOC, other, 0.0)

    assert only(told, SendControl) == []
    assert other.machine.take_questions() == [ALICE_EID]
    vouched = other.machine.on_vouched(ALICE_EID, KeyRecord((one.public,)), 0.5)
    assert only(vouched, InstallSession)
    assert only(vouched, SendControl)


def test_a_first_message_whose_key_nobody_vouches_for_is_dropped_after_two_seconds() -> None:
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

    assert ForgetPeer(ours.peer) in told
    (entry,) = only(told, InstallMapping)
    assert entry.must_seal
    assert entry.peer != ours.peer


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


# --- bad input


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


def test_a_handshake_for_an_eid_of_somebody_else_is_refused() -> None:
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


# --- what is sent in clear


def test_with_prefer_packets_leave_in_clear_until_there_is_a_session_and_never_again() -> None:
    one, other = a_pair()
    assert not one.knows(other).must_seal
    ours, _ = shake_hands(one, other, 0.0)
    settle(one)

    assert one.knows(other).must_seal
    reborn = alice(pinned=pinned(other), memory=one.memory)
    assert reborn.knows(other).must_seal
    assert ours.peer


def test_a_session_has_the_forwarding_entry_made_anew_and_clear_text_refused() -> None:
    one, other = a_pair()
    (answered,) = only(deliver_first(first_of(one, other), ALICE_RLOC, other, 0.0), SendControl)
    assert only(deliver_second(answered, one, 0.0), RefuseClear) == [], "clear packets are still on the way"
    assert not only(one.machine.on_timer(2.9), RefuseClear)
    told = one.machine.on_timer(3.0)

    assert [entry.must_seal for entry in only(told, InstallMapping)] == [True]
    assert only(told, RefuseClear) == [RefuseClear((BOB_EID,))]


def test_the_responder_refuses_clear_text_once_a_packet_has_opened() -> None:
    one, other = a_pair()
    _, theirs = shake_hands(one, other, 0.0)
    assert not other.knows(one).must_seal
    other.machine.on_confirmed(theirs.peer, theirs.local_index, 0.0)
    told = settle(other)

    assert only(told, RefuseClear) == [RefuseClear((ALICE_EID,))]
    assert other.knows(one).must_seal


def test_clear_text_is_refused_from_the_start_after_a_restart() -> None:
    one, other = a_pair()
    shake_hands(one, other, 0.0)
    settle(one)
    reborn = alice(pinned=pinned(other), memory=one.memory)

    assert reborn.machine.on_start() == [RefuseClear((BOB_EID,))]


def test_with_require_nothing_leaves_in_clear_and_none_is_taken() -> None:
    one, other = alice(mode="require"), bob()
    entry = one.knows(other)

    assert (entry.peer, entry.must_seal) == (0, True)
    assert one.machine.on_start() == [RefuseClear((prefix("0.0.0.0/0"),))]


def test_a_peer_without_a_key_is_spoken_to_in_clear() -> None:
    one, other = alice(), bob()

    assert one.knows(other) == mapping_of(other)
    assert one.machine.on_vouched(BOB_EID, None, 0.0) == []


def test_with_off_no_key_is_used_and_no_handshake_answered() -> None:
    one, other = alice(pinned=pinned(bob())), bob(mode="off", pinned=pinned(alice()))

    assert other.knows(one) == mapping_of(one)
    assert deliver_first(first_of(one, other), ALICE_RLOC, other, 0.0) == [Count("rx_policy")]


def test_a_mapping_that_refuses_packets_is_not_sealed() -> None:
    one = alice(pinned=pinned(bob()), mode="require")
    refused = InstallMapping(BOB_EID, "DROP")

    assert one.machine.entries.on_installed(refused) == [refused]


def test_a_key_that_becomes_known_later_has_the_forwarding_entry_made_anew() -> None:
    one, other = alice(), bob()
    one.knows(other)
    (entry,) = only(one.machine.on_vouched(BOB_EID, KeyRecord((other.public,)), 1.0), InstallMapping)

    assert entry.peer
    assert one.machine.entries.on_installed(entry) == [entry]


def test_an_event_says_whose_key_packets_are_sealed_with() -> None:
    one, other = a_pair()
    (answered,) = only(deliver_first(first_of(one, other), ALICE_RLOC, other, 0.0), SendControl)
    (event,) = only(deliver_second(answered, one, 0.0), Event)

    assert event.fields == {"eid": str(BOB_EID), "grade": "pinned", "fingerprint": fingerprint(other.public)}


def test_another_policy_is_obeyed_at_a_reload() -> None:
    one, other = a_pair()
    shake_hands(one, other, 0.0)
    settle(one)
    told = one.machine.on_config(replace(one.config, mode="off"))

    assert only(told, InstallMapping) == [mapping_of(other)]
    assert only(told, RefuseClear) == [RefuseClear(())]


def test_where_a_locator_answers_without_a_handshake_as_an_rtr_does_the_peer_is_asked_as_data_goes() -> None:
    one, other = a_pair()
    request = request_of(first_of(one, other))
    record = MappingRecord.of(BOB_EID, (Locator(BOB_RLOC, is_probed=True),))
    told = one.machine.on_answer(MapReply(request.nonce, (record,), is_probe=True), 0.1)

    assert told is not None
    (sent,) = only(told, SendControl)
    assert (sent.source, sent.destination) == (ALICE_EID.address, BOB_EID.address)
    assert one.machine.entries.peers[0].trouble == "it answers probes, and no handshake"
    (answered,) = only(deliver_first(sent, ALICE_EID.address, other, 0.2), SendControl)
    assert answered.destination == ALICE_EID.address
    assert only(deliver_second(answered, one, 0.3), InstallSession)


def test_every_second_try_goes_as_data_goes_for_a_relay_may_be_on_the_way() -> None:
    one, other = a_pair()
    first_of(one, other)
    tried = [sent.destination for _, told in run_until(one.machine, 8.0) for sent in only(told, SendControl)]

    assert tried == [BOB_EID.address, BOB_RLOC, BOB_EID.address]


def test_behind_a_nat_where_all_goes_to_an_rtr_a_peer_with_a_known_key_has_an_entry_of_its_own() -> None:
    one, other = alice(pinned=pinned(bob())), bob()
    rtr = UsableLocator(ip("192.0.2.9"), 1, 100)
    default = InstallMapping(prefix("0.0.0.0/0"), "TELL", (rtr,))
    plain, narrow = one.machine.entries.on_installed(default)

    assert plain == default
    assert (narrow.prefix, narrow.locators, narrow.disposition) == (BOB_EID, (rtr,), "TELL")
    assert narrow.peer
    assert one.machine.entries.on_removed(default.prefix) == [RemoveMapping(default.prefix), RemoveMapping(BOB_EID)]
    assert one.knows(other).locators != (rtr,)


def test_an_entry_made_of_the_default_one_goes_when_sealing_is_turned_off() -> None:
    one = alice(pinned=pinned(bob()))
    one.machine.entries.on_installed(
        InstallMapping(prefix("0.0.0.0/0"), "TELL", (UsableLocator(ip("192.0.2.9"), 1, 100),))
    )
    told = one.machine.on_config(replace(one.config, mode="off"))

    assert only(told, RemoveMapping) == [RemoveMapping(BOB_EID)]
    assert one.machine.entries.on_removed(BOB_EID) == [RemoveMapping(BOB_EID)]


def test_an_entry_that_comes_by_again_is_left_as_it_is() -> None:
    one = alice(pinned=pinned(bob()))
    default = InstallMapping(prefix("0.0.0.0/0"), "TELL", (UsableLocator(ip("192.0.2.9"), 1, 100),))
    _, narrow = one.machine.entries.on_installed(default)
    assert one.machine.entries.on_installed(narrow) == [narrow]

    assert RemoveMapping(BOB_EID) in one.machine.entries.on_removed(default.prefix)


def test_a_mapping_that_ends_behind_a_nat_gives_way_to_the_default_one_with_the_same_peer() -> None:
    one, other = alice(pinned=pinned(bob())), bob()
    one.machine.entries.on_installed(
        InstallMapping(prefix("0.0.0.0/0"), "TELL", (UsableLocator(ip("192.0.2.9"), 1, 100),))
    )
    peer = one.knows(other).peer
    removed, narrow = one.machine.entries.on_removed(BOB_EID)

    assert removed == RemoveMapping(BOB_EID)
    assert isinstance(narrow, InstallMapping)
    assert narrow.peer == peer


def test_a_peer_whose_mapping_went_and_came_again_is_asked_for_it_may_have_restarted() -> None:
    one, other = a_pair()
    shake_hands(one, other, 0.0)
    one.machine.entries.on_removed(BOB_EID)
    assert one.machine.on_mapping_back(30.0) == []
    one.knows(other)

    assert only(one.machine.on_mapping_back(30.0), SendControl)
    assert one.machine.on_mapping_back(31.0) == []


def test_a_peer_whose_mapping_is_gone_is_forgotten_with_its_last_session() -> None:
    one, other = a_pair()
    ours, _ = shake_hands(one, other, 0.0)
    one.machine.entries.on_removed(BOB_EID)
    one.machine.on_timer(600.0)

    assert one.machine.entries.peers == ()
    assert one.machine.on_seal_wanted(ours.peer, 601.0) == []


def test_what_is_remembered_is_kept_by_the_memory_that_was_given() -> None:
    memory = Memory()
    one, other = alice(pinned=pinned(bob()), memory=memory), bob(pinned=pinned(alice()))
    shake_hands(one, other, 0.0)
    settle(one)

    assert memory.keys[BOB_EID].has_been_sealed
    assert put_first(1, First(bytes(132), ALICE_EID, BOB_EID), ALICE_RLOC)

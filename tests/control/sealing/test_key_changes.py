"""Keys replaced, taken back or forgotten, and further EIDs of a peer: the effect on sessions and on clear text."""

from __future__ import annotations

import pytest

from lispmob.control.sealing.noise import KeyPair
from lispmob.protocol.effect import (
    Event,
    ForgetPeer,
    InstallMapping,
    InstallSession,
    RefuseClear,
    SendControl,
    SetSessionSources,
)
from lispmob.wire.key_record import KeyRecord
from tests.control.sealing.sealed_pair import (
    ALICE_EID,
    BOB_EID,
    a_pair,
    alice,
    bob,
    deliver_first,
    deliver_second,
    pinned,
    settle,
    shake_hands,
)
from tests.control.support import only, prefix
from tests.crypto.support import ciphers, needs_libcrypto

pytestmark = needs_libcrypto


def test_sessions_of_a_revoked_key_end_at_once_and_clear_text_is_allowed_again() -> None:
    one, other = alice(), bob(pinned=pinned(alice()))
    one.machine.on_vouched(BOB_EID, KeyRecord((other.public,)), 0.0)
    ours, _ = shake_hands(one, other, 0.0)
    settle(one)

    told = one.machine.on_vouched(BOB_EID, KeyRecord((other.public,), is_revoked=True), 5.0)

    assert ForgetPeer(ours.peer) in told
    assert [event.kind for event in only(told, Event)] == ["key-revoked"]
    assert [(entry.peer, entry.must_seal) for entry in only(told, InstallMapping)] == [(0, False)]
    assert only(told, RefuseClear) == [RefuseClear(())]


def test_with_strict_keys_a_revoked_key_is_used_until_the_user_forgets_it() -> None:
    one, other = alice(is_strict=True), bob(pinned=pinned(alice()))
    one.machine.on_vouched(BOB_EID, KeyRecord((other.public,)), 0.0)
    ours, _ = shake_hands(one, other, 0.0)
    settle(one)
    revoked = KeyRecord((other.public,), is_revoked=True)

    told = [one.machine.on_vouched(BOB_EID, revoked, at) for at in (5.0, 6.0)]
    forgotten = one.machine.forget_key(BOB_EID)

    assert [len(only(one_told, Event)) for one_told in told] == [1, 0]
    assert not any(only(one_told, ForgetPeer) for one_told in told)
    assert ForgetPeer(ours.peer) in forgotten
    assert only(forgotten, RefuseClear) == [RefuseClear(())]
    with pytest.raises(ValueError, match="no key"):
        one.machine.forget_key(BOB_EID)


def test_another_static_key_of_our_own_begins_handshakes_and_ends_no_session() -> None:
    one, other = alice(), bob()
    one.machine.on_vouched(BOB_EID, KeyRecord((other.public,)), 0.0)
    other.machine.on_vouched(ALICE_EID, KeyRecord((one.public,)), 0.0)
    other.knows(one)
    shake_hands(one, other, 1.0)
    fresh = KeyPair.of(bytes(range(3, 35)), ciphers())

    told = one.machine.on_static_key(fresh, 10.0)
    (sent,) = only(told, SendControl)
    held = deliver_first(sent, one.rloc, other, 10.1)
    vouched = other.machine.on_vouched(ALICE_EID, KeyRecord((fresh.public,)), 10.2)

    assert not only(told, ForgetPeer)
    assert not only(held, SendControl), "nobody vouches for the new key yet"
    assert other.machine.take_questions() == [ALICE_EID]
    (answered,) = only(vouched, SendControl)
    assert only(deliver_second(answered, one, 10.3), InstallSession)


def test_unanswered_handshakes_make_us_ask_whose_key_it_is_by_now() -> None:
    one, _ = a_pair()
    one.machine.on_seal_wanted(one.machine.entries.peers[0].number, 0.0)
    asked = []
    for _ in range(4):
        at = one.machine.wake_at()
        assert at is not None
        one.machine.on_timer(at)
        asked.append(one.machine.take_questions())

    assert asked == [[], [BOB_EID], [], []]


def test_another_eid_of_a_peer_may_come_by_its_session_once_its_key_is_vouched_for() -> None:
    one, other = a_pair()
    ours, _ = shake_hands(one, other, 1.0)
    second = prefix("10.2.0.8/32")

    told = one.machine.on_vouched(second, KeyRecord((other.public,)), 2.0)
    stranger = one.machine.on_vouched(prefix("10.9.0.1/32"), KeyRecord((bytes(31) + b"\x09",)), 3.0)

    assert only(told, SetSessionSources) == [SetSessionSources(ours.local_index, (BOB_EID, second))]
    assert only(stranger, SetSessionSources) == []
    assert only(one.machine.on_vouched(second, KeyRecord((other.public,)), 4.0), SetSessionSources) == []


def test_an_eid_whose_key_has_changed_may_no_longer_come_by_the_old_ones_session() -> None:
    one, other = a_pair()
    second = prefix("10.2.0.8/32")
    one.machine.on_vouched(second, KeyRecord((other.public,)), 0.5)
    ours, _ = shake_hands(one, other, 1.0)

    told = one.machine.on_vouched(second, KeyRecord((bytes(31) + b"\x09",)), 2.0)

    assert ours.sources == (BOB_EID, second)
    assert only(told, SetSessionSources) == [SetSessionSources(ours.local_index, (BOB_EID,))]


def test_keys_are_replaced_on_demand_but_not_faster_than_packets_are_on_their_way() -> None:
    one, other = a_pair()
    shake_hands(one, other, 10.0)

    assert not only(one.machine.on_rekey(10.9), SendControl)
    assert len(only(one.machine.on_rekey(11.0), SendControl)) == 1

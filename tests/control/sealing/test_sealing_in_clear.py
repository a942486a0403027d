"""The machine of sealed data: what is sent and accepted in clear, and by which entries."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from lispmob.control.sealing.handshake_carriage import First, put_first
from lispmob.control.sealing.peer_keys import fingerprint
from lispmob.protocol.effect import (
    Count,
    Event,
    InstallMapping,
    InstallSession,
    RefuseClear,
    RemoveMapping,
    SendControl,
    UsableLocator,
)
from lispmob.wire.address import EidPrefix
from lispmob.wire.key_record import KeyRecord
from lispmob.wire.map_reply import MapReply
from lispmob.wire.record import Locator, MappingRecord
from tests.control.sealing.sealed_pair import (
    ALICE_EID,
    ALICE_RLOC,
    BOB_EID,
    BOB_RLOC,
    Memory,
    Side,
    a_pair,
    alice,
    bob,
    deliver_first,
    deliver_second,
    first_of,
    mapping_of,
    pinned,
    request_of,
    settle,
    shake_hands,
)
from tests.control.support import ip, only, prefix, run_until
from tests.crypto.support import needs_libcrypto

pytestmark = needs_libcrypto


def test_with_prefer_packets_leave_in_clear_until_there_is_a_session_and_never_again() -> None:
    one, other = a_pair()
    assert not one.knows(other).must_seal
    ours, _ = shake_hands(one, other, 0.0)
    settle(one)

    assert one.knows(other).must_seal
    reborn = alice(pinned=pinned(other), memory=one.memory)
    assert reborn.knows(other).must_seal
    assert ours.peer


def test_a_session_replaces_the_forwarding_entry_and_has_clear_text_refused() -> None:
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


def test_with_require_those_with_a_known_key_are_named_so_that_no_hub_speaks_for_them() -> None:
    one = alice(mode="require", pinned=pinned(bob()))
    assert one.machine.on_start() == [RefuseClear((prefix("0.0.0.0/0"), BOB_EID))]

    told = one.machine.on_vouched(prefix("10.3.0.0/24"), KeyRecord((bytes([3]) * 32,)), 1.0)

    assert only(told, RefuseClear) == [RefuseClear((prefix("0.0.0.0/0"), BOB_EID, prefix("10.3.0.0/24")))]


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


def test_a_key_that_becomes_known_later_replaces_the_forwarding_entry() -> None:
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
    assert one.machine.entries.peers[0].why_unsealed == "it answers probes, and no handshake"
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
    default = InstallMapping(prefix("0.0.0.0/0"), "ENCAPSULATE_AND_REPORT", (rtr,))
    plain, narrow = only(one.machine.entries.on_installed(default), InstallMapping)

    assert plain == default
    assert (narrow.prefix, narrow.locators, narrow.disposition) == (BOB_EID, (rtr,), "ENCAPSULATE_AND_REPORT")
    assert narrow.peer
    assert one.machine.entries.on_removed(default.prefix) == [RemoveMapping(default.prefix), RemoveMapping(BOB_EID)]
    assert one.knows(other).locators != (rtr,)


def test_an_entry_made_of_the_default_one_goes_when_sealing_is_turned_off() -> None:
    one = alice(pinned=pinned(bob()))
    one.machine.entries.on_installed(
        InstallMapping(prefix("0.0.0.0/0"), "ENCAPSULATE_AND_REPORT", (UsableLocator(ip("192.0.2.9"), 1, 100),))
    )
    told = one.machine.on_config(replace(one.config, mode="off"))

    assert only(told, RemoveMapping) == [RemoveMapping(BOB_EID)]
    assert one.machine.entries.on_removed(BOB_EID) == [RemoveMapping(BOB_EID)]


def test_an_entry_that_comes_by_again_is_left_as_it_is() -> None:
    one = alice(pinned=pinned(bob()))
    default = InstallMapping(prefix("0.0.0.0/0"), "ENCAPSULATE_AND_REPORT", (UsableLocator(ip("192.0.2.9"), 1, 100),))
    _, narrow = only(one.machine.entries.on_installed(default), InstallMapping)
    assert one.machine.entries.on_installed(narrow) == [narrow]

    assert RemoveMapping(BOB_EID) in one.machine.entries.on_removed(default.prefix)


def test_a_mapping_that_ends_behind_a_nat_gives_way_to_the_default_one_with_the_same_peer() -> None:
    one, other = alice(pinned=pinned(bob())), bob()
    one.machine.entries.on_installed(
        InstallMapping(prefix("0.0.0.0/0"), "ENCAPSULATE_AND_REPORT", (UsableLocator(ip("192.0.2.9"), 1, 100),))
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


NATIVE = InstallMapping(prefix("10.2.0.0/16"), "NATIVE")


def sealed_before(memory: Memory) -> Side:
    """Alice, who has had a session with bob, after a restart."""
    one, other = alice(memory=memory), bob(pinned=pinned(alice()))
    one.machine.on_vouched(BOB_EID, KeyRecord((other.public,)), 0.0)
    shake_hands(one, other, 0.0)
    settle(one)
    return alice(memory=memory)


def test_with_require_nothing_leaves_without_lisp_either() -> None:
    one = alice(mode="require")

    assert one.machine.entries.on_installed(NATIVE) == [replace(NATIVE, disposition="PROHIBIT")]
    relaxed = one.machine.on_config(replace(one.config, mode="prefer"))
    assert only(relaxed, InstallMapping) == [NATIVE]


@pytest.mark.parametrize("at", [prefix("10.2.0.0/16"), prefix("0.0.0.0/0"), prefix("10.2.0.6/31")])
def test_no_mapping_has_packets_for_a_peer_that_has_sealed_leave_without_lisp(at: EidPrefix) -> None:
    one = sealed_before(Memory())
    wide = replace(NATIVE, prefix=at)

    refused = replace(wide, prefix=BOB_EID, disposition="PROHIBIT")
    assert one.machine.entries.on_installed(wide) == [wide, replace(refused, locators=())]
    assert one.machine.entries.on_installed(replace(wide, prefix=BOB_EID)) == [refused]


def test_what_has_no_key_or_has_never_sealed_may_leave_without_lisp() -> None:
    never = alice(pinned=pinned(bob()))
    without, forgotten = alice(), sealed_before(Memory())
    forgotten.machine.forget_key(BOB_EID)

    for one in (never, without, forgotten):
        assert one.machine.entries.on_installed(NATIVE) == [NATIVE]
        assert one.machine.entries.on_installed(replace(NATIVE, prefix=BOB_EID)) == [replace(NATIVE, prefix=BOB_EID)]

"""Which static key is a peer's: pinned, vouched for or remembered; and the effects of a key that changes."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from lispmob.control.sealing.key_trial import KeyTrial
from lispmob.control.sealing.peer_keys import KeptKey, PeerKey, PeerKeys, PinnedKey, fingerprint
from lispmob.control.sharing import sharing
from lispmob.errors import MalformedMessage
from lispmob.protocol.effect import Event
from lispmob.wire.address import EidPrefix
from lispmob.wire.key_record import KeyRecord, take_key_record
from lispmob.wire.lcaf_types import SecurityKey
from lispmob.wire.record import Locator, MappingRecord
from tests.control.support import EID, ip, prefix

ONE, TWO, THREE = (bytes(range(first, first + 32)) for first in (0, 32, 64))
SITE = prefix("10.1.0.0/16")


class Memory:
    def __init__(self, keys: dict[EidPrefix, KeptKey] | None = None) -> None:
        self.keys = keys or {}
        self.times: dict[bytes, int] = {}

    def load_keys(self) -> Mapping[EidPrefix, KeptKey]:
        return self.keys

    def save_keys(self, keys: Mapping[EidPrefix, KeptKey]) -> None:
        self.keys = dict(keys)

    def load_times(self) -> Mapping[bytes, int]:
        return self.times

    def save_times(self, times: Mapping[bytes, int]) -> None:
        self.times = dict(times)


def keys(*pinned: PinnedKey, memory: Memory | None = None, is_strict: bool = False) -> PeerKeys:
    return PeerKeys(pinned, memory or Memory(), is_strict=is_strict)


def grade(known: PeerKeys, eid: EidPrefix = EID) -> tuple[bytes, str] | None:
    found = known.of(eid)
    return None if found is None else (found.key, found.grade)


def kinds(effects: list[object]) -> list[str]:
    return [effect.kind for effect in effects if isinstance(effect, Event)]


def test_the_key_record_is_that_of_the_vectors() -> None:
    key = bytes.fromhex("de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f")
    told = KeyRecord((key,)).to_locator().encode()

    assert told.hex() == f"ff00ff000000400300000b0000280100f1000020{key.hex()}0000"


def test_a_mapping_is_the_same_without_its_key_record() -> None:
    places = (Locator(ip("192.0.2.1")), Locator(ip("192.0.2.2")))
    record = MappingRecord.of(EID, (*places, KeyRecord((ONE,)).to_locator()))

    assert take_key_record(record) == (MappingRecord.of(EID, places), KeyRecord((ONE,)))
    assert take_key_record(MappingRecord.of(EID, places)) == (MappingRecord.of(EID, places), None)


@pytest.mark.parametrize("said", [(), (ONE[:31],), (ONE, TWO, ONE), (ONE + b"\0",)])
def test_keys_of_another_number_or_length_are_refused(said: tuple[bytes, ...]) -> None:
    odd = Locator(SecurityKey(241, said, None), priority=255, is_reachable=False)
    with pytest.raises(MalformedMessage) as refused:
        take_key_record(MappingRecord.of(EID, (odd,)))
    assert refused.value.counter == "rx_lcaf"
    with pytest.raises(ValueError, match="key record"):
        KeyRecord(said).to_locator()


def test_two_key_records_in_one_mapping_are_refused() -> None:
    said = KeyRecord((ONE,)).to_locator()
    with pytest.raises(MalformedMessage):
        take_key_record(MappingRecord.of(EID, (said, said)))


def test_a_pinned_key_counts_before_all_others() -> None:
    known = keys(PinnedKey(SITE, ONE))
    told = known.on_vouched(EID, KeyRecord((TWO,)))

    assert grade(known) == (ONE, "pinned")
    assert kinds(list(told)) == ["key-changed"]


def test_a_vouched_key_is_remembered_when_its_record_is_left_out_and_over_a_restart() -> None:
    memory = Memory()
    known = keys(memory=memory)
    assert known.on_vouched(EID, KeyRecord((ONE,))) == []
    assert grade(known) == (ONE, "vouched")
    known.on_vouched(EID, None)
    assert grade(known) == (ONE, "remembered")

    assert grade(keys(memory=memory)) == (ONE, "remembered")


def test_a_key_that_was_never_vouched_for_is_none() -> None:
    known = keys()
    known.on_vouched(EID, None)

    assert grade(known) is None


def test_another_vouched_key_is_taken_with_an_event_that_names_both() -> None:
    known = keys()
    known.on_vouched(EID, KeyRecord((ONE,)))
    (event,) = known.on_vouched(EID, KeyRecord((TWO,)))

    assert isinstance(event, Event)
    assert (event.fields["old"], event.fields["new"]) == (fingerprint(ONE), fingerprint(TWO))
    assert grade(known) == (TWO, "vouched")


def test_with_strict_keys_another_key_waits_until_the_user_accepts_it() -> None:
    known = keys(is_strict=True)
    known.on_vouched(EID, KeyRecord((ONE,)))
    assert kinds(list(known.on_vouched(EID, KeyRecord((TWO,))))) == ["key-changed"]
    assert known.on_vouched(EID, KeyRecord((TWO,))) == [], "said once"
    assert grade(known) == (ONE, "vouched")
    assert known.waiting == {EID: TWO}

    known.accept(EID)
    assert grade(known) == (TWO, "vouched")
    with pytest.raises(ValueError, match="waits"):
        known.accept(EID)


def strict() -> tuple[PeerKeys, PeerKey]:
    """One vouched key, and another one would wait."""
    known = keys(is_strict=True)
    known.on_vouched(EID, KeyRecord((ONE,)))
    found = known.of(EID)
    assert found is not None
    return known, found


@pytest.mark.parametrize("is_announced_first", [True, False])
def test_with_strict_keys_another_key_does_not_wait_where_the_owner_of_the_former_one_announced_it(
    is_announced_first: bool,
) -> None:
    known, former = strict()

    if is_announced_first:
        assert known.on_announced(former, TWO) == []
        assert grade(known) == (ONE, "vouched"), "its Map-Server has not vouched for it"
        told = known.on_vouched(EID, KeyRecord((TWO,)))
    else:
        known.on_vouched(EID, KeyRecord((TWO,)))
        told = known.on_announced(former, TWO)

    assert kinds(list(told)) == ["key-changed"]
    assert (grade(known), known.waiting) == ((TWO, "vouched"), {})


def test_an_announced_key_is_none_without_a_word_of_the_map_server_and_no_other_one_takes_its_place() -> None:
    known, former = strict()
    known.on_announced(former, TWO)

    known.on_vouched(EID, KeyRecord((THREE,)))

    assert (grade(known), known.waiting) == ((ONE, "vouched"), {EID: THREE})


def test_only_the_owner_of_the_present_key_announces_another_one() -> None:
    known, former = strict()
    known.on_announced(PeerKey(EID, THREE, "vouched"), TWO)
    known.on_announced(PeerKey(prefix("10.9.0.1/32"), ONE, "vouched"), TWO)
    known.on_announced(former, ONE)
    known.on_vouched(EID, KeyRecord((TWO,)))
    assert known.waiting == {EID: TWO}

    known.accept(EID)
    assert known.on_announced(former, THREE) == [], "its key is the former one by now"
    known.on_vouched(EID, KeyRecord((THREE,)))

    assert (grade(known), known.waiting) == ((TWO, "vouched"), {EID: THREE})


def test_an_announcement_counts_for_one_change_and_not_for_the_way_back() -> None:
    known, former = strict()
    known.on_announced(former, TWO)
    known.on_vouched(EID, KeyRecord((TWO,)))

    known.on_vouched(EID, KeyRecord((ONE,)))

    assert (grade(known), known.waiting) == ((TWO, "vouched"), {EID: ONE})


def test_no_announcement_changes_a_pinned_key() -> None:
    known = PeerKeys((PinnedKey(EID, ONE),), Memory(), is_strict=True)
    found = known.of(EID)
    assert found is not None
    known.on_session(found)

    known.on_announced(found, TWO)
    known.on_vouched(EID, KeyRecord((TWO,)))

    assert grade(known) == (ONE, "pinned")


def test_a_revoked_key_is_used_no_more() -> None:
    known = keys()
    known.on_vouched(EID, KeyRecord((ONE,)))

    assert kinds(list(known.on_vouched(EID, KeyRecord((ONE,), is_revoked=True)))) == ["key-revoked"]
    assert grade(known) is None


def test_a_peer_that_has_sealed_goes_on_sealing_with_a_new_key() -> None:
    known = keys()
    known.on_vouched(EID, KeyRecord((ONE,)))
    found = known.of(EID)
    assert found is not None
    assert known.on_session(found)
    assert not known.on_session(found)
    known.on_vouched(EID, KeyRecord((TWO,)))

    assert known.refused_clear == (EID,)


def test_packets_of_a_session_may_come_from_all_prefixes_of_its_key_and_no_others() -> None:
    other, elsewhere = prefix("2001:db8::1/128"), prefix("[7]10.1.0.1/32")
    known = keys()
    for eid_prefix in (EID, other, elsewhere):
        known.on_vouched(eid_prefix, KeyRecord((ONE,)))
    known.on_vouched(prefix("10.3.0.1/32"), KeyRecord((TWO,)))
    found = known.of(EID)

    assert found is not None
    assert set(known.sources(found)) == {EID, other}


def test_a_fingerprint_has_twenty_digits_in_five_groups() -> None:
    assert [len(group) for group in fingerprint(ONE).split("-")] == [4] * 5
    assert fingerprint(ONE) != fingerprint(TWO)


def test_our_own_key_in_a_map_notify_is_no_other_node_with_our_eid() -> None:
    place = Locator(ip("192.0.2.1"))
    assert sharing(MappingRecord.of(EID, (place, KeyRecord((ONE,)).to_locator())), (place,)) is None


def answered(trial: KeyTrial, now: float, tries: int = 1, *, is_keyed: bool, is_offered: bool = True) -> bool:
    return trial.on_answer(now, is_keyed=is_keyed, is_offered=is_offered, tries=tries)


def test_a_map_server_gets_the_key_once_it_has_said_that_it_keeps_keys() -> None:
    trial = KeyTrial(is_wanted=True)
    assert not trial.says_key(1)
    assert answered(trial, 0.0, is_keyed=False)
    assert trial.says_key(1)
    assert not answered(trial, 0.1, is_keyed=True)
    assert trial.is_taken
    assert trial.says_key(1)


def test_a_map_server_that_says_nothing_of_keys_never_gets_one() -> None:
    trial = KeyTrial(is_wanted=True)
    for minute in range(200):
        assert not trial.says_key(1)
        assert not answered(trial, 60.0 * minute, is_keyed=False, is_offered=False)


def test_the_key_is_left_out_at_once_when_another_program_has_become_the_map_server() -> None:
    trial = KeyTrial(is_wanted=True)
    answered(trial, 0.0, is_keyed=False)
    answered(trial, 0.1, is_keyed=True)

    assert answered(trial, 60.0, is_keyed=True, is_offered=False)  # it took the key, and may show it to any node
    assert not trial.is_taken
    assert not trial.says_key(1)
    assert not answered(trial, 60.1, is_keyed=False, is_offered=False)
    assert not trial.says_key(1)


def test_a_map_server_that_has_become_one_of_ours_gets_the_key_with_the_next_register() -> None:
    trial = KeyTrial(is_wanted=True)
    answered(trial, 0.0, is_keyed=False, is_offered=False)
    assert answered(trial, 60.0, is_keyed=False)
    assert trial.says_key(1)


def test_a_map_server_without_room_for_the_key_is_left_alone_for_an_hour() -> None:
    trial = KeyTrial(is_wanted=True)
    answered(trial, 0.0, is_keyed=False)
    assert [trial.says_key(tries) for tries in (1, 2, 3)] == [True, True, False]
    assert not answered(trial, 3.0, 3, is_keyed=False)
    assert not trial.says_key(1)
    assert not answered(trial, 60.0, is_keyed=False)
    assert answered(trial, 3700.0, is_keyed=False)


def test_without_a_key_of_ours_nothing_is_tried() -> None:
    trial = KeyTrial(is_wanted=False)
    assert not answered(trial, 0.0, is_keyed=False)
    assert not trial.says_key(1)

"""Keys of RFC 8061 and lispers.net: two nodes agree on them, and nodes without them and malformed keys are handled."""

from __future__ import annotations

from itertools import count

import pytest
from msgspec.structs import replace

from lispmob.control.sealing.dialect_keys import DialectName
from lispmob.control.sealing.dialects import AGAIN_S, REKEY_S, REST_S, Dialects
from lispmob.protocol.effect import (
    Count,
    ForgetDialect,
    InstallMapping,
    MachineEffect,
    SendControl,
    UsableLocator,
    UseDialect,
)
from lispmob.protocol.locator_set import LocalLocator, LocatorSet
from lispmob.wire.address import EidPrefix
from lispmob.wire.lcaf_types import AfiList, SecurityKey
from lispmob.wire.map_reply import MapReply
from lispmob.wire.map_request import EidRecord, MapRequest
from lispmob.wire.message import decode_control
from lispmob.wire.record import Locator, MappingRecord
from tests.control.sealing.sealed_pair import drawing
from tests.crypto.support import ciphers, needs_libcrypto
from tests.internet.world import ip

pytestmark = needs_libcrypto

A, B = ip("198.51.100.1"), ip("203.0.113.5")
EID_A, EID_B = EidPrefix.parse("10.1.0.1/32"), EidPrefix.parse("10.2.0.7/32")
OWN = LocatorSet.of(1, [LocalLocator(A, 1)])
MAPPING = InstallMapping(EID_B, "ENCAPSULATE", (UsableLocator(B, 1, 100),))
RECORD = MappingRecord.of(EID_B, (Locator(B, is_local=True, is_probed=True),), ttl_min=10, is_authoritative=True)
BOTH: tuple[DialectName, ...] = ("lispers-net", "rfc8061")


def machine(*wanted: DialectName, seed: int = 1) -> Dialects:
    return Dialects(wanted, ciphers=ciphers(), draw=drawing(seed), new_nonce=count(seed << 20).__next__)


def question(effects: list[MachineEffect]) -> MapRequest:
    sent = [effect for effect in effects if isinstance(effect, SendControl)]
    assert [one.destination for one in sent] == [B]
    message = decode_control(sent[0].payload)
    assert isinstance(message, MapRequest)
    assert message.is_probe
    return message


def used(effects: list[MachineEffect]) -> list[UseDialect]:
    return [effect for effect in effects if isinstance(effect, UseDialect)]


def counts(effects: list[MachineEffect]) -> list[str]:
    return [effect.name for effect in effects if isinstance(effect, Count)]


def answered(other: Dialects, request: MapRequest, now: float = 0.0) -> tuple[MapReply, list[UseDialect]]:
    records, effects = other.on_asked(request, B, (RECORD,), now)
    reply = decode_control(MapReply(request.nonce, records, is_probe=True).encode())
    assert isinstance(reply, MapReply)
    return reply, used(effects)


def agreed(asker: Dialects, other: Dialects, now: float = 0.0) -> tuple[UseDialect, UseDialect]:
    """The keys of both sides after one Map-Request."""
    request = question(asker.on_used(MAPPING, EID_A, OWN, now))
    reply, theirs = answered(other, request, now)
    assert asker.expects(reply.nonce)
    ours = used(asker.on_map_reply(reply, OWN, now))
    return ours[0], theirs[-1]


@pytest.mark.parametrize("dialect", BOTH)
def test_both_sides_have_the_same_key_for_one_direction(dialect: DialectName) -> None:
    ours, theirs = agreed(machine(dialect), machine(*BOTH, seed=2))

    assert (ours.key, ours.integrity, ours.key_id) == (theirs.key, theirs.integrity, theirs.key_id)
    assert (ours.locator, ours.seals, theirs.locator, theirs.seals) == (B, True, A, False)
    assert {ours.dialect, theirs.dialect} == {dialect}
    assert ours.suite == theirs.suite == {"lispers-net": 2, "rfc8061": 5}[dialect]


def test_a_node_without_a_dialect_asks_no_peer_and_answers_as_ever() -> None:
    nobody, asker = machine(), machine(*BOTH, seed=2)
    request = question(asker.on_used(MAPPING, EID_A, OWN, 0.0))

    assert nobody.on_used(MAPPING, EID_A, OWN, 0.0) == []
    assert nobody.on_asked(request, B, (RECORD,), 0.0) == ((RECORD,), [])


@pytest.mark.parametrize(
    "sealed",
    [
        replace(MAPPING, peer=1),
        replace(MAPPING, must_seal=True),
        replace(MAPPING, prefix=EidPrefix.parse("0.0.0.0/0")),
        replace(MAPPING, locators=(UsableLocator(B, 1, 100, is_relay=True),)),
        replace(MAPPING, disposition="DROP", locators=()),
    ],
)
def test_who_seals_who_is_behind_a_relay_and_what_is_no_peer_is_never_asked(sealed: InstallMapping) -> None:
    assert machine(*BOTH).on_used(sealed, EID_A, OWN, 0.0) == []


def test_a_locator_is_asked_once_however_many_packets_leave() -> None:
    asker = machine(*BOTH)

    assert question(asker.on_used(MAPPING, EID_A, OWN, 0.0))
    assert asker.on_used(MAPPING, EID_A, OWN, 0.1) == []


def test_one_that_says_nothing_is_asked_for_each_dialect_three_times_and_then_rests() -> None:
    asker, now, asked = machine(*BOTH), 0.0, []
    effects = asker.on_used(MAPPING, EID_A, OWN, now)
    while effects:
        asked.append(question(effects))
        at = asker.wake_at()
        assert at is not None
        now = at
        effects = asker.on_timer(OWN, now)

    suites = [key.cipher_suite for one in asked for key in one.itr_rlocs if isinstance(key, SecurityKey)]
    assert suites == [2] * len(AGAIN_S) + [5] * len(AGAIN_S)
    assert asker.wake_at() is None
    assert asker.on_used(MAPPING, EID_A, OWN, now + REST_S - 1) == []
    assert question(asker.on_used(MAPPING, EID_A, OWN, now + REST_S))


def test_an_answer_without_a_key_is_a_no_at_once() -> None:
    asker = machine("lispers-net")
    request = question(asker.on_used(MAPPING, EID_A, OWN, 0.0))

    effects = asker.on_map_reply(MapReply(request.nonce, (RECORD,), is_probe=True), OWN, 0.1)

    assert counts(effects) == ["rx_dialect_none"]
    assert (used(effects), asker.wake_at()) == ([], None)


@pytest.mark.parametrize("suite", [0, 1, 2, 3, 6, 241])
def test_an_answer_of_another_suite_is_a_no(suite: int) -> None:
    asker = machine("rfc8061")
    request = question(asker.on_used(MAPPING, EID_A, OWN, 0.0))
    said = replace(RECORD, locators=(Locator(SecurityKey(suite, (bytes(range(32)),), B)),))

    assert used(asker.on_map_reply(MapReply(request.nonce, (said,), is_probe=True), OWN, 0.1)) == []


def test_a_lispers_net_that_answers_a_question_of_the_rfc_in_its_own_way_is_not_taken_for_one_that_can() -> None:
    asker, other = machine("rfc8061"), machine("lispers-net", seed=2)
    request = question(asker.on_used(MAPPING, EID_A, OWN, 0.0))

    reply, theirs = answered(other, request)

    assert [one.dialect for one in theirs] == ["lispers-net"]
    assert isinstance(reply.records[0].locators[0].address, AfiList)
    assert used(asker.on_map_reply(reply, OWN, 0.1)) == []


@pytest.mark.parametrize("key", [bytes(32), bytes(31), bytes(33), b"", (1).to_bytes(32, "little")])
def test_a_key_that_makes_no_secret_is_refused_on_both_sides(key: bytes) -> None:
    asker, other = machine("rfc8061"), machine("rfc8061", seed=2)
    request = question(asker.on_used(MAPPING, EID_A, OWN, 0.0))
    bad = replace(request, itr_rlocs=(SecurityKey(5, (key,), A),))
    said = replace(RECORD, locators=(Locator(SecurityKey(5, (key,), B)),))

    records, effects = other.on_asked(bad, B, (RECORD,), 0.0)

    assert (records, used(effects)) == ((RECORD,), [])
    assert counts(effects) in (["rx_auth"], ["rx_lcaf"])
    assert used(asker.on_map_reply(MapReply(request.nonce, (said,), is_probe=True), OWN, 0.1)) == []


def test_the_same_question_twice_is_answered_with_the_same_key_and_changes_nothing() -> None:
    asker, other = machine(*BOTH), machine(*BOTH, seed=2)
    request = question(asker.on_used(MAPPING, EID_A, OWN, 0.0))
    first, keys = answered(other, request)
    again, none = answered(other, request, 0.1)

    assert (len(keys), none) == (1, [])
    assert first.records == again.records


def test_a_node_that_asks_all_the_time_is_answered_twenty_times_a_second() -> None:
    other = machine("rfc8061", seed=2)
    given = 0
    for at in range(200):
        asker = machine("rfc8061", seed=10 + at)
        request = question(asker.on_used(MAPPING, EID_A, OWN, 0.0))
        key = next(one for one in request.itr_rlocs if isinstance(one, SecurityKey))
        from_there = replace(request, itr_rlocs=(replace(key, address=ip(f"198.51.{at}.1")),))
        _, effects = other.on_asked(from_there, B, (RECORD,), at / 200)
        given += len(used(effects))

    assert 20 <= given <= 41


def test_a_key_is_replaced_after_an_hour_and_rfc_8061_keeps_the_old_one_until_then() -> None:
    asker, other = machine("rfc8061"), machine("rfc8061", seed=2)
    made = [agreed(asker, other, place * REKEY_S) for place in range(4)]

    assert [ours.key_id for ours, _ in made] == [1, 2, 1, 2]
    assert all(ours.key == theirs.key for ours, theirs in made)
    assert len({ours.key for ours, _ in made}) == 4
    assert asker.on_used(MAPPING, EID_A, OWN, 3 * REKEY_S + REKEY_S - 1) == []


def test_lispers_net_has_one_key_and_it_is_replaced_in_place() -> None:
    asker, other = machine("lispers-net"), machine("lispers-net", seed=2)

    made = [agreed(asker, other, place * REKEY_S) for place in range(2)]

    assert [ours.key_id for ours, _ in made] == [1, 1]
    assert made[0][0].key != made[1][0].key


def test_one_that_has_restarted_is_asked_again_when_it_falls_silent_and_left_in_clear_when_it_cannot_any_more() -> None:
    asker, other = machine("lispers-net"), machine("lispers-net", seed=2)
    agreed(asker, other)

    assert asker.on_silence(B, OWN, 1.0) == []
    effects = asker.on_silence(B, OWN, 10.0)
    while (at := asker.wake_at()) is not None:
        assert question(effects)
        effects = asker.on_timer(OWN, at)

    assert effects == [ForgetDialect(B, True)]
    assert asker.dialect_of(B) is None


def test_a_reload_with_other_dialects_and_a_sleep_forget_all_keys() -> None:
    for how in ("reload", "sleep"):
        asker, other = machine(*BOTH), machine(*BOTH, seed=2)
        agreed(asker, other)
        effects = asker.on_config(("rfc8061",)) if how == "reload" else asker.on_slept()
        gone = other.on_config(()) if how == "reload" else other.on_slept()

        assert ForgetDialect(B, True) in effects
        assert ForgetDialect(A, False) in gone
        assert asker.on_config(asker.wanted) == []


def test_the_octets_of_a_key_in_a_request_are_those_of_the_rfc() -> None:
    request = question(machine("rfc8061").on_used(MAPPING, EID_A, OWN, 0.0))
    key = next(one for one in request.itr_rlocs if isinstance(one, SecurityKey))

    lcaf = "400300000b00002c0100050000" + "20" + key.keys[0].hex() + "0001" + A.packed.hex()
    assert lcaf in request.encode().hex()


def test_an_answer_in_lispers_nets_way_has_the_octets_that_it_writes_itself() -> None:
    request = question(machine("lispers-net").on_used(MAPPING, EID_A, OWN, 0.0))
    reply, _ = answered(machine("lispers-net", seed=2), request)
    (address,) = (locator.address for locator in reply.records[0].locators)
    assert isinstance(address, AfiList)
    key = next(one for one in address.addresses if isinstance(one, SecurityKey))

    there = "0001" + B.packed.hex()
    lcaf = "400300000100003a" + there + "400300000b00002c010002000020" + key.keys[0].hex() + there
    assert lcaf in reply.encode().hex()


def test_where_another_key_brings_no_answer_either_packets_leave_in_clear_again() -> None:
    asker, other = machine("rfc8061"), machine("rfc8061", seed=2)
    agreed(asker, other)
    request = question(asker.on_silence(B, OWN, 10.0))
    reply, _ = answered(other, request, 10.0)
    assert used(asker.on_map_reply(reply, OWN, 10.1))

    assert asker.on_silence(B, OWN, 20.0) == [ForgetDialect(B, True)]
    assert asker.on_used(MAPPING, EID_A, OWN, 30.0) == []


@pytest.mark.parametrize("padding", [0, 40, 1000])
def test_probes_to_a_lispers_net_carry_the_key_in_use_and_stay_as_long_as_they_are(padding: int) -> None:
    asker = machine("lispers-net")
    agreed(asker, machine("lispers-net", seed=2))
    probe = MapRequest(7, None, (A,), (EidRecord.of(EID_B),), is_probe=True)
    sent = SendControl(probe.encode() + bytes(padding), B, is_whole=bool(padding))

    dressed = asker.with_key(sent)
    message = decode_control(dressed.payload)

    assert isinstance(message, MapRequest)
    assert isinstance(message.itr_rlocs[0], SecurityKey)
    assert (message.nonce, message.itr_rlocs[0].address) == (7, A)
    assert padding < 100 or len(dressed.payload) == len(sent.payload)
    assert asker.with_key(dressed) == dressed


@pytest.mark.parametrize("dialect", BOTH)
def test_messages_to_others_and_of_other_kinds_stay_as_they_are(dialect: DialectName) -> None:
    asker = machine(dialect)
    agreed(asker, machine(dialect, seed=2))
    probe = SendControl(MapRequest(7, None, (A,), (EidRecord.of(EID_B),), is_probe=True).encode(), A)
    reply = SendControl(MapReply(7, (RECORD,), is_probe=True).encode(), B)

    assert [asker.with_key(one) for one in (probe, reply)] == [probe, reply]


@pytest.mark.parametrize(("age_s", "asks"), [(4.9, False), (5.0, True)])
def test_silence_is_no_reason_for_another_key_within_five_seconds_of_the_last(age_s: float, asks: bool) -> None:
    asker = machine("lispers-net")
    agreed(asker, machine("lispers-net", seed=2), 10.0)

    assert bool(asker.on_silence(B, OWN, 10.0 + age_s)) == asks


@pytest.mark.parametrize(("later_s", "gives_up"), [(59.9, True), (60.0, False)])
def test_a_locator_that_stays_silent_with_another_key_is_left_in_clear_within_a_minute(
    later_s: float, gives_up: bool
) -> None:
    asker, other = machine("lispers-net"), machine("lispers-net", seed=2)
    agreed(asker, other, 10.0)
    reply, _ = answered(other, question(asker.on_silence(B, OWN, 20.0)), 20.0)
    assert used(asker.on_map_reply(reply, OWN, 20.0))

    effects = asker.on_silence(B, OWN, 20.0 + later_s)

    assert (effects == [ForgetDialect(B, True)]) == gives_up


@pytest.mark.parametrize(("age_s", "asks"), [(3599.9, False), (3600.0, True)])
def test_a_key_is_replaced_after_an_hour(age_s: float, asks: bool) -> None:
    asker = machine("lispers-net")
    agreed(asker, machine("lispers-net", seed=2), 10.0)

    assert bool(asker.on_used(MAPPING, EID_A, OWN, 10.0 + age_s)) == asks


def test_256_locators_are_asked_and_the_one_asked_first_makes_room() -> None:
    asker = machine("lispers-net")
    places = [ip("203.0.113.0") + number for number in range(257)]
    for number, place in enumerate(places):
        entry = replace(MAPPING, locators=(UsableLocator(place, 1, 100),))
        assert asker.on_used(entry, EID_A, OWN, number / 1000)

    assert len(asker._asked) == 256
    assert [place in asker._asked for place in places] == [False] + [True] * 256

"""Locators that a sealed peer announces are probed before much is sent there; the peer does not choose how many."""

from __future__ import annotations

from itertools import count

import pytest

from lispmob.control.sealing.announcing import NONCES_MAX, PROBE_BURST, Announcer
from lispmob.control.sealing.peer_keys import PeerKey
from lispmob.control.sealing.sealed_entries import (
    FORGET_S,
    REKEY_RESPONDER_S,
    SESSION_S,
    InstalledSession,
    SealedPeer,
)
from lispmob.protocol.effect import Count, SendControl, SendSealed
from lispmob.wire.map_notify import MapNotify
from lispmob.wire.map_reply import MapReply
from lispmob.wire.record import Locator, MappingRecord
from tests.control.support import WIFI, ip, locators, only, prefix, request_in

PEER = prefix("10.2.0.7/32")
OWN = locators(WIFI)


def announcer() -> Announcer:
    return Announcer(next_nonce=count(1).__next__, new_nonce=count(1 << 32).__next__)


def test_a_place_on_trial_is_probed_at_once_and_three_times_more() -> None:
    machine = announcer()
    sent = [(0.0, effect) for effect in only(machine.on_trials([(ip("203.0.113.1"), PEER)], OWN, 0.0), SendControl)]
    while (at := machine.wake_at()) is not None:
        sent += [(at, effect) for effect in only(machine.on_timer(OWN, at), SendControl)]

    assert [at for at, _ in sent] == [0.0, 0.5, 1.5, 3.5]
    assert {effect.destination for _, effect in sent} == {ip("203.0.113.1")}


def test_a_peer_that_names_hundreds_of_places_has_us_probe_twenty_a_second() -> None:
    machine = announcer()
    places = [(ip("203.0.113.0") + number, PEER) for number in range(250)]
    sent = [0.0] * len(only(machine.on_trials(places, OWN, 0.0), SendControl))
    while (at := machine.wake_at()) is not None and at < 100.0:
        sent += [at] * len(only(machine.on_timer(OWN, at), SendControl))

    assert sent.count(0.0) <= PROBE_BURST
    assert all(sum(start <= at < start + 1.0 for at in sent) <= PROBE_BURST + 21 for start in range(100))
    assert len(sent) == 4 * 250, "each is asked in the end"


def test_places_that_are_on_trial_no_more_are_probed_no_more() -> None:
    machine = announcer()
    places = [(ip("203.0.113.0") + number, PEER) for number in range(250)]
    machine.on_trials(places, OWN, 0.0)
    machine.on_trials([], OWN, 0.1)

    assert machine.wake_at() is None
    assert only(machine.on_timer(OWN, 1.0), SendControl) == []


def peer(number: int = 1, key: int = 1) -> SealedPeer:
    return SealedPeer(number, PeerKey(PEER, key.to_bytes(32), "vouched"))


def word(nonce: int, *eids: str) -> bytes:
    records = (MappingRecord.of(prefix(eid), (Locator(ip("203.0.113.1")),), ttl_min=10) for eid in eids or (str(PEER),))
    return MapNotify(nonce, tuple(records)).encode()


def hear(machine: Announcer, payload: bytes, now: float, who: SealedPeer | None = None) -> tuple[list[str], int, int]:
    """What is counted, how many EID-Prefixes it tells of, and how many acknowledgements leave."""
    heard = machine.on_announcement(who or peer(), lambda eid: eid == PEER, payload, now)
    counted = [effect.name for effect in only(heard.effects, Count)]
    return counted, len(heard.records), len(only(heard.effects, SendSealed))


def test_an_announcement_counts_once_is_acknowledged_as_often_as_it_comes_and_an_older_one_is_a_replay() -> None:
    machine = announcer()

    assert hear(machine, word(7), 0.0) == (["rx_announcement"], 1, 1)
    assert hear(machine, word(7), 0.1) == ([], 0, 1)
    assert hear(machine, word(6), 0.2) == (["rx_replay"], 0, 0)
    assert hear(machine, word(8), 0.3) == (["rx_announcement"], 1, 1)
    assert hear(machine, word(9), 0.4) == (["rx_rate"], 0, 0)
    assert hear(machine, word(9), 1.1) == (["rx_announcement"], 1, 1)


def test_what_another_peer_says_is_counted_apart_and_what_is_no_announcement_by_its_name() -> None:
    machine = announcer()

    assert hear(machine, word(7), 0.0) == (["rx_announcement"], 1, 1)
    assert hear(machine, word(3), 0.0, peer(2, 2)) == (["rx_announcement"], 1, 1)
    assert hear(machine, MapReply(7, (MappingRecord.of(PEER),)).encode(), 0.0) == (["rx_type"], 0, 0)
    assert hear(machine, b"", 0.0)[1:] == (0, 0)


@pytest.mark.parametrize(
    ("eids", "counts"),
    [
        ((str(PEER), "10.9.0.1/32"), (["rx_announcement", "rx_announcement_unknown"], 1, 1)),
        (("10.9.0.1/32",), (["rx_policy"], 0, 0)),
        ((*(f"10.9.0.{number}/32" for number in range(8)), str(PEER)), (["rx_policy"], 0, 0)),
        (
            (*(f"10.9.0.{number}/32" for number in range(7)), str(PEER)),
            (["rx_announcement", *["rx_announcement_unknown"] * 7], 1, 1),
        ),
    ],
)
def test_a_peer_speaks_for_the_eids_of_its_key_alone_and_for_eight_at_most(
    eids: tuple[str, ...], counts: tuple[list[str], int, int]
) -> None:
    assert hear(announcer(), word(7, *eids), 0.0) == counts


def test_the_last_nonces_of_the_keys_that_spoke_last_are_kept() -> None:
    machine = announcer()
    for key in range(1, NONCES_MAX + 2):
        hear(machine, word(7), 0.0, peer(key, key))
        if key == 2:
            hear(machine, word(8), 0.0, peer(1, 1))

    again = [key for key in range(1, NONCES_MAX + 2) if hear(machine, word(5), 9.0, peer(key, key))[0] != ["rx_replay"]]
    assert again[0] == 2


def answer_to(sent: SendControl, eid: str = str(PEER), *, is_authoritative: bool = True) -> MapReply:
    record = MappingRecord.of(prefix(eid), (Locator(ip("203.0.113.1")),), ttl_min=10, is_authoritative=is_authoritative)
    return MapReply(request_in(sent).nonce, (record,), is_probe=True)


@pytest.mark.parametrize(("after_s", "passes"), [(9.9, True), (10.0, True), (10.1, False)])
def test_a_trial_is_passed_by_an_answer_within_ten_seconds(after_s: float, passes: bool) -> None:
    machine = announcer()
    (sent,) = only(machine.on_trials([(ip("203.0.113.1"), PEER)], OWN, 5.0), SendControl)

    found = machine.on_probe_answer(answer_to(sent), 5.0 + after_s)

    assert found == ((ip("203.0.113.1"), PEER) if passes else None)
    assert machine.expects(request_in(sent).nonce) is not passes


def test_a_trial_is_passed_by_an_authority_for_this_eid_alone() -> None:
    machine = announcer()
    (sent,) = only(machine.on_trials([(ip("203.0.113.1"), PEER)], OWN, 5.0), SendControl)

    assert machine.on_probe_answer(answer_to(sent, is_authoritative=False), 5.1) is None
    assert machine.on_probe_answer(answer_to(sent, "10.2.0.8/32"), 5.1) is None
    assert machine.on_probe_answer(answer_to(sent), 5.1) is not None


def test_a_place_of_a_family_that_no_uplink_has_is_not_probed() -> None:
    machine = announcer()

    assert machine.on_trials([(ip("2001:db8::1"), PEER)], OWN, 0.0) == []
    assert machine.wake_at() is None


def test_probes_of_more_than_ten_seconds_ago_are_forgotten() -> None:
    machine = announcer()
    probes = only(
        machine.on_trials([(ip("203.0.113.0") + number, PEER) for number in range(250)], OWN, 0.0), SendControl
    )
    while (at := machine.wake_at()) is not None and at < 15.0:
        probes += only(machine.on_timer(OWN, at), SendControl)

    still_open = [sent for sent in probes if machine.expects(request_in(sent).nonce)]
    assert 190 <= len(still_open) <= 201, "20 a second for ten seconds"
    assert still_open == probes[-len(still_open) :]


def told(machine: Announcer, who: SealedPeer, now: float) -> list[SendSealed]:
    machine.on_mappings([MappingRecord.of(PEER, (Locator(ip("203.0.113.1")),))], [who], now)
    return only(machine.on_mappings([MappingRecord.of(PEER, (Locator(ip("203.0.113.2")),))], [who], now), SendSealed)


def test_an_announcement_that_is_not_acknowledged_is_sent_three_times_more() -> None:
    machine, who = announcer(), peer()
    who.sessions.append(InstalledSession(7, 0.0, is_initiator=True, is_confirmed=True))
    sent = [1.0] * len(told(machine, who, 1.0))
    while (at := machine.wake_at()) is not None:
        sent += [at] * len(only(machine.on_timer(OWN, at), SendSealed))

    assert sent == [1.0, 1.25, 2.25, 5.25]


@pytest.mark.parametrize(("age_s", "is_told"), [(SESSION_S - 0.1, True), (SESSION_S, False)])
def test_only_a_peer_with_a_session_that_both_have_and_that_is_not_too_old_is_told(age_s: float, is_told: bool) -> None:
    who, half = peer(1), peer(2, 2)
    who.sessions.append(InstalledSession(7, 0.0, is_initiator=True, is_confirmed=True))
    half.sessions.append(InstalledSession(8, 0.0, is_initiator=True, is_confirmed=False))

    assert bool(told(announcer(), who, age_s)) == is_told
    assert told(announcer(), half, age_s) == []


@pytest.mark.parametrize(("age_s", "by_responder"), [(REKEY_RESPONDER_S - 0.1, False), (REKEY_RESPONDER_S, True)])
def test_new_keys_are_left_to_the_initiator_for_a_while(age_s: float, by_responder: bool) -> None:
    asked, answered = peer(1), peer(2, 2)
    asked.sessions.append(InstalledSession(7, 5.0, is_initiator=True, is_confirmed=True))
    answered.sessions.append(InstalledSession(8, 5.0, is_initiator=False, is_confirmed=True))

    assert asked.wants_rekey(5.0 + age_s)
    assert answered.wants_rekey(5.0 + age_s) == by_responder
    assert peer().wants_rekey(0.0)


@pytest.mark.parametrize(("age_s", "is_old"), [(FORGET_S - 0.1, False), (FORGET_S, True)])
def test_the_keys_of_a_session_are_overwritten_when_nothing_of_it_can_arrive_any_more(
    age_s: float, is_old: bool
) -> None:
    who = peer()
    old = InstalledSession(7, 5.0, is_initiator=True, is_confirmed=True)
    new = InstalledSession(8, 6.0, is_initiator=True, is_confirmed=True)
    who.sessions += [old, new]

    assert who.take_old(5.0 + age_s) == ([old] if is_old else [])
    assert who.sessions == ([new] if is_old else [old, new])

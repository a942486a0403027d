"""Locators that a sealed peer announces are probed before much is sent there; the peer does not choose how many."""

from __future__ import annotations

from itertools import count

import pytest

from lispmob.control.sealing.announcing import NONCES_MAX, PROBE_BURST, Announcer
from lispmob.control.sealing.peer_keys import PeerKey
from lispmob.control.sealing.sealed_entries import SealedPeer
from lispmob.protocol.effect import Count, SendControl, SendSealed
from lispmob.wire.map_notify import MapNotify
from lispmob.wire.map_reply import MapReply
from lispmob.wire.record import Locator, MappingRecord
from tests.control.support import WIFI, ip, locators, only, prefix

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

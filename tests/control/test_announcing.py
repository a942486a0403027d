"""Locators that a sealed peer announces are probed before much is sent there; the peer does not choose how many."""

from __future__ import annotations

from itertools import count

from lispmob.control.sealing.announcing import PROBE_BURST, Announcer
from lispmob.protocol.effect import SendControl
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

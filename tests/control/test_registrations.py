"""All registrations of a node: to which one a Map-Notify belongs."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from itertools import pairwise
from random import Random

import pytest
from msgspec.structs import replace

from lispmob.control.node_config import NodeConfig
from lispmob.control.registrations import Registrations
from lispmob.protocol.effect import Count, MachineEffect, RegistrationConfirmed, SendControl
from lispmob.protocol.servers import MapServerPeer
from lispmob.wire.auth import Key, sign
from lispmob.wire.map_notify import MapNotify
from tests.control.support import EID, EID6, KEY, SERVER, WIFI, locators, only, register_in, run_until

CONFIG = NodeConfig(eids=(EID,), map_servers=(MapServerPeer(SERVER, KEY),), first_nonce=0x1122334455667788)

OTHER_KEY = dataclasses.replace(KEY, secret=b"another")


def octets_reversed(nonce: int) -> int:
    return int.from_bytes(nonce.to_bytes(8), "little")


@pytest.mark.parametrize(("key", "confirms"), [(KEY, True), (OTHER_KEY, False)])
def test_a_map_notify_with_the_nonce_in_little_endian_order_confirms_if_its_mac_is_right(
    key: Key, confirms: bool
) -> None:
    registrations = Registrations(CONFIG, jitter=lambda: 0.5)
    register = register_in(registrations.on_locators(locators(WIFI), 0.0))
    raw = sign(MapNotify(nonce=octets_reversed(register.nonce), records=register.records), key)

    effects = registrations.on_map_notify(MapNotify.decode(raw), raw, 0.02)

    assert bool(only(effects, RegistrationConfirmed)) == confirms
    assert [effect.name for effect in only(effects, Count)] == ([] if confirms else ["rx_auth"])


def test_a_map_notify_with_another_nonce_is_counted() -> None:
    registrations = Registrations(CONFIG, jitter=lambda: 0.5)
    register = register_in(registrations.on_locators(locators(WIFI), 0.0))
    raw = sign(MapNotify(nonce=register.nonce + 1, records=register.records), KEY)

    assert registrations.on_map_notify(MapNotify.decode(raw), raw, 0.02) == [Count("rx_nonce")]


def confirmed(registrations: Registrations, effects: Iterable[object], now: float) -> None:
    """Answer every Map-Register among the effects."""
    for sent in only(effects, SendControl):
        register = register_in([sent])
        raw = sign(MapNotify(nonce=register.nonce, records=register.records), KEY)
        registrations.on_map_notify(MapNotify.decode(raw), raw, now)


class Answered:
    """Registrations whose Map-Server answers at once."""

    def __init__(self, registrations: Registrations) -> None:
        self._registrations = registrations

    def wake_at(self) -> float | None:
        return self._registrations.wake_at()

    def on_timer(self, now: float) -> list[MachineEffect]:
        effects = self._registrations.on_timer(now)
        confirmed(self._registrations, effects, now)
        return effects


def test_a_node_of_two_eids_wakes_once_for_the_refresh_of_both_whatever_the_jitter() -> None:
    config = replace(CONFIG, eids=(EID, EID6))
    registrations = Registrations(config, jitter=Random(1).random)
    confirmed(registrations, registrations.on_locators(locators(WIFI), 0.0), 0.02)

    woken = run_until(Answered(registrations), deadline=1200.0)  # twenty intervals of a minute

    assert 18 <= len(woken) <= 24
    assert {len(only(effects, SendControl)) for _, effects in woken} == {2}
    pauses = {round(later - sooner) for (sooner, _), (later, _) in pairwise(woken)}
    assert len(pauses) > 3  # nodes still spread over the minute


def test_what_has_just_been_refreshed_is_not_refreshed_with_the_others() -> None:
    config = replace(CONFIG, eids=(EID, EID6))
    registrations = Registrations(config, jitter=lambda: 0.5)
    confirmed(registrations, registrations.on_locators(locators(WIFI), 0.0), 0.02)
    confirmed(registrations, registrations.on_solicited(EID, 20.0), 20.02)

    woken = run_until(Answered(registrations), deadline=79.0)

    assert [(round(at), len(only(effects, SendControl))) for at, effects in woken] == [(60, 1)]


def test_an_unanswered_register_takes_no_other_with_it() -> None:
    config = replace(CONFIG, eids=(EID, EID6))
    registrations = Registrations(config, jitter=lambda: 0.5)
    first, _ = only(registrations.on_locators(locators(WIFI), 0.0), SendControl)
    confirmed(registrations, [first], 0.02)

    woken = run_until(registrations, deadline=30.0)

    assert [(at, len(only(effects, SendControl))) for at, effects in woken] == [(1, 1), (3, 1), (7, 1), (15, 1)]


def test_peers_that_stop_one_after_the_other_cost_one_register_each_ten_seconds() -> None:
    registrations = Registrations(CONFIG, jitter=lambda: 0.5)
    confirm(registrations, registrations.on_locators(locators(WIFI), 0.0), 0.1)
    registered = []

    for now in (1.0, 4.0, 8.0, 16.0, 17.0, 27.0):
        effects = registrations.on_peer_unregistered(now)
        if only(effects, SendControl):
            registered.append(now)
            confirm(registrations, effects, now + 0.1)

    assert registered == [1.0, 16.0, 27.0]


def confirm(registrations: Registrations, effects: Iterable[MachineEffect], now: float) -> None:
    register = register_in(list(effects))
    raw = sign(MapNotify(register.nonce, register.records), KEY)
    registrations.on_map_notify(MapNotify.decode(raw), raw, now)

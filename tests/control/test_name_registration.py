"""When the name of this host is registered: at first, after silence, once it is confirmed, and when another has it."""

from __future__ import annotations

from itertools import count, pairwise

import pytest
from msgspec.structs import replace

from lispmob.control.names import LONGEST_WAIT_S, MAX_OUTSTANDING, UNKNOWN_WAIT_S, NameRegistration
from lispmob.protocol.effect import Count, Event, MachineEffect, SendControl
from lispmob.protocol.locator_set import LocatorSet
from lispmob.protocol.servers import MapServerPeer
from lispmob.wire.auth import Algorithm, Key, sign
from lispmob.wire.map_notify import MapNotify
from lispmob.wire.map_register import MapRegister
from lispmob.wire.record import Action
from tests.control.support import LTE, SERVER, WIFI, only
from tests.node.test_node import CONFIG

KEY = Key(b"a key of the site", algorithm=Algorithm.HMAC_SHA_256_128)
NOBODYS = Key(b"nobody's", algorithm=Algorithm.HMAC_SHA_256_128)
CONFIGURED = replace(CONFIG, name=b"Laptop", register_interval_s=60.0)


def registration(jitter: float = 0.5) -> NameRegistration:
    return NameRegistration(
        CONFIGURED, MapServerPeer(SERVER, KEY), next_nonce=count(100).__next__, jitter=lambda: jitter
    )


def run(machine: NameRegistration, until: float) -> list[float]:
    """When it registers by itself."""
    sent: list[float] = []
    for _ in range(10_000):
        at = machine.wake_at()
        if at is None or at > until:
            return sent
        if only(machine.on_timer(at), SendControl):
            sent.append(at)
    raise AssertionError("it never rests")


def notify(effects: list[MachineEffect], action: Action = Action.NO_ACTION, key: Key = KEY) -> tuple[MapNotify, bytes]:
    (sent,) = only(effects, SendControl)
    register = MapRegister.decode(sent.payload)
    records = tuple(replace(record, action=action) for record in register.records)
    message = MapNotify(register.nonce, records, xtr_id=register.xtr_id, site_id=register.site_id)
    return message, sign(message, key)


def test_a_map_server_that_is_silent_is_asked_ever_more_rarely_down_to_once_in_ten_minutes() -> None:
    machine = registration()
    assert len(only(machine.on_locators(LocatorSet.of(1, [WIFI]), 0.0), SendControl)) == 1

    times = [0.0, *run(machine, 4000.0)]

    assert [after - before for before, after in pairwise(times)][:12] == [
        1,
        2,
        4,
        8,
        16,
        32,
        64,
        128,
        256,
        512,
        600,
        600,
    ]


def test_once_it_was_confirmed_silence_is_met_once_a_minute() -> None:
    machine = registration()
    machine.on_map_notify(*notify(machine.on_locators(LocatorSet.of(1, [WIFI]), 0.0)), 0.1)

    times = run(machine, 600.0)

    assert times[0] == pytest.approx(60.1)
    waits = [after - before for before, after in pairwise(times)]
    assert waits[:8] == pytest.approx([1, 2, 4, 8, 16, 32, LONGEST_WAIT_S, LONGEST_WAIT_S])


@pytest.mark.parametrize(("jitter", "at"), [(0.0, 54.0), (0.5, 60.0), (1.0, 66.0)])
def test_nodes_do_not_all_register_at_once(jitter: float, at: float) -> None:
    machine = registration(jitter)
    machine.on_map_notify(*notify(machine.on_locators(LocatorSet.of(1, [WIFI]), 0.0)), 0.0)

    assert machine.wake_at() == pytest.approx(at)


def test_a_name_that_another_has_is_tried_every_ten_minutes_and_told_once() -> None:
    machine = registration()
    sent = machine.on_locators(LocatorSet.of(1, [WIFI]), 0.0)

    refused = machine.on_map_notify(*notify(sent, Action.DROP_POLICY_DENIED), 0.1)

    assert [event.kind for event in only(refused, Event)] == ["name-refused"]
    assert (machine.is_confirmed, machine.wake_at()) == (False, 0.1 + UNKNOWN_WAIT_S)
    again = machine.on_timer(0.1 + UNKNOWN_WAIT_S)
    assert machine.on_map_notify(*notify(again, Action.DROP_POLICY_DENIED), 601.0) == []
    freed = machine.restart(700.0)
    assert [event.kind for event in only(machine.on_map_notify(*notify(freed), 700.1), Event)] == ["name-registered"]
    assert machine.wake_at() == pytest.approx(760.1)


def test_a_confirmation_is_told_once_and_counts_with_the_key_and_the_name_alone() -> None:
    machine = registration()
    sent = machine.on_locators(LocatorSet.of(1, [WIFI]), 0.0)
    message, _ = notify(sent)
    other = replace(message, records=())

    assert machine.on_map_notify(*notify(sent, key=NOBODYS), 0.1) == [Count("rx_auth")]
    assert machine.on_map_notify(other, sign(other, KEY), 0.1) == [Count("rx_policy")]
    assert machine.expects(message.nonce)
    assert [event.kind for event in only(machine.on_map_notify(*notify(sent), 0.1), Event)] == ["name-registered"]
    assert not machine.expects(message.nonce)
    again = machine.on_timer(61.0)
    assert machine.on_map_notify(*notify(again), 61.1) == []


def test_of_many_registers_the_last_sixteen_may_still_be_confirmed() -> None:
    machine = registration()
    machine.on_locators(LocatorSet.of(1, [WIFI]), 0.0)
    run(machine, 20_000.0)
    known = [nonce for nonce in range(100, 200) if machine.expects(nonce)]

    assert len(known) == MAX_OUTSTANDING
    assert known == list(range(known[-1] - MAX_OUTSTANDING + 1, known[-1] + 1))


def test_a_move_registers_nothing_and_the_first_uplink_after_none_does() -> None:
    machine = registration()
    machine.on_map_notify(*notify(machine.on_locators(LocatorSet.of(1, [WIFI]), 0.0)), 0.1)

    assert machine.on_locators(LocatorSet.of(2, [LTE]), 1.0) == []
    assert machine.on_locators(LocatorSet(), 2.0) == []
    assert machine.wake_at() is None
    (sent,) = only(machine.on_locators(LocatorSet.of(3, [LTE]), 3.0), SendControl)
    assert sent.source == LTE.address


def test_a_node_that_stops_withdraws_a_name_that_it_has_and_no_other() -> None:
    machine = registration()
    sent = machine.on_locators(LocatorSet.of(1, [WIFI]), 0.0)
    assert machine.on_shutdown() == []

    machine.on_map_notify(*notify(sent), 0.1)
    (withdrawn,) = only(machine.on_shutdown(), SendControl)

    (record,) = MapRegister.decode(withdrawn.payload).records
    assert (record.ttl_min, record.locators) == (0, ())
    assert machine.on_shutdown() == []


def test_silent_uplinks_are_tried_in_turn() -> None:
    machine = registration()
    effects = machine.on_locators(LocatorSet.of(1, [WIFI, LTE]), 0.0)
    for now in (1.0, 3.0, 7.0):
        effects = [*effects, *machine.on_timer(now)]

    sources = [sent.source for sent in only(effects, SendControl)]
    assert sources in ([WIFI.address, LTE.address] * 2, [LTE.address, WIFI.address] * 2)


def test_a_name_is_refreshed_with_the_eids_when_its_own_refresh_is_near() -> None:
    machine = registration()
    effects = machine.on_locators(LocatorSet.of(1, [WIFI]), 0.0)
    while_unconfirmed = machine.on_registers_sent(0.9)
    machine.on_map_notify(*notify(effects), 0.02)

    too_early = machine.on_registers_sent(40.0)
    near = machine.on_registers_sent(50.0)
    just_done = machine.on_registers_sent(50.1)

    assert [len(only(told, SendControl)) for told in (while_unconfirmed, too_early, near, just_done)] == [0, 0, 1, 0]

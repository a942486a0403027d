from __future__ import annotations

import dataclasses
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from msgspec.structs import replace

from lispmob.control.registration import Registration, RegistrationPolicy, State
from lispmob.protocol.effect import Count, Event, MachineEffect, RegistrationConfirmed, SendControl
from lispmob.protocol.locator_set import LocalLocator, LocatorSet
from lispmob.protocol.servers import MapServerPeer
from lispmob.wire.auth import Algorithm, Key, sign
from lispmob.wire.map_notify import MapNotify
from lispmob.wire.map_register import MapRegister
from lispmob.wire.record import Action, Locator, MappingRecord
from tests.control.support import (
    EID,
    KEY,
    LTE,
    SERVER,
    WIFI,
    WIFI6,
    locators,
    nonces,
    only,
    prefix,
    register_in,
    run_until,
)

PEER = MapServerPeer(SERVER, KEY)


def registration(peer: MapServerPeer = PEER) -> Registration:
    return Registration(EID, peer, RegistrationPolicy(), next_nonce=nonces(100), jitter=lambda: 0.5)


def notify(register: MapRegister) -> MapNotify:
    return MapNotify(nonce=register.nonce, records=register.records)


def answer(machine: Registration, message: MapNotify, now: float, key: Key = KEY) -> list[MachineEffect]:
    raw = sign(message, key)
    return machine.on_map_notify(MapNotify.decode(raw), raw, now)


def registered(now: float = 0.0) -> Registration:
    machine = registration()
    answer(machine, notify(register_in(machine.on_locators(locators(WIFI), now))), now + 0.02)
    return machine


def counted(effects: list[MachineEffect]) -> list[str]:
    return [effect.name for effect in only(effects, Count)]


def test_the_first_register_leaves_with_the_first_locator() -> None:
    effects = registration().on_locators(locators(WIFI, LTE), 0.0)

    (send,) = only(effects, SendControl)
    register = register_in(effects)
    assert (send.destination, send.port, send.source, send.ifindex) == (SERVER, 4342, WIFI.address, 2)
    assert register.want_map_notify
    assert register.proxy_map_reply
    assert [locator.ip for locator in register.records[0].locators] == [WIFI.address, LTE.address]


def test_an_unanswered_register_backs_off_to_a_minute_and_never_stops() -> None:
    machine = registration()
    machine.on_locators(locators(WIFI), 0.0)

    assert [at for at, _ in run_until(machine, 250.0)] == [1, 3, 7, 15, 31, 63, 123, 183, 243]


@pytest.mark.parametrize("for_s", [5.0, 40.0, 400.0])
def test_a_register_that_this_host_itself_refuses_is_tried_every_two_seconds(for_s: float) -> None:
    machine, tried = registration(), []
    machine.on_locators(locators(WIFI), 0.0)
    machine.on_refused_here(0.0)
    while (at := machine.wake_at()) is not None and at < for_s:
        tried.append(at)
        assert only(machine.on_timer(at), SendControl)
        machine.on_refused_here(at)

    assert {later - earlier for earlier, later in pairwise(tried)} == {2.0}


def test_after_the_last_refusal_the_wait_grows_again() -> None:
    machine = registration()
    machine.on_locators(locators(WIFI), 0.0)
    machine.on_refused_here(0.0)

    assert [at for at, _ in run_until(machine, 40.0)] == [1, 3, 7, 15, 31]


def test_a_refusal_leaves_a_registration_that_stands_alone() -> None:
    machine = registered()
    before = machine.wake_at()

    machine.on_refused_here(5.0)

    assert machine.wake_at() == before


def test_a_doubt_about_the_map_server_refreshes_a_registration_and_leaves_the_pace_of_an_open_one_alone() -> None:
    trying, idle = registration(), registered()
    trying.on_locators(locators(WIFI), 0.0)
    trying.on_timer(1.0)  # unanswered: the next one follows after 2 s
    due = trying.wake_at()

    assert trying.on_doubt(1.5) == []
    assert trying.wake_at() == due == 3.0
    assert register_in(idle.on_doubt(10.0)).want_map_notify
    assert (idle.state, idle.wake_at()) == (State.REFRESHING, 11.0)
    assert idle.on_doubt(10.5) == []


def test_every_register_has_a_larger_nonce() -> None:
    machine = registration()
    seen = [register_in(machine.on_locators(locators(WIFI), 0.0)).nonce]
    seen += [register_in(effects).nonce for _, effects in run_until(machine, 100.0)]

    assert seen == sorted(set(seen))


def test_a_map_notify_confirms_and_the_refresh_comes_a_minute_later() -> None:
    machine = registration()
    register = register_in(machine.on_locators(locators(WIFI), 0.0))

    effects = answer(machine, notify(register), 0.02)

    assert machine.state is State.REGISTERED
    assert only(effects, RegistrationConfirmed) == [RegistrationConfirmed(EID, SERVER, 1, is_change=True)]
    assert machine.rtt_ms == pytest.approx(20.0)
    assert machine.wake_at() == pytest.approx(60.02)


def test_a_refresh_that_is_answered_changes_nothing() -> None:
    machine = registered()
    ((at, effects),) = run_until(machine, 60.5)
    states = [machine.state]

    confirmed = answer(machine, notify(register_in(effects)), at + 0.1)

    assert [*states, machine.state] == [State.REFRESHING, State.REGISTERED]
    assert not only(confirmed, RegistrationConfirmed)[0].is_change


def test_a_notify_for_an_earlier_try_confirms_too() -> None:
    machine = registration()
    first = register_in(machine.on_locators(locators(WIFI), 0.0))
    run_until(machine, 4.0)

    effects = answer(machine, notify(first), 4.0)

    assert only(effects, RegistrationConfirmed)[0].tries == 3


def test_a_notify_for_the_locators_of_before_the_move_confirms_nothing() -> None:
    machine = registration()
    before = register_in(machine.on_locators(locators(WIFI), 0.0))
    machine.on_locators(locators(LTE, version=2), 0.5)

    assert counted(answer(machine, notify(before), 0.6)) == ["rx_nonce"]
    assert machine.state is State.REGISTERING


def test_a_second_copy_of_a_notify_changes_nothing() -> None:
    machine = registration()
    register = register_in(machine.on_locators(locators(WIFI), 0.0))
    answer(machine, notify(register), 0.02)

    assert counted(answer(machine, notify(register), 0.03)) == ["rx_nonce"]
    assert machine.state is State.REGISTERED


@pytest.mark.parametrize(
    "wrong",
    [
        Key(b"another secret"),
        dataclasses.replace(KEY, algorithm=Algorithm.HMAC_SHA_1_96),
        dataclasses.replace(KEY, key_id=7),
    ],
)
def test_a_notify_with_another_key_or_algorithm_is_refused_and_reported_once(wrong: Key) -> None:
    machine = registration()
    register = register_in(machine.on_locators(locators(WIFI), 0.0))

    first = answer(machine, notify(register), 0.1, wrong)
    second = answer(machine, notify(register), 0.2, wrong)

    assert counted(first) == counted(second) == ["rx_auth"]
    assert [event.kind for event in only(first, Event)] == ["auth-failed"]
    assert only(second, Event) == []
    assert machine.state is State.REGISTERING


def test_a_notify_for_another_eid_is_refused() -> None:
    machine = registration()
    register = register_in(machine.on_locators(locators(WIFI), 0.0))
    other = MapNotify(register.nonce, (MappingRecord.of(prefix("10.1.0.2/32")),))

    assert counted(answer(machine, other, 0.1)) == ["rx_policy"]


@pytest.mark.parametrize(
    "record",
    [MappingRecord.of(EID, ttl_min=0), MappingRecord.of(EID, action=Action.DROP_POLICY_DENIED)],
)
def test_a_refusal_by_the_map_server_is_reported_and_the_tries_go_on(record: MappingRecord) -> None:
    machine = registration()
    register = register_in(machine.on_locators(locators(WIFI), 0.0))

    effects = answer(machine, MapNotify(register.nonce, (record,)), 0.1)

    assert [event.kind for event in only(effects, Event)] == ["register-refused"]
    assert [at for at, _ in run_until(machine, 4.0)] == [1, 3]


def test_a_move_registers_at_once_and_restarts_the_back_off() -> None:
    machine = registration()
    machine.on_locators(locators(WIFI), 0.0)
    run_until(machine, 40.0)

    effects = machine.on_locators(locators(LTE, version=2), 40.0)

    assert only(effects, SendControl)[0].source == LTE.address
    assert machine.wake_at() == 41.0


def test_the_same_locators_again_cost_nothing() -> None:
    machine = registered()

    assert machine.on_locators(locators(WIFI, version=2), 5.0) == []


def test_without_a_way_to_the_map_server_it_rests() -> None:
    machine = registered()

    machine.on_locators(locators(WIFI6, version=2), 5.0)

    assert machine.state is State.IDLE
    assert machine.wake_at() is None


def test_after_three_unanswered_minutes_the_loss_is_reported_once() -> None:
    machine = registered()

    happened = [event.kind for _, effects in run_until(machine, 600.0) for event in only(effects, Event)]

    assert happened.count("registration-lost") == 1
    assert machine.state is State.LOST


def test_a_register_that_is_not_answered_goes_by_every_uplink() -> None:
    machine = registration()
    machine.on_locators(locators(WIFI, LTE), 0.0)

    sources = [{sent.source for sent in only(effects, SendControl)} for _, effects in run_until(machine, 40.0)]

    assert sources == [{WIFI.address, LTE.address}] * 5


def test_shutting_down_withdraws_with_ttl_zero() -> None:
    machine = registered()

    effects = machine.on_shutdown(5.0)

    record = register_in(effects).records[0]
    assert (record.ttl_min, record.locators) == (0, ())
    assert machine.wake_at() is None


def test_the_xtr_id_is_sent_only_where_it_is_wanted() -> None:
    policy = RegistrationPolicy(xtr_id=bytes(range(16)), site_id=bytes(8))
    silent, named = (
        register_in(
            Registration(EID, peer, policy, next_nonce=nonces(), jitter=lambda: 0.5).on_locators(locators(WIFI), 0.0)
        )
        for peer in (PEER, replace(PEER, sends_xtr_id=True))
    )

    assert silent.xtr_id is None
    assert named.xtr_id == bytes(range(16))


@given(st.lists(st.tuples(st.floats(0, 100), st.sampled_from([(), (WIFI,), (LTE,), (WIFI, LTE)]))))
def test_a_registration_with_a_locator_always_has_a_timer(
    steps: list[tuple[float, tuple[LocalLocator, ...]]],
) -> None:
    machine, now = registration(), 0.0
    for version, (pause_s, ones) in enumerate(steps):
        run_until(machine, now := now + pause_s)
        machine.on_locators(locators(*ones, version=version), now)
        assert (machine.wake_at() is None) == (not ones)


class AnyLife(RuleBasedStateMachine):
    """Moves, losses, forgeries and suspends in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.machine = registration()
        self.now = 0.0
        self.last_nonce = 0
        self.sent: list[MapRegister] = []
        self.own = LocatorSet()

    def see(self, effects: list[MachineEffect]) -> None:
        for effect in only(effects, SendControl):
            register = register_in([effect])
            assert register.nonce > self.last_nonce
            assert effect.source in self.own.addresses
            self.last_nonce = register.nonce
            self.sent.append(register)

    @rule(ones=st.sampled_from([(), (WIFI,), (LTE,), (WIFI, LTE), (WIFI6,)]))
    def move(self, ones: tuple[LocalLocator, ...]) -> None:
        self.own = locators(*ones, version=self.own.version + 1)
        self.see(self.machine.on_locators(self.own, self.now))

    @rule(pause_s=st.floats(0.0, 200.0))
    def wait(self, pause_s: float) -> None:
        self.now += pause_s
        for _, effects in run_until(self.machine, self.now):
            self.see(effects)

    @rule()
    def sleep(self) -> None:
        self.see(self.machine.on_slept(self.now))

    @precondition(lambda self: self.sent)
    @rule(which=st.integers(0, 3), is_forged=st.booleans())
    def hear(self, which: int, is_forged: bool) -> None:
        register = self.sent[-1 - which % len(self.sent)]
        was = self.machine.state
        key = Key(b"forged") if is_forged else KEY
        effects = answer(self.machine, notify(register), self.now, key)
        if only(effects, RegistrationConfirmed):
            assert not is_forged
            assert [locator.ip for locator in register.records[0].locators] == [
                locator.address for locator in self.own.locators
            ]
        else:
            assert self.machine.state is was

    @rule()
    def early_timer(self) -> None:
        at = self.machine.wake_at()
        if at is not None and at > self.now:
            assert self.machine.on_timer(self.now) == []

    @invariant()
    def it_waits_for_something_exactly_while_the_map_server_can_be_reached(self) -> None:
        assert (self.machine.wake_at() is not None) == bool(self.own.for_family(4))
        assert (self.machine.state is State.IDLE) == (not self.own.for_family(4))


TestAnyLife = AnyLife.TestCase
TestAnyLife.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)


def test_an_eid_that_another_node_holds_is_tried_every_ten_seconds_and_then_as_any_other() -> None:
    machine = registration()
    register = register_in(machine.on_locators(locators(WIFI), 0.0))
    held = MappingRecord.of(EID, (Locator(LTE.address),), action=Action.DROP_POLICY_DENIED)

    effects = answer(machine, replace(notify(register), records=(held,)), 0.1)

    assert counted(effects) == ["rx_policy"]
    assert [event.kind for event in only(effects, Event)] == ["eid-shared"]
    assert [round(at, 6) for at, _ in run_until(machine, 100.0)] == [10.1, 20.1, 40.1, 80.1]

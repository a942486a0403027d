from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from lispmob.control.lookups.resolver import MAX_TRIES, NONCE_LIFETIME_S, Resolver
from lispmob.protocol.acceptance import Guard
from lispmob.protocol.effect import (
    Count,
    DropPending,
    LookupFailed,
    MachineEffect,
    MappingLearned,
    SendControl,
    WaysInDoubt,
)
from lispmob.wire.address import EidPrefix
from lispmob.wire.ecm import EncapsulatedControl
from lispmob.wire.map_reply import MapReply
from lispmob.wire.record import Locator, MappingRecord
from tests.control.support import (
    EID,
    LTE,
    RESOLVER,
    SPARE_RESOLVER,
    WIFI,
    WIFI6,
    ip,
    locators,
    nonces,
    only,
    prefix,
    request_in,
    run_until,
)

PEER = prefix("10.2.0.7/32")
SITE = prefix("10.2.0.0/24")
GUARD = Guard((EID,), frozenset({WIFI.address}), frozenset({RESOLVER}))
RECORD = MappingRecord.of(SITE, (Locator(ip("203.0.113.5")),))


def resolver(*addresses: str) -> Resolver:
    machine = Resolver([ip(text) for text in addresses] or [RESOLVER], new_nonce=nonces(1000))
    machine.on_locators(locators(WIFI, WIFI6))
    return machine


def reply(effects: list[MachineEffect], record: MappingRecord = RECORD) -> MapReply:
    return MapReply(request_in(only(effects, SendControl)[0]).nonce, (record,))


def counted(effects: list[MachineEffect]) -> list[str]:
    return [effect.name for effect in only(effects, Count)]


def test_a_miss_asks_in_the_same_call() -> None:
    effects = resolver().on_miss(EID.address, PEER, 0.0)

    (send,) = only(effects, SendControl)
    ecm = EncapsulatedControl.decode(send.payload)
    request = request_in(send)
    assert (send.destination, send.source) == (RESOLVER, WIFI.address)
    assert (ecm.source, ecm.destination, ecm.source_port, ecm.destination_port) == (
        EID.address,
        PEER.address,
        4342,
        4342,
    )
    assert request.itr_rlocs == (WIFI.address, WIFI6.address)
    assert [record.eid_prefix for record in request.records] == [PEER]
    assert request.source_eid == EID.address


def test_what_is_learned_says_why_it_was_asked_and_how_long_the_answer_took() -> None:
    machine = resolver()
    (learned,) = only(
        machine.on_map_reply(reply(machine.on_miss(EID.address, PEER, 7.0)), WIFI.address, GUARD, 7.125), MappingLearned
    )

    assert (learned.asked, learned.records, learned.reason, learned.rtt_ms) == (PEER, (RECORD,), "miss", 125.0)


def test_more_packets_to_the_same_eid_ask_nothing_more() -> None:
    machine = resolver()
    machine.on_miss(EID.address, PEER, 0.0)

    assert machine.on_miss(EID.address, PEER, 0.1) == []


def test_ten_tries_a_second_apart_and_then_it_gives_up() -> None:
    machine = resolver()
    machine.on_miss(EID.address, PEER, 0.0)

    happened = run_until(machine, 60.0)

    assert [at for at, effects in happened if only(effects, SendControl)] == list(range(1, MAX_TRIES))
    assert happened[-1] == (10.0, [WaysInDoubt(), LookupFailed(PEER, "miss", "unanswered")])
    assert machine.wake_at() is None


def test_an_answer_is_taken_once() -> None:
    machine = resolver()
    answer = reply(machine.on_miss(EID.address, PEER, 0.0))

    assert only(machine.on_map_reply(answer, WIFI.address, GUARD, 0.1), MappingLearned)[0].records == (RECORD,)
    assert counted(machine.on_map_reply(answer, WIFI.address, GUARD, 0.2)) == ["rx_nonce"]
    assert machine.wake_at() is None


def test_an_answer_to_an_earlier_try_counts_for_half_a_minute() -> None:
    machine = resolver()
    answer = reply(machine.on_miss(EID.address, PEER, 0.0))
    run_until(machine, 20.0)

    late = machine.on_map_reply(answer, WIFI.address, GUARD, NONCE_LIFETIME_S + 0.1)
    assert counted(late) == ["rx_nonce"]
    assert only(machine.on_map_reply(answer, WIFI.address, GUARD, NONCE_LIFETIME_S - 0.1), MappingLearned)


def test_a_guessed_nonce_finds_nothing() -> None:
    machine = resolver()
    machine.on_miss(EID.address, PEER, 0.0)

    assert counted(machine.on_map_reply(MapReply(5, (RECORD,)), WIFI.address, GUARD, 0.1)) == ["rx_nonce"]


def test_a_refused_reply_leaves_the_question_open() -> None:
    machine = resolver()
    effects = machine.on_miss(EID.address, PEER, 0.0)
    overclaim = reply(effects, MappingRecord.of(prefix("0.0.0.0/0"), (Locator(ip("203.0.113.5")),)))

    assert counted(machine.on_map_reply(overclaim, WIFI.address, GUARD, 0.1)) == ["rx_policy"]
    assert only(machine.on_map_reply(reply(effects), WIFI.address, GUARD, 0.2), MappingLearned)


def test_a_probe_reply_is_no_answer() -> None:
    machine = resolver()
    nonce = reply(machine.on_miss(EID.address, PEER, 0.0)).nonce

    effects = machine.on_map_reply(MapReply(nonce, (RECORD,), is_probe=True), WIFI.address, GUARD, 0.1)

    assert counted(effects) == ["rx_policy"]


def test_an_answer_to_an_address_that_is_not_ours_is_refused() -> None:
    machine = resolver()
    answer = reply(machine.on_miss(EID.address, PEER, 0.0))

    assert counted(machine.on_map_reply(answer, ip("203.0.113.200"), GUARD, 0.1)) == ["rx_policy"]


def test_retries_go_round_the_map_resolvers_and_remember_who_answered() -> None:
    machine = resolver(str(RESOLVER), str(SPARE_RESOLVER))
    first = only(machine.on_miss(EID.address, PEER, 0.0), SendControl)
    ((_, effects),) = run_until(machine, 1.0)
    second = only(effects, SendControl)
    machine.on_map_reply(reply(effects), WIFI.address, GUARD, 1.1)
    third = only(machine.on_miss(EID.address, prefix("10.3.0.1/32"), 2.0), SendControl)

    assert [send.destination for send in first + second + third] == [RESOLVER, SPARE_RESOLVER, SPARE_RESOLVER]


def test_only_map_resolvers_of_a_family_we_have_are_asked() -> None:
    machine = resolver("2001:db8:9::1", str(RESOLVER))
    machine.on_locators(locators(LTE, version=2))

    assert only(machine.on_miss(EID.address, PEER, 0.0), SendControl)[0].destination == RESOLVER


def test_a_scan_is_held_to_twenty_requests_a_second() -> None:
    machine = resolver()
    effects = []
    for number in range(500):
        effects += machine.on_miss(EID.address, EidPrefix.host(ip("10.9.0.0") + number), number / 500)

    assert len(only(effects, SendControl)) <= 40
    assert {effect.reason for effect in only(effects, DropPending)} == {"rate-limited"}


def test_a_scan_does_not_hold_up_what_is_in_use() -> None:
    machine = resolver()
    for number in range(500):
        machine.on_miss(EID.address, EidPrefix.host(ip("10.9.0.0") + number), 0.0)

    assert only(machine.on_aging(SITE, EID.address, 0.0), SendControl)


def test_an_smr_is_answered_by_asking_the_mapping_system() -> None:
    effects = resolver().on_smr(PEER, SITE, EID.address, 0.0)

    (send,) = only(effects, SendControl)
    assert send.destination == RESOLVER
    assert request_in(send).is_smr_invoked


def test_smrs_are_held_to_a_burst_and_then_one_request_in_three_seconds() -> None:
    machine = resolver()
    asked = []
    for tick in range(300):
        now = tick / 10
        effects = machine.on_smr(PEER, SITE, EID.address, now)
        effects += [effect for _, effects in run_until(machine, now) for effect in effects]
        for send in only(effects, SendControl):
            asked.append(now)
            machine.on_map_reply(MapReply(request_in(send).nonce, (RECORD,)), WIFI.address, GUARD, now)

    assert len(asked) <= 3 + 30 / 3


def test_a_limit_delays_the_answer_to_an_smr_but_does_not_lose_it() -> None:
    machine = resolver()
    for now in (0.0, 1.0, 2.0):
        answer = reply(machine.on_smr(PEER, SITE, EID.address, now))
        machine.on_map_reply(answer, WIFI.address, GUARD, now + 0.1)

    assert not only(machine.on_smr(PEER, SITE, EID.address, 2.5), SendControl)
    ((at, effects),) = run_until(machine, 3.5)
    assert at == 3.0
    assert only(effects, SendControl)


def test_without_a_locator_lookups_fail_and_no_timer_runs() -> None:
    machine = resolver()
    machine.on_miss(EID.address, PEER, 0.0)

    assert machine.on_locators(locators(version=2)) == [LookupFailed(PEER, "miss", "no-locator")]
    assert machine.wake_at() is None
    assert only(machine.on_miss(EID.address, PEER, 1.0), LookupFailed)


def test_a_refresh_names_no_source() -> None:
    effects = resolver().on_aging(SITE, EID.address, 0.0)

    request = request_in(only(effects, SendControl)[0])
    assert request.source_eid is None
    assert [record.eid_prefix for record in request.records] == [SITE]


def test_an_answer_to_a_question_from_before_an_smr_counts_no_more() -> None:
    machine = resolver()
    before = machine.on_aging(PEER, EID.address, 10.0)

    after = machine.on_smr(PEER, PEER, EID.address, 10.04)
    stale = machine.on_map_reply(reply(before), WIFI.address, GUARD, 10.05)
    fresh = machine.on_map_reply(reply(after), WIFI.address, GUARD, 10.12)

    assert counted(stale) == ["rx_nonce"]
    assert [effect.reason for effect in only(fresh, MappingLearned)] == ["smr"]


def test_data_from_elsewhere_asks_once_for_a_host_and_for_its_mapping_while_the_question_is_open() -> None:
    machine, other = resolver(), EidPrefix.host(PEER.address + 1)

    assert only(machine.on_doubt(PEER, SITE, EID.address, 0.0), SendControl)
    assert machine.on_doubt(PEER, SITE, EID.address, 0.1) == []
    assert machine.on_doubt(other, SITE, EID.address, 0.1) == [], "another host of the same mapping"
    assert only(machine.on_doubt(other, other, EID.address, 0.2), SendControl), "one of another mapping"
    assert machine.on_doubt(other, PEER, EID.address, 0.3) == [], "the same host, whose mapping is another by now"


def test_smrs_without_end_leave_the_answer_to_a_refresh_alone() -> None:
    machine = resolver()
    for number in range(400):
        machine.on_smr(EidPrefix.host(ip("10.3.0.0") + number % 50), PEER, EID.address, number / 1000)

    asked = machine.on_aging(PEER, EID.address, 0.4)
    for number in range(20):
        asked += machine.on_smr(PEER, PEER, EID.address, 0.41 + number / 1000)
    last = only(asked, SendControl)[-1:]
    learned = machine.on_map_reply(MapReply(request_in(last[0]).nonce, (RECORD,)), WIFI.address, GUARD, 0.5)

    assert len(only(asked, SendControl)) <= 2
    assert only(learned, MappingLearned)


class AnyTraffic(RuleBasedStateMachine):
    """Misses, refreshes, SMRs, answers and silence in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.machine = resolver(str(RESOLVER), str(SPARE_RESOLVER))
        self.now = 0.0
        self.sent: list[tuple[float, EidPrefix, int]] = []
        self.limited: dict[tuple[EidPrefix, bool], float] = {}  # claims have a limit of their own
        self.used: set[int] = set()

    def see(self, effects: list[MachineEffect], now: float) -> None:
        for send in only(effects, SendControl):
            request = request_in(send)
            asked = request.records[0].eid_prefix
            assert asked is not None
            key = asked, request.is_smr_invoked
            assert now - self.limited.get(key, -1.0) >= 1.0 - 1e-6
            self.limited[key] = now
            self.sent.append((now, asked, request.nonce))

    @rule(host=st.integers(0, 5), kind=st.sampled_from(["miss", "aging", "smr"]))
    def want(self, host: int, kind: str) -> None:
        wanted = EidPrefix.host(ip("10.2.0.0") + host)
        if kind == "miss":
            effects = self.machine.on_miss(EID.address, wanted, self.now)
        elif kind == "aging":
            effects = self.machine.on_aging(wanted, EID.address, self.now)
        else:
            effects = self.machine.on_smr(wanted, SITE, EID.address, self.now)
        self.see(effects, self.now)

    @rule(pause_s=st.floats(0.0, 15.0))
    def wait(self, pause_s: float) -> None:
        self.now += pause_s
        for at, effects in run_until(self.machine, self.now):
            self.see(effects, at)

    @precondition(lambda self: self.sent)
    @rule(which=st.integers(0, 10))
    def answer(self, which: int) -> None:
        at, _, nonce = self.sent[-1 - which % len(self.sent)]
        effects = self.machine.on_map_reply(MapReply(nonce, (RECORD,)), WIFI.address, GUARD, self.now)
        if only(effects, MappingLearned):
            assert nonce not in self.used
            assert self.now - at <= NONCE_LIFETIME_S
            self.used.add(nonce)

    @invariant()
    def open_questions_and_only_they_have_a_deadline(self) -> None:
        assert (self.machine.wake_at() is not None) == bool(self.machine.lookups)
        assert all(lookup.tries <= MAX_TRIES for lookup in self.machine.lookups)


TestAnyTraffic = AnyTraffic.TestCase
TestAnyTraffic.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)

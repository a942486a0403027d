"""Unproven claims, by SMRs and by data with doubtful sources: they may cost a bounded number of questions, no more."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from lispmob.control.lookups.resolver import MAX_CLAIMS
from lispmob.node.node import Node, NodeEffect
from lispmob.protocol.effect import SendControl
from lispmob.wire.address import IpAddress
from lispmob.wire.header import MessageType
from lispmob.wire.map_reply import MapReply
from lispmob.wire.map_request import EidRecord, MapRequest
from lispmob.wire.record import Action, Locator, MappingRecord
from tests.control.support import EID, LTE, SERVER, WIFI, ip, only, prefix, request_in
from tests.node.test_node import CONFIG, PEER, PEER_RLOC, datagram, node

ATTACKER = ip("66.66.66.66")


def answer(machine: Node, effects: list[NodeEffect], record: MappingRecord, now: float) -> list[NodeEffect]:
    """The mapping system answers the latest question."""
    asked = request_in(only(effects, SendControl)[-1])
    return machine.on_datagram(datagram(MapReply(asked.nonce, (record,)).encode()), now)


def learn(machine: Node, eid: IpAddress, record: MappingRecord, now: float = 0.0) -> None:
    answer(machine, machine.on_miss(EID.address, eid, 0, now), record, now)


def with_peers(count: int, now: float = 0.0) -> Node:
    """A node that knows so many peers, each in a /24 of its own."""
    machine = node()
    machine.on_locators([WIFI], now)
    for number in range(count):
        at = now + 0.1 * number
        net = f"10.{2 + number // 200}.{number % 200}"
        record = MappingRecord.of(prefix(f"{net}.0/24"), (Locator(PEER_RLOC),), ttl_min=1440)
        learn(machine, ip(f"{net}.7"), record, at)
    return machine


def smr(about: IpAddress, source: IpAddress = ATTACKER, nonce: int = 5) -> bytes:
    message = MapRequest(nonce, about, (source,), (EidRecord.of(EID),), is_smr=True, dont_map_reply=True)
    return message.encode()


def solicit(machine: Node, about: str, now: float, source: IpAddress = ATTACKER, nonce: int = 5) -> list[MapRequest]:
    """The Map-Requests that an SMR causes."""
    effects = machine.on_datagram(datagram(smr(ip(about), source, nonce), source), now)
    return [request_in(effect) for effect in only(effects, SendControl)]


def is_asked(machine: Node, eid: str, now: float) -> bool:
    return bool(only(machine.on_miss(EID.address, ip(eid), 0, now), SendControl))


def test_an_smr_for_each_host_of_a_mapping_opens_one_lookup() -> None:
    machine = node()
    machine.on_locators([WIFI], 0.0)
    learn(machine, PEER, MappingRecord.of(prefix("10.2.0.0/16"), (Locator(PEER_RLOC),)))

    asked = [solicit(machine, f"10.2.{number // 250}.{number % 250 + 1}", 5.0) for number in range(1100)]

    assert sum(map(len, asked)) == 1
    assert len(machine.lookups) == 1
    assert is_asked(machine, "10.9.0.1", 5.0)


@pytest.mark.parametrize("width", ["10.2.0.7/32", "10.2.0.0/15", "64.0.0.0/2"])
def test_no_question_about_a_hole_follows_from_an_smr(width: str) -> None:
    machine = node()
    machine.on_locators([WIFI], 0.0)
    inside = prefix(width).address + 7 if prefix(width).mask_len < 32 else PEER
    learn(machine, inside, MappingRecord.of(prefix(width), ttl_min=15, action=Action.DROP))

    assert [solicit(machine, str(inside + number), 5.0) for number in range(50)] == [[]] * 50
    assert machine.lookups == ()


@pytest.mark.parametrize(("sender", "questions"), [(SERVER, 1), (ATTACKER, 0)])
def test_the_mapping_system_alone_may_say_that_an_eid_exists_whose_packets_are_refused(
    sender: IpAddress, questions: int
) -> None:
    machine = node()
    machine.on_locators([WIFI], 0.0)
    learn(machine, PEER, MappingRecord.of(prefix("10.2.0.0/16"), ttl_min=15, action=Action.DROP))

    assert len(solicit(machine, str(PEER), 5.0, sender)) == questions
    assert machine.counters["rx_policy"] == 1 - questions


def test_smrs_from_forged_addresses_for_every_peer_leave_misses_and_refreshes_alone() -> None:
    machine = with_peers(300)
    for number in range(5000):
        net = f"10.{2 + number % 300 // 200}.{number % 300 % 200}"
        solicit(machine, f"{net}.{number % 250 + 1}", 100.0 + number / 1000, ip("66.0.0.0") + number)

    assert len(machine.lookups) <= MAX_CLAIMS
    assert is_asked(machine, "10.99.0.1", 105.0)
    assert machine.counters["rx_rate"] > 1000


def test_a_stranger_has_us_ask_seldom_and_a_locator_of_the_mapping_at_once() -> None:
    machine = with_peers(60)
    by_stranger = sum(len(solicit(machine, f"10.2.{number}.1", 100.0)) for number in range(30))
    by_peer = solicit(machine, "10.2.40.1", 100.0, PEER_RLOC)

    assert by_stranger <= 4
    assert len(by_peer) == 1


def test_a_peer_that_moves_under_a_flood_of_smrs_from_one_address_is_found_at_once() -> None:
    machine = with_peers(60)
    for number in range(400):
        solicit(machine, f"10.2.{number % 50}.1", 100.0 + number / 1000)

    (request,) = solicit(machine, "10.2.55.7", 100.5, ip("203.0.113.77"))

    assert request.is_smr_invoked


def moves(machine: Node, places: list[str]) -> list[int]:
    """The host 10.2.5.7 moves every two seconds and sends an SMR: the number of immediate questions after each one."""
    asked = []
    for number, place in enumerate(places):
        now = 100.0 + 2.0 * number
        effects = machine.on_datagram(datagram(smr(ip("10.2.5.7"), PEER_RLOC), PEER_RLOC), now)
        asked.append(len(only(effects, SendControl)))
        record = MappingRecord.of(prefix("10.2.5.0/24"), (Locator(PEER_RLOC), Locator(ip(place))), ttl_min=1440)
        if asked[-1]:
            answer(machine, effects, record, now)
    return asked


def test_a_host_that_moves_every_two_seconds_is_asked_about_each_time_at_once() -> None:
    assert moves(with_peers(10), ["203.0.113.8", "203.0.113.9"] * 10) == [1] * 20


def test_a_host_that_says_all_the_time_that_it_moved_is_asked_about_once_a_second_in_the_long_run() -> None:
    machine, asked = with_peers(10), 0
    old = MappingRecord.of(prefix("10.2.5.0/24"), (Locator(PEER_RLOC),), ttl_min=1440)
    machine.on_timer(99.0)

    for step in range(200):
        now = 100.0 + step / 5
        effects = machine.on_datagram(datagram(smr(ip("10.2.5.7"), PEER_RLOC), PEER_RLOC), now)
        for effect in filter(is_question, [*only(effects, SendControl), *only(machine.on_timer(now), SendControl)]):
            asked += request_in(effect).is_smr_invoked
            machine.on_datagram(datagram(MapReply(request_in(effect).nonce, (old,)).encode()), now)

    assert asked <= 3 * (3 + 40 // 3)


def test_a_node_without_an_uplink_asks_nothing_because_of_data() -> None:
    machine = node()

    assert only(machine.on_source_doubted(PEER, 0, 0.0), SendControl) == []
    assert machine.lookups == ()


def test_data_of_a_host_without_a_mapping_is_asked_about_once_and_leaves_no_entry_unanswered() -> None:
    machine = node()
    machine.on_locators([WIFI], 0.0)
    effects = machine.on_source_doubted(PEER, 0, 1.0)
    again = machine.on_source_doubted(PEER, 0, 1.5)
    for second in range(2, 40):
        machine.on_timer(float(second))

    assert len(only(effects, SendControl)) == 1
    assert not request_in(only(effects, SendControl)[0]).is_smr_invoked
    assert only(again, SendControl) == []
    assert machine.lookups == ()
    assert len(machine.map_cache) == 0


def test_data_from_a_sender_that_the_mapping_does_not_name_has_the_mapping_asked_for() -> None:
    machine = with_peers(3)
    effects = machine.on_source_doubted(ip("10.2.1.9"), 0, 50.0)
    moved = MappingRecord.of(prefix("10.2.1.0/24"), (Locator(ip("203.0.113.99")),))
    answer(machine, effects, moved, 50.1)

    entry = machine.map_cache.lookup(ip("10.2.1.7"))
    assert entry is not None
    assert entry.locators == moved.locators


@pytest.mark.parametrize("source", ["10.1.0.1", str(SERVER), str(WIFI.address)])
def test_no_question_is_about_ourselves_or_the_mapping_system(source: str) -> None:
    machine = node()
    machine.on_locators([WIFI], 0.0)

    assert machine.on_source_doubted(ip(source), 0, 1.0) == []
    assert machine.counters["rx_source"] == 1


def test_data_with_ten_thousand_sources_opens_no_more_lookups_than_others_may_cause() -> None:
    machine = node()
    machine.on_locators([WIFI], 0.0)
    for number in range(10_000):
        machine.on_source_doubted(ip("10.64.0.0") + number, 0, 1.0 + number / 10_000)

    assert len(machine.lookups) <= MAX_CLAIMS
    assert is_asked(machine, "10.99.0.1", 2.0)


def test_a_packet_of_ours_does_not_wait_for_what_others_have_used_up() -> None:
    machine = node()
    machine.on_locators([WIFI], 0.0)
    for number in range(MAX_CLAIMS):
        machine.on_source_doubted(ip("10.64.0.0") + number, 0, 1.0)

    last = str(ip("10.64.0.0") + MAX_CLAIMS - 1)
    assert is_asked(machine, last, 1.0)


def test_a_virtual_network_is_asked_about_in_its_own_instance() -> None:
    machine = node(replace(CONFIG, eids=(prefix("[7]10.1.0.1/32"),)))
    machine.on_locators([LTE], 0.0)
    (send,) = only(machine.on_source_doubted(PEER, 7, 1.0), SendControl)

    assert request_in(send).records[0].eid_prefix == prefix("[7]10.2.0.7/32")
    assert only(machine.on_source_doubted(PEER, 0, 1.0), SendControl) == []


def test_an_answer_from_before_the_move_that_an_smr_told_of_is_asked_for_again() -> None:
    machine, new = with_peers(10), ip("203.0.113.9")
    doubted = machine.on_source_doubted(ip("10.2.5.7"), 0, 100.0)
    meanwhile = solicit(machine, "10.2.5.7", 100.05, new)
    old = MappingRecord.of(prefix("10.2.5.0/24"), (Locator(PEER_RLOC),), ttl_min=1440)
    answer(machine, doubted, old, 100.1)

    assert meanwhile == []
    assert asked_again(machine, 100.3) == ["10.2.5.7"]


def asked_again(machine: Node, now: float) -> list[str]:
    """The hosts that a timer asks about because of an SMR."""
    sent = only(machine.on_timer(now), SendControl)
    asked = [request_in(effect) for effect in sent if is_question(effect)]
    return [str(map_request.records[0].eid) for map_request in asked if map_request.is_smr_invoked]


def test_an_smr_that_was_quicker_than_the_register_is_believed_twice_more_and_then_no_more() -> None:
    machine = with_peers(10)
    machine.on_timer(99.0)
    old = MappingRecord.of(prefix("10.2.5.0/24"), (Locator(PEER_RLOC),), ttl_min=1440)
    effects = machine.on_datagram(datagram(smr(ip("10.2.5.7"), PEER_RLOC), PEER_RLOC), 100.0)

    asked_at = []
    for step in range(1, 100):
        now = 100.0 + step / 20
        questions = [effect for effect in only(effects, SendControl) if is_question(effect)]
        for nonce in [request_in(question).nonce for question in questions if request_in(question).is_smr_invoked]:
            asked_at.append(round(now - 100.05, 2))
            machine.on_datagram(datagram(MapReply(nonce, (old,)).encode()), now)
        effects = machine.on_timer(now)

    assert asked_at == [0.0, 0.15, 1.2]


def is_question(one: SendControl) -> bool:
    return one.payload[0] >> 4 == MessageType.ENCAPSULATED_CONTROL


def test_questions_that_are_asked_again_take_nothing_from_the_next_move() -> None:
    machine = with_peers(10)
    machine.on_timer(99.0)
    record = MappingRecord.of(prefix("10.2.5.0/24"), (Locator(PEER_RLOC),), ttl_min=1440)
    effects = machine.on_datagram(datagram(smr(ip("10.2.5.7"), PEER_RLOC), PEER_RLOC), 100.0)
    for step in range(1, 26):
        now = 100.0 + step / 20
        for effect in filter(is_question, only(effects, SendControl)):
            machine.on_datagram(datagram(MapReply(request_in(effect).nonce, (record,)).encode()), now)
        effects = machine.on_timer(now)

    assert len(solicit(machine, "10.2.5.7", 101.3, PEER_RLOC)) == 1


def test_an_smr_has_a_question_that_waits_to_be_asked_again_asked_now() -> None:
    machine = with_peers(10)
    machine.on_timer(99.0)
    old = MappingRecord.of(prefix("10.2.5.0/24"), (Locator(PEER_RLOC),), ttl_min=1440)
    answer(machine, machine.on_datagram(datagram(smr(ip("10.2.5.7"), PEER_RLOC), PEER_RLOC), 100.0), old, 100.01)

    assert len(solicit(machine, "10.2.5.7", 100.05, PEER_RLOC)) == 1


def flood(machine: Node, kind: str, now: float) -> None:
    """Attackers cause as many questions as they can: by data, or by SMRs about the first 100 peers."""
    for number in range(200):
        if kind == "data":
            machine.on_source_doubted(ip("10.64.0.0") + number, 0, now)
        else:
            solicit(machine, f"10.2.{number % 100}.9", now, ip("66.0.0.0") + number)


@pytest.mark.parametrize("kind", ["data", "smrs"])
@pytest.mark.parametrize("later_s", [0.0, 1.0, 2.5])
def test_a_peer_that_says_from_its_locator_that_it_moved_is_asked_about_at_once_in_any_flood(
    kind: str, later_s: float
) -> None:
    machine = with_peers(120)
    flood(machine, kind, 100.0)
    for step in range(int(later_s * 10)):
        machine.on_timer(100.0 + step / 10)
        flood(machine, kind, 100.0 + step / 10)

    (asked,) = solicit(machine, "10.2.110.7", 100.0 + later_s, PEER_RLOC)

    assert asked.is_smr_invoked
    assert len(machine.lookups) <= MAX_CLAIMS


def test_what_peers_have_us_ask_is_limited_as_well() -> None:
    machine = with_peers(200)
    for number in range(200):
        solicit(machine, f"10.2.{number}.7", 100.0, PEER_RLOC)

    assert len(machine.lookups) == MAX_CLAIMS


def test_a_peer_that_moved_in_a_flood_is_asked_about_again_when_the_answer_was_from_before() -> None:
    machine = with_peers(120)
    effects = machine.on_datagram(datagram(smr(ip("10.2.110.7"), PEER_RLOC), PEER_RLOC), 100.0)
    same = MappingRecord.of(prefix("10.2.110.0/24"), (Locator(PEER_RLOC),), ttl_min=1440)
    answer(machine, effects, same, 100.01)
    flood(machine, "data", 100.02)

    told = [effect for effect in only(machine.on_timer(100.2), SendControl) if is_question(effect)]

    assert any(request_in(sent).records[0].eid_prefix == prefix("10.2.110.7/32") for sent in told)

"""Answers that say more than was asked: every node can be an ETR, and its answers are not signed."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from msgspec.structs import replace

from lispmob.node.node import Node
from lispmob.protocol.acceptance import NEGATIVE_TTL_MIN, Guard, accept_records
from lispmob.protocol.effect import RemoveMapping, SendControl
from lispmob.wire.address import IpAddress
from lispmob.wire.map_reply import MapReply
from lispmob.wire.map_request import MapRequest
from lispmob.wire.record import Action, Locator, MappingRecord
from tests.control.support import EID, RESOLVER, WIFI, ip, only, prefix, request_in
from tests.node.test_node import CONFIG, datagram, node

EVIL = ip("66.66.66.66")
GOOD = Locator(ip("203.0.113.5"))
BAD = Locator(EVIL)
GUARD = Guard((EID,), frozenset({WIFI.address}), frozenset({RESOLVER}))


def record(text: str, *locators: Locator, ttl_min: int = 1440, action: Action = Action.NO_ACTION) -> MappingRecord:
    return MappingRecord.of(prefix(text), locators, ttl_min=ttl_min, action=action)


def ask(machine: Node, eid: str, now: float, *records: MappingRecord, source: IpAddress = EVIL) -> None:
    """Send a packet to the EID, and answer with these records. ValueError if the node does not ask."""
    sent = only(machine.on_miss(EID.address, ip(eid), 0, now), SendControl)
    if not sent:
        raise ValueError("nobody was asked")
    machine.on_datagram(datagram(MapReply(request_in(sent[0]).nonce, records).encode(), source), now)


def ready(**changes: object) -> Node:
    machine = node(replace(CONFIG, **changes))
    machine.on_locators([WIFI], 0.0)
    return machine


def locators_of(machine: Node, eid: str) -> tuple[Locator, ...]:
    entry = machine.map_cache.lookup(ip(eid))
    return entry.locators if entry is not None else ()


def questions(effects: Iterable[object]) -> list[MapRequest]:
    """The Map-Requests among these effects."""
    return [request_in(effect) for effect in only(effects, SendControl) if effect.payload[0] >> 4 == 8]


IN_USE = prefix("10.2.0.130/32")


def with_peer_in_use(*, at: float = 10.0) -> Node:
    machine = ready()
    ask(machine, "10.2.0.130", at, record("10.2.0.130/32", GOOD), source=RESOLVER)
    machine.on_used([IN_USE], at)
    return machine


@pytest.mark.parametrize(
    "records",
    [
        (record("10.2.0.128/25", BAD),),
        (record("10.2.0.0/16", BAD),),
        (record("10.2.0.200/32", BAD), record("10.2.0.130/32", BAD)),
        (record("10.2.0.128/25", BAD), record("10.2.0.130/32", BAD)),
        (record("10.2.0.128/25", BAD), record("10.2.0.130/32", BAD, ttl_min=0)),
        (record("10.2.0.128/25", BAD), record("10.2.0.130/31", BAD)),
        (record("10.2.0.128/25", action=Action.DROP),),
        (record("10.2.0.128/25", BAD), record("10.2.0.130/32", action=Action.DROP)),
    ],
)
def test_an_answer_about_one_host_takes_nothing_from_a_peer_in_use(records: tuple[MappingRecord, ...]) -> None:
    machine = with_peer_in_use()

    ask(machine, "10.2.0.200", 11.0, *records)

    assert locators_of(machine, "10.2.0.130") == (GOOD,)


def test_the_refresh_of_an_overclaim_takes_nothing_either() -> None:
    machine = with_peer_in_use()
    ask(machine, "10.2.0.200", 11.0, record("10.2.0.128/25", BAD, ttl_min=1))
    for second in range(12, 75):
        machine.on_used([prefix("10.2.0.128/25"), IN_USE], float(second))
        for asked in questions(machine.on_timer(float(second))):
            about = asked.records[0].eid_prefix
            said = record(str(IN_USE), GOOD) if about == IN_USE else record("10.2.0.128/25", BAD, ttl_min=1)
            machine.on_datagram(datagram(MapReply(asked.nonce, (said,)).encode(), EVIL), float(second))

    assert locators_of(machine, "10.2.0.130") == (GOOD,)


def test_the_peer_itself_may_say_that_it_has_moved_into_a_wider_prefix() -> None:
    machine = ready()
    ask(machine, "10.2.0.130", 10.0, record("10.2.0.130/32", GOOD, ttl_min=1), source=RESOLVER)
    machine.on_used([IN_USE], 62.0)
    (asked,) = questions(machine.on_timer(65.0))
    answer = MapReply(asked.nonce, (record("10.2.0.128/25", BAD),)).encode()

    effects = machine.on_datagram(datagram(answer, RESOLVER), 65.1)

    assert RemoveMapping(IN_USE) in effects
    assert locators_of(machine, "10.2.0.130") == (BAD,)


@pytest.mark.parametrize("text", ["128.0.0.0/2", "152.0.0.0/7", "0.0.0.0/0"])
def test_no_mapping_is_wider_than_any_site(text: str) -> None:
    machine = ready()
    ask(machine, "153.16.1.1", 1.0, record(text, BAD))

    assert locators_of(machine, "153.16.1.1") == ()
    assert machine.counters["rx_policy"] == 1


@pytest.mark.parametrize("text", ["2000::/3", "2001::/15", "::/0"])
def test_nor_in_ipv6(text: str) -> None:
    asked = prefix("2001:db8:9::1/128")

    assert accept_records([record(text, BAD)], asked, GUARD) is None


@pytest.mark.parametrize("source", [EVIL, RESOLVER])
@pytest.mark.parametrize("text", ["0.0.0.0/0", "0.0.0.0/1", "10.0.0.0/8"])
def test_no_answer_may_say_that_no_eid_is_anywhere_or_that_ours_are_not(text: str, source: IpAddress) -> None:
    machine = ready()
    ask(machine, "10.66.0.1", 1.0, record(text, action=Action.DROP), source=source)

    assert machine.counters["rx_policy"] == 1
    assert len(machine.map_cache) == 0


def test_a_negative_answer_of_an_etr_counts_for_what_was_asked() -> None:
    machine = ready()
    ask(machine, "10.66.0.1", 1.0, record("10.64.0.0/10", action=Action.DROP))

    ask(machine, "10.66.0.2", 2.0, record("10.66.0.2/32", GOOD))
    assert locators_of(machine, "10.66.0.2") == (GOOD,)


@pytest.mark.parametrize(("text", "kept"), [("128.0.0.0/1", "153.0.0.0/8"), ("153.16.0.0/16", "153.16.0.0/16")])
def test_the_mapping_system_speaks_for_a_part_of_the_space_at_a_time(text: str, kept: str) -> None:
    machine = ready()
    ask(machine, "153.16.1.1", 1.0, record(text), source=RESOLVER)

    assert [str(entry.prefix) for entry in machine.map_cache] == [kept]
    with pytest.raises(ValueError, match="nobody"):
        ask(machine, "153.16.9.9", 2.0)
    ask(machine, "200.1.1.1", 2.0, record("200.1.1.1/32", GOOD))


def test_a_negative_answer_is_believed_for_a_quarter_of_an_hour() -> None:
    machine = ready()
    ask(machine, "153.16.1.1", 1.0, record("153.16.0.0/16", ttl_min=1440), source=RESOLVER)

    machine.on_timer(NEGATIVE_TTL_MIN * 60.0 + 1.0)
    assert len(machine.map_cache) == 0


@pytest.mark.parametrize("text", ["8.8.8.0/24", "10.0.0.0/9", "11.2.0.0/16"])
def test_where_the_overlay_is_known_a_mapping_elsewhere_is_refused(text: str) -> None:
    guard = replace(GUARD, overlay=(prefix("10.64.0.0/10"), prefix("2001:db8::/32")))
    asked = prefix(text)

    assert accept_records([record(text, BAD)], asked, guard) is None


@pytest.mark.parametrize("text", ["10.64.0.0/10", "10.66.0.1/32", "2001:db8:9::/48", "[7]10.66.0.0/16"])
def test_and_one_inside_it_is_taken(text: str) -> None:
    guard = replace(GUARD, overlay=(prefix("10.64.0.0/10"), prefix("2001:db8::/32")))
    wanted = record(text, GOOD)

    assert accept_records([wanted], prefix(text), guard) == (wanted,)


def test_a_record_wider_than_the_one_that_answers_is_not_looked_at() -> None:
    narrow, wide = record("10.2.0.0/24", GOOD), record("10.2.0.0/16", BAD)

    assert accept_records([wide, narrow], prefix("10.2.0.7/32"), GUARD) == (narrow,)


def test_believing_a_long_answer_in_a_full_cache_removes_a_bounded_number_of_entries() -> None:
    machine = ready(map_cache_limit=5000)
    for number in range(4000):
        host = prefix("10.64.0.0/10").address + number
        static = MappingRecord.of(prefix(f"{host}/32"), (GOOD,))
        machine.on_mapping_added(prefix(f"{host}/32"), static.locators, 0, 0.0)
        machine._mappings.cache.get(prefix(f"{host}/32")).source = "reply"  # type: ignore[union-attr]
    records = [record(f"10.64.0.0/{bits}", BAD) for bits in range(10, 32)]

    asked = only(machine.on_miss(EID.address, ip("10.65.200.1"), 0, 1.0), SendControl)
    effects = machine.on_datagram(datagram(MapReply(request_in(asked[0]).nonce, tuple(records)).encode(), EVIL), 1.0)

    assert len(only(effects, RemoveMapping)) <= 256


def test_a_negative_answer_gives_way_to_an_answer_about_the_prefix_around_it_though_packets_go_there() -> None:
    machine = ready()
    ask(machine, "10.2.0.131", 10.0, record("10.2.0.131/32", action=Action.DROP), source=RESOLVER)
    machine.on_used([prefix("10.2.0.131/32")], 11.0)
    assert machine.map_cache.get(prefix("10.2.0.131/32")) is not None

    ask(machine, "10.2.0.132", 12.0, record("10.2.0.128/25", GOOD), source=RESOLVER)

    assert locators_of(machine, "10.2.0.131") == (GOOD,)

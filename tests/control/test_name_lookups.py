"""Names of other nodes: what is asked and remembered, also while a client asks without end."""

from __future__ import annotations

from itertools import count

import pytest

from lispmob.control.names import ASK_BURST, CACHE_LIMIT, LOOKUPS_LIMIT, NEGATIVE_S, SILENCE_S, NameLookups
from lispmob.protocol.effect import Count, MachineEffect, NameResolved, SendControl
from lispmob.protocol.locator_set import LocatorSet
from lispmob.wire.address import DistinguishedName, IpAddress
from lispmob.wire.map_reply import MapReply
from lispmob.wire.name_eid import name_record
from lispmob.wire.record import MappingRecord
from tests.control.support import LTE, WIFI, ip, only, request_in
from tests.node.test_node import CONFIG

NAS = ip("10.2.0.7")


def lookups() -> NameLookups:
    made = NameLookups(CONFIG, new_nonce=count(1).__next__)
    made.on_locators(LocatorSet.of(1, [WIFI]))
    return made


def answer(
    machine: NameLookups, effects: list[MachineEffect], name: bytes, eids: tuple[IpAddress, ...], now: float
) -> list[MachineEffect]:
    """The mapping system answers the latest question."""
    (sent,) = only(effects, SendControl)
    record = name_record(name, eids, ttl_min=10)
    return machine.on_map_reply(MapReply(request_in(sent).nonce, (record,)), WIFI.address, now)


def learn(machine: NameLookups, name: bytes, eids: tuple[IpAddress, ...], now: float) -> list[MachineEffect]:
    return answer(machine, machine.resolve(name, now), name, eids, now)


def said(effects: list[MachineEffect]) -> list[tuple[bytes, tuple[IpAddress, ...], bool]]:
    return [(told.name, told.eids, told.is_answered) for told in only(effects, NameResolved)]


def test_an_answer_is_kept_for_its_time_and_then_used_on_while_it_is_asked_for_again() -> None:
    machine = lookups()
    assert said(learn(machine, b"nas", (NAS,), 0.0)) == [(b"nas", (NAS,), True)]

    fresh, late = machine.resolve(b"NAS", 599.0), machine.resolve(b"nas", 600.0)

    assert (said(fresh), len(only(fresh, SendControl))) == ([(b"nas", (NAS,), True)], 0)
    assert (said(late), len(only(late, SendControl))) == ([(b"nas", (NAS,), True)], 1)


def test_that_there_is_no_such_name_counts_for_a_minute() -> None:
    machine = lookups()
    learn(machine, b"nobody", (), 0.0)

    assert said(machine.resolve(b"nobody", NEGATIVE_S - 1)) == [(b"nobody", (), True)]
    assert only(machine.resolve(b"nobody", NEGATIVE_S), SendControl)


def test_what_is_not_answered_is_asked_twice_and_not_again_for_ten_seconds() -> None:
    machine = lookups()
    asked = [len(only(machine.resolve(b"nas", 0.0), SendControl)), len(only(machine.on_timer(1.0), SendControl))]
    told = machine.on_timer(2.0)

    assert asked == [1, 1]
    assert said(told) == [(b"nas", (), False)]
    assert (machine.wake_at(), only(machine.resolve(b"nas", 2.0 + SILENCE_S - 0.1), SendControl)) == (None, [])
    assert only(machine.resolve(b"nas", 2.0 + SILENCE_S), SendControl)


def test_a_name_that_was_known_stays_known_while_no_map_resolver_answers() -> None:
    machine = lookups()
    learn(machine, b"nas", (NAS,), 0.0)
    machine.resolve(b"nas", 600.0)
    machine.on_timer(601.0)

    assert said(machine.on_timer(602.0)) == [(b"nas", (NAS,), True)]


@pytest.mark.parametrize("are_answered", [True, False])
def test_who_asks_for_names_that_there_are_not_pushes_out_none_that_there_is(are_answered: bool) -> None:
    machine = lookups()
    learn(machine, b"nas", (NAS,), 0.0)
    for number in range(2 * CACHE_LIMIT):
        name, now = f"x{number}".encode(), 1.0 + number / 10
        asked = machine.resolve(name, now)
        if are_answered:
            answer(machine, asked, name, (), now)
        else:
            machine.on_timer(now + 1.0)
            machine.on_timer(now + 2.0)

    assert said(machine.resolve(b"nas", 300.0)) == [(b"nas", (NAS,), True)]
    assert len(machine.known()) <= CACHE_LIMIT


def test_of_names_that_lead_somewhere_the_oldest_answer_goes_first() -> None:
    machine = lookups()
    for number in range(CACHE_LIMIT + 2):
        learn(machine, f"x{number}".encode(), (NAS,), number / 10)

    assert len(machine.known()) == CACHE_LIMIT
    assert next(iter(machine.known())) == b"x2"


def test_forty_names_are_asked_for_at_once_and_twenty_more_each_second() -> None:
    machine = lookups()
    first = [len(only(machine.resolve(f"x{number}".encode(), 0.0), SendControl)) for number in range(60)]
    later = [len(only(machine.resolve(f"y{number}".encode(), 1.0), SendControl)) for number in range(60)]

    assert sum(first) in (ASK_BURST - 1, ASK_BURST), "the limit is a sum of floats"
    assert sum(later) in (19, 20, 21)


def test_at_most_64_names_are_asked_for_at_once_and_any_more_are_told_to_be_unknown() -> None:
    machine = lookups()
    for number in range(80):
        machine.resolve(f"x{number}".encode(), number / 20)

    told = machine.resolve(b"one-more", 4.1)

    assert said(told) == [(b"one-more", (), False)]
    assert only(told, Count) == [Count("tx_rate")]
    assert sum(not known.is_answered for known in machine.known().values()) + LOOKUPS_LIMIT <= 80


@pytest.mark.parametrize(
    "records",
    [
        (name_record(b"other", (NAS,), ttl_min=10),),
        (name_record(b"nas", (NAS,), ttl_min=10), name_record(b"nas", (NAS,), ttl_min=10)),
        (MappingRecord(DistinguishedName(b"other"), 0, ()),),
    ],
)
def test_an_answer_about_another_name_or_about_two_is_none(records: tuple[MappingRecord, ...]) -> None:
    machine = lookups()
    (sent,) = only(machine.resolve(b"nas", 0.0), SendControl)
    nonce = request_in(sent).nonce

    assert machine.on_map_reply(MapReply(nonce, records), WIFI.address, 0.1) == [Count("rx_policy")]
    assert machine.on_map_reply(MapReply(nonce, (name_record(b"nas", (NAS,), ttl_min=10),)), LTE.address, 0.1) == [
        Count("rx_policy")
    ]
    assert machine.expects(nonce)
    assert said(machine.on_map_reply(MapReply(nonce, (name_record(b"nas", (NAS,), ttl_min=10),)), WIFI.address, 0.1))


@pytest.mark.parametrize("shorter", [b"n", b"na", b"NA"])
def test_an_answer_about_a_shorter_name_says_that_the_longer_one_is_not_registered(shorter: bytes) -> None:
    machine = lookups()

    effects = answer(machine, machine.resolve(b"nas", 0.0), shorter, (NAS,), 0.1)

    assert said(effects) == [(b"nas", (), True)]


def test_a_name_in_a_notification_is_asked_for_if_a_program_asked_for_it_before() -> None:
    machine = lookups()
    learn(machine, b"nas", (NAS,), 0.0)

    assert len(only(machine.on_solicited(b"nas", 1.0), SendControl)) == 1
    assert machine.on_solicited(b"nas", 1.1) == []
    assert machine.on_solicited(b"video", 1.1) == []


def test_a_stranger_who_says_that_a_name_has_changed_has_it_asked_for_once_in_three_seconds() -> None:
    machine = lookups()
    learn(machine, b"nas", (NAS,), 0.0)
    asked = 0
    for number in range(300):
        effects = machine.on_solicited(b"nas", 1.0 + number / 100)
        if only(effects, SendControl):
            asked += 1
            answer(machine, effects, b"nas", (NAS,), 1.0 + number / 100)

    assert asked == 1
    assert only(machine.resolve(b"nas", 4.0), SendControl)


def test_strangers_who_say_that_names_have_changed_use_up_none_of_what_programs_ask() -> None:
    machine = lookups()
    names = [b"host%d" % number for number in range(200)]
    for number, name in enumerate(names):
        learn(machine, name, (NAS,), float(number))
    for name in names:
        machine.on_solicited(name, 300.0)

    asked = [only(machine.resolve(b"other%d" % number, 300.0), SendControl) for number in range(LOOKUPS_LIMIT // 2)]
    assert all(asked)

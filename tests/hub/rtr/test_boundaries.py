"""Limits of an RTR, each reached and exceeded by one."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from lispmob.hub.map_server.effect import Arrival
from lispmob.hub.rtr.nat_binding import Binding, NatEntry
from lispmob.hub.rtr.rtr import MapServerLink
from lispmob.hub.rtr.rtr_moves import Moved, Moves
from lispmob.hub.rtr.rtr_pending import PENDING_LIMIT, PENDING_S, Pending, PendingRegisters, register_key
from lispmob.wire.ecm import EncapsulatedControl
from lispmob.wire.map_request import EidRecord, MapRequest
from tests.hub.exchange import HUB, eid
from tests.hub.rtr.test_rtr_hostile import ELSEWHERE, NAT, NODE, RTR_KEY, WIFI, XTR_ID, hub

SITE_ID = bytes(8)


def probe(octets: int, *, is_smr: bool = False) -> Arrival:
    request = MapRequest(7, None, (NAT,), (EidRecord.of(NODE),), is_probe=not is_smr, is_smr=is_smr).encode()
    return Arrival(request + b"\1" * (octets - len(request)), NAT, 4342, HUB)


def relayed(octets: int, first: int) -> Arrival:
    """An ECM for the RTR whose message has so many octets."""
    message = bytes((first,)) + bytes(octets - 1 - len(XTR_ID) - len(SITE_ID)) + XTR_ID + SITE_ID
    return Arrival(EncapsulatedControl(WIFI, 4342, HUB, 4342, message, to_rtr=True).encode(), NAT, 20001, HUB)


REGISTER, REGISTER_OF_NOBODY = 0x32, 0x30  # with and without an xTR-ID


@pytest.mark.parametrize(
    ("arrival", "counter"),
    [
        (probe(512), "rx_trailing"),
        (probe(513), "rx_limit"),
        (relayed(4096, REGISTER), None),
        (relayed(4097, REGISTER), "rx_limit"),
        (relayed(4320, REGISTER_OF_NOBODY), "rx_policy"),  # 4352 octets in all
        (relayed(4321, REGISTER_OF_NOBODY), "rx_limit"),
    ],
)
def test_messages_are_read_up_to_their_limits(arrival: Arrival, counter: str | None) -> None:
    plane = hub()

    plane.on_datagram(arrival, 0.0)

    assert plane.counters["rx_limit"] == (counter == "rx_limit")
    if counter is not None:
        assert plane.counters[counter] == 1


@pytest.mark.parametrize(("octets", "counter"), [(512, "rx_trailing"), (513, "rx_limit")])
def test_an_smr_is_read_up_to_512_octets(octets: int, counter: str) -> None:
    plane = hub(map_servers=(MapServerLink(ELSEWHERE, RTR_KEY),))

    plane.on_datagram(probe(octets, is_smr=True), 0.0)

    assert plane.counters[counter] == 1


@pytest.mark.parametrize(("octets", "is_one"), [(39, False), (40, True)])
def test_a_register_for_an_rtr_has_40_octets_at_least(octets: int, is_one: bool) -> None:
    message = bytes((REGISTER,)) + bytes(octets - 25) + XTR_ID + SITE_ID
    assert len(message) == octets

    assert register_key(message) == ((XTR_ID, 0) if is_one else None)
    assert register_key(bytes((REGISTER_OF_NOBODY,)) + message[1:]) is None


def pending(number: int, at: float) -> Pending:
    return Pending(b"", WIFI, ip_address("203.0.0.0") + number * 256, 20001, HUB, HUB, at)


@pytest.mark.parametrize(("after_s", "is_there"), [(PENDING_S - 0.1, True), (PENDING_S, False)])
def test_a_register_waits_for_its_answer_so_long(after_s: float, is_there: bool) -> None:
    registers = PendingRegisters()
    assert registers.put((XTR_ID, 7), pending(1, 5.0), 5.0)

    assert bool(registers.find(7, WIFI, HUB, 5.0 + after_s)) == is_there


def test_8192_registers_wait_and_the_oldest_makes_room() -> None:
    registers = PendingRegisters()
    for number in range(PENDING_LIMIT + 1):
        assert registers.put((XTR_ID, number), pending(number, 0.0), 0.0)
        assert len(registers) == min(number + 1, PENDING_LIMIT) <= 8192

    assert [registers.awaits(number) for number in (0, 1, PENDING_LIMIT)] == [False, True, True]


def binding(number: int, *, priority: int = 1) -> Binding:
    return Binding(ip_address("10.0.0.0") + number, NAT, 20001, HUB, 4342, 100.0, priority)


@pytest.mark.parametrize(("priority", "is_usable"), [(0, True), (254, True), (255, False)])
def test_a_binding_with_priority_255_is_not_used(priority: int, is_usable: bool) -> None:
    entry = NatEntry(NODE, XTR_ID, {})
    entry.take(binding(1, priority=priority), ())

    assert bool(entry.usable()) == is_usable


def test_a_node_has_16_bindings_and_the_oldest_makes_room() -> None:
    entry = NatEntry(NODE, XTR_ID, {})
    for number in range(17):
        entry.take(binding(number), ())

    assert [int(one.rloc) & 0xFF for one in entry.usable()] == [*range(1, 17)]


@pytest.mark.parametrize(("now", "is_left"), [(99.9, True), (100.0, False)])
def test_a_binding_ends_when_its_time_is_over(now: float, is_left: bool) -> None:
    entry = NatEntry(NODE, XTR_ID, {})
    entry.take(binding(1), ())

    assert entry.expire(now) != is_left
    assert bool(entry.usable()) == is_left


def moved(number: int) -> Moved:
    return Moved(eid("10.1.0.1/32"), HUB, number.to_bytes(16))


def test_a_new_place_is_asked_four_times_and_given_up_later() -> None:
    moves, asked = Moves(), []
    moves.on_register((XTR_ID, WIFI), binding(1), binding(2), moved(1), 5.0)
    while (at := moves.wake_at()) is not None:
        asked += [(at - 5.0, len(moves.to_ask(at)))]

    assert asked[:4] == [(0.0, 1), (pytest.approx(0.4), 1), (1.0, 1), (2.0, 1)]
    assert [count for _, count in asked[4:]] == [0]
    assert len(moves) == 0


def test_4096_moves_are_open_and_the_oldest_makes_room() -> None:
    moves = Moves()
    for number in range(4098):
        moves.on_register((number.to_bytes(16), WIFI), binding(1), binding(2), moved(number), 5.0)
        assert len(moves) == min(number + 1, 4096)

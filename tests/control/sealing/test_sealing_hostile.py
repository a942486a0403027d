"""Handshakes of attackers: they use up their own limits only, and not what peers need."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any, TypeAlias

import pytest

from lispmob.control.sealing.callers import AnswerLimits
from lispmob.control.sealing.handshake_carriage import First, take_first
from lispmob.control.sealing.peer_keys import REMEMBERED_MAX, KeptKey, PeerKeys
from lispmob.protocol.datagram import Datagram
from lispmob.protocol.effect import Count, InstallMapping, InstallSession, SendControl, UsableLocator
from lispmob.protocol.locator_set import LocalLocator, LocatorSet
from lispmob.wire.address import EidPrefix, IpAddress
from lispmob.wire.key_record import KeyRecord
from lispmob.wire.map_reply import MapReply
from lispmob.wire.map_request import MapRequest
from lispmob.wire.message import decode_control
from tests.control.sealing.sealed_pair import (
    ALICE_EID,
    ALICE_RLOC,
    BOB_RLOC,
    Memory,
    Side,
    a_pair,
    alice,
    bob,
    pinned,
)
from tests.control.support import ip, only, prefix
from tests.crypto.support import needs_libcrypto

pytestmark = needs_libcrypto

TraceFunction: TypeAlias = Callable[[FrameType, str, Any], Any]


def message_of(one: Side, other: Side, now: float = 0.0) -> First:
    """The first message of a handshake that this side begins."""
    (sent,) = only(one.machine.on_seal_wanted(one.knows(other).peer, now), SendControl)
    first = take_first(request_of(sent))
    assert first is not None
    return first


def request_of(sent: SendControl) -> MapRequest:
    request = decode_control(sent.payload)
    assert isinstance(request, MapRequest)
    return request


def junk_for(to: Side, initiator: EidPrefix = ALICE_EID) -> First:
    return First(bytes([1, 1, 0, 0]) + bytes(128), initiator, to.eid)


def stranger(number: int, *, to: Side) -> Side:
    return Side(bytes([number % 255 + 1]) * 32, prefix(f"10.9.{number}.1/32"), ALICE_RLOC, pinned=pinned(to))


def arrive(first: First, source: IpAddress, at: Side, now: float = 0.0, *, is_known: bool = False) -> list[object]:
    return list(at.machine.on_first(first, Datagram(b"", source, 4342, BOB_RLOC, 2), 1, now, is_known=is_known))


def counted(effects: list[object]) -> list[str]:
    return [effect.name for effect in only(effects, Count)]


def test_junk_from_everywhere_leaves_every_handshake_to_who_can_make_one() -> None:
    one, other = a_pair()
    for number in range(1000):
        arrive(junk_for(other), ip("203.0.113.0") + number, other)

    assert only(arrive(message_of(one, other), ip("192.0.2.77"), other), InstallSession)


def test_junk_in_the_name_of_an_address_leaves_it_all_its_handshakes() -> None:
    one, other = a_pair()
    for _ in range(100):
        arrive(junk_for(other), ALICE_RLOC, other)

    assert only(arrive(message_of(one, other), ALICE_RLOC, other), InstallSession)


def test_handshakes_of_strangers_leave_those_of_locators_in_use() -> None:
    one, other = a_pair()
    for number in range(200):
        arrive(message_of(stranger(number, to=other), other), ip("203.0.113.0") + number, other)
    assert counted(arrive(message_of(stranger(201, to=other), other), ip("192.0.2.99"), other)) == ["rx_rate"]

    assert only(arrive(message_of(one, other), ALICE_RLOC, other, is_known=True), InstallSession)


def test_a_locator_in_use_has_a_limit_as_well() -> None:
    _, other = a_pair()
    told = [
        arrive(message_of(stranger(number, to=other), other), ALICE_RLOC, other, is_known=True) for number in range(60)
    ]

    assert sum("rx_rate" not in counted(effects) for effects in told) <= 20


@pytest.mark.parametrize(
    ("sources", "is_known", "a_second"), [(1, False, 20), (1, True, 20), (500, False, 100), (500, True, 400)]
)
def test_a_flood_that_goes_on_is_answered_no_faster_than_at_its_rate(
    sources: int, is_known: bool, a_second: int
) -> None:
    limits, seconds = AnswerLimits(), 10

    answered = sum(
        limits.take(ip("203.0.0.0") + number % sources, number / 2000, is_known=is_known)
        for number in range(2000 * seconds)
    )

    assert a_second * (seconds - 0.1) <= answered <= a_second * (seconds + 1), "and a second's worth at once"


def test_a_forger_of_all_locators_in_use_gets_four_hundred_answers_at_once_and_no_more() -> None:
    other = bob(pinned=pinned(alice()))
    first = message_of(alice(pinned=pinned(other)), other)
    told = [arrive(first, ip("203.0.0.0") + number, other, is_known=True) for number in range(1000)]

    assert sum("rx_rate" not in counted(effects) for effects in told) in (399, 400), "the limit is a sum of floats"


def test_one_sender_has_eight_places_among_those_that_wait_for_a_lookup() -> None:
    other = bob()
    for number in range(20):
        arrive(message_of(stranger(number, to=other), other), ip("192.0.2.66"), other, number / 10)

    assert len(other.machine.take_questions()) == 8


def test_who_names_an_eid_first_does_not_keep_its_owner_from_waiting() -> None:
    other = bob()
    owner = alice(pinned=pinned(other))
    thief = Side(bytes(range(2, 34)), ALICE_EID, ALICE_RLOC, pinned=pinned(other))
    arrive(message_of(thief, other), ip("192.0.2.66"), other)

    arrive(message_of(owner, other), ALICE_RLOC, other)

    assert other.machine.take_questions() == [ALICE_EID], "one question for both"
    vouched = other.machine.on_vouched(ALICE_EID, KeyRecord((owner.public,)), 0.5)
    assert len(only(vouched, InstallSession)) == 1
    assert [sent.destination for sent in only(vouched, SendControl)] == [ALICE_RLOC]


def test_a_locator_in_use_takes_the_place_of_a_stranger_that_waits() -> None:
    other = bob()
    for number in range(64):
        arrive(message_of(stranger(number, to=other), other), ip("203.0.113.0") + number, other)
    other.machine.take_questions()

    told = arrive(message_of(alice(pinned=pinned(other)), other), ALICE_RLOC, other, is_known=True)

    assert counted(told) == ["rx_rate"], "the stranger's is lost, and counted"
    assert other.machine.take_questions() == [ALICE_EID]


def test_the_next_deadline_is_known_without_a_look_at_all_peers() -> None:
    few, many = (steps_of(peers_of(number).machine.wake_at) for number in (10, 1000))

    assert few <= many <= few + 20


def peers_of(number: int) -> Side:
    """A node that knows the keys and locators of so many peers."""
    memory = Memory()
    memory.keys = {host(at): KeptKey(bytes([1]) * 32) for at in range(number)}
    side = bob(memory=memory)
    for eid in memory.keys:
        side.machine.entries.on_installed(InstallMapping(eid, "ENCAPSULATE", (UsableLocator(ALICE_RLOC, 1, 100),)))
    return side


def host(number: int) -> EidPrefix:
    return EidPrefix.host(ip("10.9.0.0") + number)


def steps_of(function: Callable[[], object]) -> int:
    """How many Python instructions this function takes."""
    seen = 0

    def trace(frame: FrameType, event: str, _argument: object) -> TraceFunction:
        nonlocal seen
        frame.f_trace_opcodes = True
        seen += event == "opcode"
        return trace

    before = sys.gettrace()
    gc.disable()  # a collection would run the finalizers of other tests' objects, whose instructions count as well
    sys.settrace(trace)
    try:
        function()
    finally:
        sys.settrace(before)
        gc.enable()
    return seen


@pytest.mark.parametrize("number", [1, 10, 100])
def test_keys_of_newcomers_do_not_push_out_the_ones_that_packets_were_sealed_with(number: int) -> None:
    sealed = prefix("10.1.0.1/32")
    memory = Memory()
    memory.keys = {sealed: KeptKey(bytes([7]) * 32, has_been_sealed=True)}
    keys = PeerKeys((), memory)
    for at in range(REMEMBERED_MAX + number):
        keys.on_vouched(host(at), KeyRecord((bytes([9]) * 32,)))

    assert keys.refused_clear == (sealed,)
    assert len(memory.keys) == REMEMBERED_MAX


def test_of_handshakes_that_are_open_at_once_the_last_256_may_still_be_answered() -> None:
    side = peers_of(300)
    side.machine.on_locators(LocatorSet.of(1, [LocalLocator(BOB_RLOC, 2, "wlan0")]))
    nonces = []
    for peer in side.machine.entries.peers:
        (sent,) = only(side.machine.on_seal_wanted(peer.number, 0.0), SendControl)
        nonces.append(request_of(sent).nonce)

    known = [side.machine.on_answer(MapReply(nonce, (), is_probe=True), 0.1) is not None for nonce in nonces]

    assert known == [False] * 44 + [True] * 256

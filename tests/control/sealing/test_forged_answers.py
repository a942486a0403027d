"""Answers to a handshake that a listener forges: he reads the nonce of the probe, and knows our public key."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from lispmob.control.sealing.callers import FORGERY_BURST
from lispmob.control.sealing.handshake_carriage import First, put_second, take_first
from lispmob.control.sealing.noise import KeyPair
from lispmob.protocol.effect import InstallSession, MachineEffect, SendControl
from lispmob.wire.map_reply import MapReply
from lispmob.wire.message import decode_control
from lispmob.wire.record import Locator, MappingRecord
from lispmob.wire.sealed_handshake import SecondMessage
from tests.control.sealing.sealed_pair import (
    ALICE_RLOC,
    BOB_EID,
    BOB_RLOC,
    Side,
    a_pair,
    counted,
    deliver_first,
    deliver_second,
    first_of,
    request_of,
)
from tests.control.support import only
from tests.crypto.support import ciphers, needs_libcrypto

pytestmark = needs_libcrypto


def seen_in(sent: SendControl) -> tuple[int, First]:
    """What a listener sees: the nonce, and the first message."""
    request = request_of(sent)
    first = take_first(request)
    assert first is not None
    return request.nonce, first


def junk(sent: SendControl, to: Side, filling: int = 0) -> bytes:
    """A second message with the right indices and mac1, and nothing else that is right."""
    _, first = seen_in(sent)
    index = int.from_bytes(first.message[4:8])
    return SecondMessage(99, index, bytes([9]) * 32, bytes([filling]) * 20).encode(to.public)


def of_another_key(sent: SendControl, to: Side) -> bytes:
    """With a true ephemeral key, whose owner has not the static key that the handshake is for."""
    _, first = seen_in(sent)
    other = KeyPair.of(bytes([5]) * 32, ciphers())
    return SecondMessage(99, int.from_bytes(first.message[4:8]), other.public, bytes(20)).encode(to.public)


def without_a_secret(sent: SendControl, to: Side) -> bytes:
    """With an ephemeral key that makes no secret with any other one."""
    _, first = seen_in(sent)
    return SecondMessage(99, int.from_bytes(first.message[4:8]), bytes(32), bytes(20)).encode(to.public)


def arrive(message: bytes, sent: SendControl, at: Side, now: float) -> list[MachineEffect]:
    nonce, _ = seen_in(sent)
    reply = decode_control(put_second(nonce, message, BOB_EID, BOB_RLOC))
    assert isinstance(reply, MapReply)
    told = at.machine.on_answer(reply, now)
    assert told is not None
    return told


def plain(sent: SendControl, at: Side, now: float) -> list[MachineEffect]:
    """An answer to the probe that says nothing of a handshake, as an RTR's does."""
    nonce, _ = seen_in(sent)
    record = MappingRecord.of(BOB_EID, (Locator(BOB_RLOC, is_probed=True),), ttl_min=1, is_authoritative=True)
    told = at.machine.on_answer(MapReply(nonce, (record,), is_probe=True), now)
    assert told is not None
    return told


@pytest.mark.parametrize("forge", [junk, of_another_key, without_a_secret])
def test_a_forged_answer_ends_no_handshake(forge: Callable[[SendControl, Side], bytes]) -> None:
    one, other = a_pair()
    sent = first_of(one, other)
    (genuine,) = only(deliver_first(sent, ALICE_RLOC, other, 0.0), SendControl)

    for number in range(5):
        told = arrive(forge(sent, one), sent, one, 0.01 + number / 1000)
        assert counted(told) == ["rx_auth"]
        assert only(told, InstallSession) == []

    assert only(deliver_second(genuine, one, 0.1), InstallSession)


def test_an_answer_without_a_handshake_ends_none_and_has_it_tried_as_data_goes_once() -> None:
    one, other = a_pair()
    sent = first_of(one, other)
    (genuine,) = only(deliver_first(sent, ALICE_RLOC, other, 0.0), SendControl)

    tried = [only(plain(sent, one, 0.01 + number / 1000), SendControl) for number in range(50)]

    assert [len(sends) for sends in tried] == [1] + [0] * 49
    assert only(deliver_second(genuine, one, 0.1), InstallSession)


def test_the_genuine_answer_counts_once() -> None:
    one, other = a_pair()
    sent = first_of(one, other)
    (genuine,) = only(deliver_first(sent, ALICE_RLOC, other, 0.0), SendControl)
    assert only(deliver_second(genuine, one, 0.1), InstallSession)

    reply = decode_control(genuine.payload)
    assert isinstance(reply, MapReply)
    assert one.machine.on_answer(reply, 0.2) is None


def test_a_flood_of_forged_answers_is_computed_a_hundred_times_a_second_and_the_next_try_counts() -> None:
    one, other = a_pair()
    sent = first_of(one, other)

    names = [counted(arrive(junk(sent, one, number % 256), sent, one, 0.0))[0] for number in range(1000)]

    assert (names.count("rx_auth"), names.count("rx_rate")) == (FORGERY_BURST, 1000 - FORGERY_BURST)
    (again, *_) = only(one.machine.on_timer(1.0), SendControl)
    (genuine,) = only(deliver_first(again, ALICE_RLOC, other, 1.0), SendControl)
    assert only(deliver_second(genuine, one, 1.1), InstallSession)

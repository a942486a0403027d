"""What the mapping system holds about us: asked for, and compared with the truth."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lispmob.control.belief import ANSWER_S, TRIES, Beliefs, differences
from lispmob.protocol.effect import SendControl
from lispmob.protocol.locator_set import LocalLocator
from lispmob.wire.ecm import EncapsulatedControl
from lispmob.wire.map_reply import MapReply
from lispmob.wire.record import Locator, MappingRecord
from tests.control.support import EID, EID6, RESOLVER, SPARE_RESOLVER, WIFI, ip, locators, nonces, prefix, request_in

HERE = Locator(WIFI.address, 1, 100)


def beliefs() -> Beliefs:
    return Beliefs(nonces())


def begun(asked: Beliefs, *own: LocalLocator) -> list[SendControl]:
    return asked.begin((EID,), (RESOLVER,), locators(*own), 10.0)


def reply(nonce: int, *records: MappingRecord) -> bytes:
    return MapReply(nonce=nonce, records=records).encode()


def test_each_map_resolver_is_asked_about_each_eid_from_our_best_locator() -> None:
    asked = beliefs()

    effects = asked.begin((EID, EID6), (RESOLVER, SPARE_RESOLVER), locators(WIFI), 10.0)

    assert [(effect.destination, effect.source) for effect in effects] == [
        (resolver, WIFI.address) for _ in (EID, EID6) for resolver in (RESOLVER, SPARE_RESOLVER)
    ]
    assert [str(request_in(effect).records[0].eid_prefix) for effect in effects[::2]] == [str(EID), str(EID6)]
    assert request_in(effects[0]).itr_rlocs == (WIFI.address,)
    assert asked.found is None


def test_an_answer_is_what_is_believed() -> None:
    asked = beliefs()
    nonce = request_in(begun(asked, WIFI)[0]).nonce

    assert asked.on_datagram(reply(nonce, MappingRecord.of(EID, (HERE,))), WIFI.address, 10.25)

    (found,) = asked.found or ()
    assert (found.answer, found.locators, found.rtt_s) == ("record", (HERE,), 0.25)


def test_the_narrowest_record_about_an_eid_counts() -> None:
    asked = beliefs()
    nonce = request_in(begun(asked, WIFI)[0]).nonce
    wide = MappingRecord.of(prefix("10.1.0.0/16"), (Locator(ip("203.0.113.1")),))
    beside = MappingRecord.of(prefix("10.9.0.0/16"), (Locator(ip("203.0.113.2")),))

    asked.on_datagram(reply(nonce, wide, MappingRecord.of(EID, (HERE,)), beside), WIFI.address, 10.1)

    assert (asked.found or ())[0].locators == (HERE,)


def test_a_record_without_locators_is_a_negative_answer() -> None:
    asked = beliefs()
    nonce = request_in(begun(asked, WIFI)[0]).nonce

    asked.on_datagram(reply(nonce, MappingRecord.of(prefix("10.1.0.0/24"))), WIFI.address, 10.1)

    assert (asked.found or ())[0].answer == "negative"


def test_our_own_question_that_comes_back_tells_where_we_are_believed_to_be() -> None:
    asked = beliefs()
    (effect,) = begun(asked, WIFI)

    assert asked.on_datagram(effect.payload, WIFI.address, 10.1)

    (found,) = asked.found or ()
    assert (found.answer, found.forwarded_to) == ("forwards", WIFI.address)


def test_who_does_not_answer_is_asked_again_and_then_is_silent() -> None:
    asked = beliefs()
    begun(asked, WIFI)
    sent, now = 1, 10.0
    while (at := asked.wake_at()) is not None:
        now = at
        sent += len(asked.on_timer(now))

    assert (sent, now) == (TRIES, 10.0 + TRIES * ANSWER_S)
    assert [belief.answer for belief in asked.found or ()] == ["silent"]


def test_without_a_locator_no_question_can_be_asked() -> None:
    asked = beliefs()

    assert begun(asked) == []
    assert [belief.answer for belief in asked.found or ()] == ["cannot-ask"]


def test_what_answers_nothing_is_left_to_others() -> None:
    asked = beliefs()
    assert not asked.on_datagram(reply(7), WIFI.address, 10.0)
    (effect,) = begun(asked, WIFI)
    strange = EncapsulatedControl(ip("192.0.2.7"), 1, ip("10.1.0.1"), 4342, b"\x10" + bytes(40)).encode()

    assert not asked.on_datagram(reply(999, MappingRecord.of(EID, (HERE,))), WIFI.address, 10.0)
    assert not asked.on_datagram(strange, WIFI.address, 10.0)
    assert not asked.on_datagram(b"", WIFI.address, 10.0)
    assert effect.payload
    assert asked.found is None


@given(st.binary(max_size=80))
def test_any_octets_are_an_answer_or_none(octets: bytes) -> None:
    asked = beliefs()
    nonce = request_in(begun(asked, WIFI)[0]).nonce

    for head in (b"\x20", b"\x80", b"\x28"):
        asked.on_datagram(head + octets, WIFI.address, 10.1)
        asked.on_datagram(head + b"\0\0\0" + nonce.to_bytes(8, "big") + octets, WIFI.address, 10.1)


@pytest.mark.parametrize(
    ("said", "wrong"),
    [
        ((HERE,), []),
        ((Locator(WIFI.address, 1, 100, is_local=True, is_probed=True),), []),
        ((), ["198.51.100.10 is missing"]),
        ((HERE, Locator(ip("203.0.113.9"))), ["203.0.113.9 is not one of our locators"]),
        ((Locator(WIFI.address, 2, 50),), ["198.51.100.10 has priority and weight 2/50, not 1/100"]),
        ((Locator(WIFI.address, 1, 100, is_reachable=False),), ["198.51.100.10 is said to be unreachable"]),
    ],
)
def test_what_is_wrong_is_said_locator_by_locator(said: tuple[Locator, ...], wrong: list[str]) -> None:
    assert differences(said, (HERE,)) == wrong

"""Keys asked for from behind a NAT: what is asked, which answer counts, and how often."""

from __future__ import annotations

from itertools import count

import pytest

from lispmob.control.itr_security import ItrSecurity, LispSecTools, RefusalReason
from lispmob.control.sealing.key_lookups import (
    AGAIN_S,
    QUESTIONS_MAX,
    REST_MAX_S,
    STRANGE_MAX,
    TRIES,
    Found,
    KeyLookups,
    Outside,
)
from lispmob.protocol.effect import SendControl, WaysInDoubt
from lispmob.protocol.servers import LispSecMode
from lispmob.wire.address import IpAddress
from lispmob.wire.ecm import EncapsulatedControl
from lispmob.wire.key_record import KeyRecord
from lispmob.wire.map_reply import MapReply
from lispmob.wire.record import Locator, MappingRecord
from tests.control.support import EID, RESOLVER, WIFI, ip, nonces, only, prefix, request_in, run_until
from tests.control.test_itr_security import PEER, SECRET, SITE, counted, genuine, plain
from tests.crypto.support import KEY_WRAP, needs_libcrypto

pytestmark = needs_libcrypto

OWN = EID
KEY = KeyRecord((bytes(range(32)),))
KEYED = MappingRecord.of(SITE, (Locator(ip("203.0.113.5")), KEY.to_locator()))
BARE = MappingRecord.of(SITE, (Locator(ip("203.0.113.5")),))
OUTSIDE = Outside(WIFI.address, 2, ip("198.51.100.99"), 40123, RESOLVER)


class Asker:
    def __init__(self, mode: LispSecMode = "require") -> None:
        keys = (bytes([number] * 16) for number in count(1))
        self.security = ItrSecurity(mode, {RESOLVER: SECRET}, LispSecTools(KEY_WRAP, keys.__next__))
        self.machine = KeyLookups(self.security, nonces(1))
        self.machine.on_outside(OUTSIDE, [RESOLVER])
        self.last: SendControl

    def ask(self, now: float = 0.0, asked: str = str(PEER), *, is_strange: bool = False) -> list[SendControl]:
        sent = only(self.machine.on_wanted(OWN, prefix(asked), now, is_strange=is_strange), SendControl)
        if sent:
            self.last = sent[0]
        return sent

    def hear(self, raw: bytes, now: float = 0.1) -> tuple[list[Found], list[str]]:
        found, effects = self.machine.on_map_reply(MapReply.decode(raw), raw, now)
        return found, counted(effects)


def test_the_question_names_the_place_that_the_nat_gives_us() -> None:
    (sent,) = Asker().ask()

    request, ecm = request_in(sent), EncapsulatedControl.decode(sent.payload)
    assert (sent.destination, sent.source) == (RESOLVER, WIFI.address)
    assert request.itr_rlocs == (OUTSIDE.address,)
    assert request.source_eid == OWN.address
    assert (ecm.source_port, ecm.destination_port) == (OUTSIDE.port, 4342)
    assert ecm.authentication is not None


def test_a_genuine_answer_says_whose_key_it_is() -> None:
    asker = Asker()
    (sent,) = asker.ask()

    assert asker.hear(genuine(sent, (KEYED,))) == ([Found(SITE, KEY, BARE)], [])
    assert asker.machine.wake_at() is None
    assert not asker.machine.expects(request_in(sent).nonce)


@pytest.mark.parametrize("change", ["plain", "tag", "prefix"])
def test_what_is_not_genuine_says_nothing_and_leaves_the_question_open(change: str) -> None:
    asker = Asker()
    (sent,) = asker.ask()
    raw = {
        "plain": lambda: plain(sent, KEYED),
        "tag": lambda: genuine(sent, (KEYED,))[:-1] + b"\x00",
        "prefix": lambda: genuine(sent, (KEYED,), vouched=("10.9.0.0/16",)),
    }[change]()

    found, counters = asker.hear(raw)

    assert found == []
    assert counters == [{"plain": "sec_missing", "tag": "sec_hmac", "prefix": "sec_prefix"}[change]]
    assert asker.machine.expects(request_in(sent).nonce) is (change != "prefix")


@pytest.mark.parametrize(
    ("record", "found"),
    [
        (KEYED, [Found(SITE, KEY, BARE)]),
        (BARE, [Found(SITE, None, BARE)]),  # the mapping has no key: there is none to wait for
        (MappingRecord.of(SITE, (KEY.to_locator(),)), [Found(SITE, KEY, MappingRecord.of(SITE))]),
        (MappingRecord.of(SITE), []),  # a hole says nothing about keys
    ],
)
def test_an_answer_says_something_about_a_key_when_there_is_a_mapping_or_a_key(
    record: MappingRecord, found: list[Found]
) -> None:
    asker = Asker()
    (sent,) = asker.ask()

    assert asker.hear(genuine(sent, (record,)))[0] == found


def test_a_key_that_is_taken_back_is_told_as_such() -> None:
    asker = Asker()
    (sent,) = asker.ask()
    record = MappingRecord.of(SITE, (Locator(ip("203.0.113.5")), KeyRecord(KEY.keys, is_revoked=True).to_locator()))

    found, _ = asker.hear(genuine(sent, (record,)))

    assert [one.keys and one.keys.is_revoked for one in found] == [True]


def test_no_answer_is_asked_for_three_times_and_then_not_for_a_minute() -> None:
    asker = Asker()
    sent = asker.ask()
    for _, effects in run_until(asker.machine, 30.0):
        sent += only(effects, SendControl)

    assert len(sent) == TRIES
    assert len({request_in(one).nonce for one in sent}) == TRIES
    assert asker.ask(AGAIN_S - 1.0) == []
    assert asker.ask(AGAIN_S + 30.0)


def test_a_key_is_looked_for_again_while_packets_go_there_and_rarely_where_there_is_none() -> None:
    asker = Asker()
    (sent,) = asker.ask()
    asker.hear(genuine(sent, (KEYED,)))
    assert asker.ask(AGAIN_S / 2) == []
    now, pauses = AGAIN_S + 1.0, []
    for _ in range(6):
        (again,) = asker.ask(now)
        asker.hear(genuine(again, (BARE,)), now)
        step = next(step for step in range(1, 2000) if asker.ask(now + step))
        asker.hear(genuine(asker.last, (BARE,)), now + step)
        pauses.append(step)
        now += step + 2 * REST_MAX_S

    assert pauses[0] >= 2 * AGAIN_S
    assert pauses[-1] == REST_MAX_S


def test_without_a_place_outside_or_lisp_sec_no_map_resolver_is_asked() -> None:
    asker, off = Asker(), Asker("off")
    asker.machine.on_outside(None, [RESOLVER])

    assert asker.ask() == []
    assert off.ask() == []


def test_who_floods_with_names_is_given_a_share_and_no_more_memory() -> None:
    asker = Asker()

    sent = [
        one for number in range(2000) for one in asker.ask(number / 1000, f"10.7.{number // 250}.{number % 250}/32")
    ]

    assert len(sent) <= 16 + 2 / 0.2
    assert len(asker.machine._questions) <= QUESTIONS_MAX


def flood(asker: Asker, now: float, number: int = 500) -> int:
    """Handshakes in the name of ever new EIDs; returns how many questions they cause."""
    names = (f"10.7.{each // 250}.{each % 250}/32" for each in range(number))
    return sum(len(asker.ask(now, name, is_strange=True)) for name in names)


def test_handshakes_of_strangers_take_no_question_from_packets() -> None:
    asker = Asker()

    assert flood(asker, 0.0) == 16
    assert len(asker.ask(0.0)) == 1
    assert flood(asker, 0.1) == 0
    assert len(asker.ask(0.1, "10.9.0.9/32")) == 1


def test_handshakes_of_strangers_push_out_no_question_that_packets_wait_for() -> None:
    asker = Asker()
    (sent,) = asker.ask()
    flood(asker, 0.0)
    assert len(asker.machine._questions) == 1 + STRANGE_MAX

    found, _ = asker.hear(genuine(sent, (KEYED,)))

    assert [one.prefix for one in found] == [SITE]


def test_a_stranger_that_packets_go_to_is_none_any_more() -> None:
    asker = Asker()
    flood(asker, 0.0, 16)
    assert asker.ask(0.0, is_strange=True) == []
    asker.ask(0.5)

    again = only(asker.machine.on_timer(1.1), SendControl)
    assert PEER in [request_in(sent).records[0].eid_prefix for sent in again]


def test_many_packets_elsewhere_push_out_strangers_first() -> None:
    asker = Asker()
    for number in range(QUESTIONS_MAX - 1):
        asker.ask(0.0, f"10.9.0.{number}/32")
    flood(asker, 0.0)
    asker.ask(0.0, "10.9.1.1/32")

    assert sum(not question.is_strange for question in asker.machine._questions.values()) == QUESTIONS_MAX


def test_another_place_outside_ends_what_was_asked_from_the_old_one() -> None:
    asker = Asker()
    (sent,) = asker.ask()

    asker.machine.on_outside(Outside(WIFI.address, 2, ip("198.51.100.98"), 40124, RESOLVER), [RESOLVER])

    assert not asker.machine.expects(request_in(sent).nonce)
    assert request_in(asker.ask(1.0)[0]).itr_rlocs == (ip("198.51.100.98"),)


def test_a_map_resolver_that_shows_lisp_sec_a_moment_later_is_asked_then() -> None:
    asker = Asker("prefer")
    asker.security.ways(RESOLVER, 0.0)  # another lookup tries the Map-Resolver with LISP-SEC at this moment
    assert asker.ask(0.1) == []

    asker.security._shown.add(asker.security._marks[RESOLVER])
    at = asker.machine.wake_at()
    assert at is not None
    sent = only(asker.machine.on_timer(at), SendControl)

    assert [EncapsulatedControl.decode(one.payload).authentication is not None for one in sent] == [True]


def test_a_map_resolver_that_never_shows_lisp_sec_is_let_be() -> None:
    asker = Asker("prefer")
    asker.security.ways(RESOLVER, 0.0)
    asker.ask(0.1)

    sent = [effect for _, effects in run_until(asker.machine, 20.0) for effect in only(effects, SendControl)]

    assert sent == []
    assert asker.machine.wake_at() is None


@pytest.mark.parametrize(
    ("heard", "reasons"),
    [(None, []), ((RESOLVER, -1.0), []), ((ip("198.51.100.7"), 0.5), []), ((RESOLVER, 0.5), [RefusalReason.SILENT])],
)
def test_an_answer_that_does_not_come_is_the_map_resolvers_fault_only_if_others_do_come(
    heard: tuple[IpAddress, float] | None, reasons: list[RefusalReason]
) -> None:
    """The NAT may have given our control port another place than the one that the question names."""
    asker = Asker()
    asker.ask()
    if heard is not None:
        asker.machine.on_server_heard(*heard)

    run_until(asker.machine, 60.0)

    assert [refusal.reason for refusal in asker.security.refused(60.0)] == reasons


def test_a_missing_answer_raises_a_doubt_about_the_place_that_the_question_names() -> None:
    asker = Asker()
    asker.ask()

    happened = [effect for _, effects in run_until(asker.machine, 60.0) for effect in effects]

    assert len(only(happened, WaysInDoubt)) == TRIES - 1

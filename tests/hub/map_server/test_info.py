"""Info-Requests at the Map-Server: which are answered, and with what."""

from __future__ import annotations

import dataclasses
from ipaddress import ip_address

import pytest
from msgspec.structs import replace

from lispmob.hub.map_server.effect import Arrival
from lispmob.hub.map_server.info import PROVED_BURST, REPEAT_BURST, InfoResponder
from lispmob.hub.map_server.site import SiteTable
from lispmob.protocol.effect import SendControl
from lispmob.wire.address import DistinguishedName
from lispmob.wire.auth import Key, sign, verify
from lispmob.wire.info import InfoReply, InfoRequest
from tests.hub.exchange import HUB, KEY, site

NODE, RTR, RTR6 = (ip_address(text) for text in ("203.0.113.200", "198.51.100.77", "2001:db8:51::77"))
ASKED = InfoRequest(7, ip_address("10.1.0.1"), 32)
HELLO = InfoRequest(7, None, 0, tail=DistinguishedName(b"laptop"))


def responder(*, answers_lispers: bool = False) -> InfoResponder:
    return InfoResponder(SiteTable([site("10.1.0.0/16")]), [RTR, RTR6], answers_lispers=answers_lispers)


def ask(one: InfoResponder, payload: bytes, now: float = 0.0) -> SendControl | None:
    effects = one.on_info_request(Arrival(payload, NODE, 20001, HUB), now)
    assert len(effects) <= 1
    return effects[0] if effects and isinstance(effects[0], SendControl) else None


def test_the_answer_says_what_was_seen_and_goes_back_there() -> None:
    sent = ask(responder(), sign(ASKED, KEY))

    assert sent is not None
    assert (sent.destination, sent.port, sent.source) == (NODE, 20001, HUB)
    verify(sent.payload, KEY)
    reply = InfoReply.decode(sent.payload)
    assert (reply.nonce, reply.eid, reply.mask_len) == (7, ASKED.eid, 32)
    assert (reply.nat.global_etr_rloc, reply.nat.etr_port, reply.nat.ms_rloc) == (NODE, 20001, HUB)


def test_only_rtrs_of_the_askers_family_are_named() -> None:
    sent = ask(responder(), sign(ASKED, KEY))

    assert sent is not None
    assert InfoReply.decode(sent.payload).nat.rtr_rlocs == (RTR,)


def test_a_digest_of_the_askers_length_comes_back() -> None:
    short = dataclasses.replace(KEY, is_truncated=True)

    sent = ask(responder(), sign(ASKED, short))

    assert sent is not None
    assert len(InfoReply.decode(sent.payload).authentication) == short.mac_octets


def test_what_is_not_proved_is_not_answered() -> None:
    one = responder()

    assert ask(one, sign(ASKED, Key(b"another"))) is None
    assert ask(one, sign(replace(ASKED, eid=ip_address("10.9.0.1")), KEY)) is None
    assert ask(one, HELLO.encode()) is None
    assert one.counters["rx_auth"] == 2
    assert one.counters["rx_policy"] == 1


def test_a_host_name_is_answered_where_that_is_configured() -> None:
    sent = ask(responder(answers_lispers=True), HELLO.encode())

    assert sent is not None
    assert InfoReply.decode(sent.payload).nat.global_etr_rloc == NODE


def test_a_flood_is_answered_in_part() -> None:
    one = responder()

    answers = [ask(one, sign(replace(ASKED, nonce=n), KEY)) for n in range(3 * PROVED_BURST)]

    assert sum(answer is not None for answer in answers) == PROVED_BURST
    assert one.counters["rx_rate"] == 2 * PROVED_BURST


@pytest.mark.parametrize("per_s", [3, 10, 1000])
def test_junk_with_a_nodes_address_costs_the_node_no_answer(per_s: int) -> None:
    one, junk = responder(), sign(ASKED, Key(b"another"))

    for second in range(10):
        for number in range(per_s):
            assert ask(one, junk, second + number / per_s) is None
        assert ask(one, sign(replace(ASKED, nonce=second), KEY), second + 0.999) is not None


def test_a_recorded_question_that_is_sent_on_and_on_uses_up_nothing_but_its_own_answers() -> None:
    one, recorded = responder(), sign(ASKED, KEY)

    answers = sum(ask(one, recorded, number / 1000) is not None for number in range(10_000))

    assert answers <= REPEAT_BURST + 10
    assert ask(one, sign(replace(ASKED, nonce=8), KEY), 10.0) is not None


def test_a_site_that_asks_on_and_on_leaves_the_answers_of_others() -> None:
    evil_key = Key(b"evil's", algorithm=KEY.algorithm)
    sites = SiteTable([site("10.1.0.0/16"), site("10.9.0.0/16", name="evil", key=evil_key)])
    one = InfoResponder(sites, [RTR])
    for number in range(5000):
        ask(one, sign(InfoRequest(number, ip_address("10.9.0.1"), 32), evil_key), number / 5000)

    assert ask(one, sign(ASKED, KEY), 1.0) is not None


def test_without_authentication_those_who_are_registered_have_answers_of_their_own() -> None:
    one = InfoResponder(SiteTable([]), [RTR], answers_lispers=True, is_registered=lambda address: address == NODE)
    for number in range(5000):
        source = ip_address(0x0B000000 + number)
        one.on_info_request(Arrival(HELLO.encode(), source, 4342, HUB), number / 5000)

    assert ask(one, HELLO.encode(), 1.0) is not None


def test_a_64_of_ipv6_is_one_asker() -> None:
    one = InfoResponder(SiteTable([]), [RTR6], answers_lispers=True)

    answered = sum(
        len(one.on_info_request(Arrival(HELLO.encode(), ip_address((0x20010DB8 << 96) + n), 4342, RTR6), 0.0))
        for n in range(500)
    )

    assert 38 <= answered <= 40


def test_a_long_question_is_not_read() -> None:
    one = responder()

    assert ask(one, sign(ASKED, KEY) + bytes(1000)) is None
    assert one.counters["rx_limit"] == 1

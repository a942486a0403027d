from __future__ import annotations

import dataclasses

import pytest
from msgspec.structs import replace

from lispmob.control.answering import Answerer, Asked
from lispmob.control.etr_security import ReplySigner
from lispmob.control.probing.path import VOLLEY
from lispmob.protocol.effect import Count, MachineEffect, SendControl
from lispmob.wire.address import IpAddress
from lispmob.wire.lisp_sec_auth import HMAC_SHA_256_128
from lispmob.wire.map_reply import MapReply
from lispmob.wire.map_request import EidRecord, MapRequest
from tests.control.support import EID, LTE, SERVER, WIFI, WIFI6, ip, locators, only, prefix

ITR = ip("203.0.113.5")
OWN = locators(WIFI, LTE)
REQUEST = MapRequest(77, ip("10.2.0.7"), (ITR,), (EidRecord.of(EID),))
FORWARDED = Asked(REQUEST, SERVER, 4342, WIFI.address, 2, is_encapsulated=True)
SIGNER = ReplySigner(bytes(16), bytes(4), HMAC_SHA_256_128)
PROBE = Asked(replace(REQUEST, source_eid=None, is_probe=True), ITR, 50000, LTE.address, 3)


def answerer() -> Answerer:
    return Answerer((EID,), 10)


def counted(effects: list[MachineEffect]) -> list[str]:
    return [effect.name for effect in only(effects, Count)]


def ask(asked: Asked, now: float = 0.0) -> list[MachineEffect]:
    return answerer().on_map_request(asked, OWN, now)


def test_a_forwarded_request_is_answered_to_the_itr_at_its_inner_port() -> None:
    (send,) = only(ask(replace(FORWARDED, source_port=50001)), SendControl)

    reply = MapReply.decode(send.payload)
    assert (send.destination, send.port, send.source) == (ITR, 50001, WIFI.address)
    assert reply.nonce == 77
    assert reply.records == (OWN.to_record(EID, 10),)
    assert reply.records[0].is_authoritative


def test_a_probe_is_answered_the_way_it_came() -> None:
    (send,) = only(ask(PROBE), SendControl)

    reply = MapReply.decode(send.payload)
    assert (send.destination, send.port, send.source, send.ifindex) == (ITR, 50000, LTE.address, 3)
    assert reply.is_probe
    assert [locator.ip for locator in reply.records[0].locators if locator.is_probed] == [LTE.address]


def test_a_probe_in_an_ecm_is_refused() -> None:
    assert counted(ask(replace(PROBE, is_encapsulated=True))) == ["rx_policy"]


def test_questions_about_others_are_not_ours_to_answer() -> None:
    other = replace(REQUEST, records=(EidRecord.of(prefix("10.1.0.2/32")),))

    assert counted(ask(replace(FORWARDED, request=other))) == ["rx_policy"]


def test_who_wants_no_reply_gets_none() -> None:
    assert ask(replace(FORWARDED, request=replace(REQUEST, dont_map_reply=True))) == []


@pytest.mark.parametrize(
    "itr",
    ["0.0.0.0", "127.0.0.1", "224.0.0.1", "255.255.255.255", "169.254.1.1", "198.51.100.10", "2001:db8::5", "10.9.9.9"],
)
def test_an_answer_is_not_sent_where_no_asker_can_be(itr: str) -> None:
    request = replace(REQUEST, itr_rlocs=(ip(itr),))

    assert counted(ask(replace(FORWARDED, request=request))) == ["rx_policy"]


def test_a_private_asker_is_answered_when_we_are_in_private_space_ourselves() -> None:
    own = locators(dataclasses.replace(WIFI, address=ip("192.168.1.10")))
    request = replace(REQUEST, itr_rlocs=(ip("192.168.1.20"),))

    effects = answerer().on_map_request(replace(FORWARDED, request=request), own, 0.0)

    assert only(effects, SendControl)[0].destination == ip("192.168.1.20")


def test_the_first_itr_rloc_of_a_family_we_have_is_used() -> None:
    request = replace(REQUEST, itr_rlocs=(None, ip("2001:db8::5"), ITR))

    assert only(ask(replace(FORWARDED, request=request)), SendControl)[0].destination == ITR
    six = answerer().on_map_request(replace(FORWARDED, request=request), locators(WIFI6), 0.0)
    assert only(six, SendControl)[0].destination == ip("2001:db8::5")


def test_one_rloc_cannot_be_flooded_through_us() -> None:
    machine = answerer()

    effects = [effect for tick in range(300) for effect in machine.on_map_request(FORWARDED, OWN, tick / 10)]

    assert len(only(effects, SendControl)) <= 3 + 10
    assert "rx_rate" in counted(effects)


def test_many_rlocs_cannot_be_flooded_through_us() -> None:
    machine = answerer()
    effects = []
    for number in range(5000):
        request = replace(REQUEST, itr_rlocs=(ip("203.0.0.0") + number,))
        effects += machine.on_map_request(replace(FORWARDED, request=request), OWN, number / 5000)

    assert len(only(effects, SendControl)) <= 101


def test_two_volleys_of_probes_on_every_pair_are_answered_whole() -> None:
    one = answerer()
    pairs = [replace(PROBE, arrived_at=own.address) for own in (WIFI, LTE)]

    effects = [
        effect
        for probe in range(2 * VOLLEY)
        for asked in pairs
        for effect in one.on_map_request(asked, OWN, now=probe * 0.07)
    ]

    assert len(only(effects, SendControl)) == 2 * 2 * VOLLEY


def test_a_prober_that_doubts_every_locator_at_once_gets_all_its_answers() -> None:
    machine = answerer()

    effects = [effect for number in range(5 * 7) for effect in machine.on_map_request(PROBE, OWN, number / 200)]

    assert len(only(effects, SendControl)) == 35


def test_probes_cannot_flood_through_us_either() -> None:
    machine = answerer()
    effects = []
    for number in range(5000):
        effects += machine.on_map_request(replace(PROBE, source=ip("203.0.0.0") + number), OWN, number / 5000)

    assert len(only(effects, SendControl)) <= 200 + 101
    assert "rx_rate" in counted(effects)


def probes_answered(machine: Answerer, source: str, count: int, *, is_known: bool, at: float = 0.0) -> int:
    """How many of so many probes within a second are answered."""
    asked = replace(PROBE, source=ip(source), is_known=is_known)
    return sum(bool(only(machine.on_map_request(asked, OWN, at + n / count), SendControl)) for n in range(count))


def test_what_strangers_probe_is_not_counted_against_a_peer() -> None:
    machine = answerer()
    for number in range(2000):
        machine.on_map_request(replace(PROBE, source=ip("66.0.0.0") + number), OWN, 1.0 + number / 2000)

    assert probes_answered(machine, str(ITR), 10, is_known=True, at=2.0) == 10


def test_what_strangers_ask_is_not_counted_against_the_mapping_system() -> None:
    machine = answerer()
    for number in range(1000):
        request = replace(REQUEST, itr_rlocs=(ip("66.0.0.0") + number,))
        machine.on_map_request(replace(FORWARDED, request=request), OWN, 1.0 + number / 1000)
    effects = machine.on_map_request(replace(FORWARDED, is_known=True), OWN, 2.0)

    assert only(effects, SendControl)


@pytest.mark.parametrize("asked", [replace(FORWARDED, is_known=True), replace(FORWARDED, signer=SIGNER, is_known=True)])
def test_strangers_who_name_a_peers_address_use_up_none_of_its_answers(asked: Asked) -> None:
    machine = answerer()
    for number in range(20):
        machine.on_map_request(FORWARDED, OWN, 1.0 + number / 20)

    assert only(machine.on_map_request(asked, OWN, 2.0), SendControl)


def test_forged_questions_in_a_peers_name_leave_the_peer_its_answers_with_lisp_sec() -> None:
    machine = answerer()
    for number in range(20):
        machine.on_map_request(replace(FORWARDED, is_known=True), OWN, 1.0 + number / 20)

    assert only(machine.on_map_request(replace(FORWARDED, signer=SIGNER, is_known=True), OWN, 2.0), SendControl)


def test_a_neighbour_in_its_ipv6_network_uses_up_none_of_what_a_peer_probes() -> None:
    machine, own = answerer(), locators(WIFI6)
    probe = replace(PROBE, arrived_at=WIFI6.address)
    for number in range(200):
        is_peer = number % 2 == 1
        neighbour = replace(probe, source=ip("2001:db8:66::bad") + number // 2, is_known=is_peer)
        machine.on_map_request(neighbour, own, 1.0 + number / 200)
    answers = machine.on_map_request(replace(probe, source=ip("2001:db8:66::1"), is_known=True), own, 2.0)

    assert only(answers, SendControl)


def test_a_whole_ipv6_network_is_answered_as_often_as_one_address() -> None:
    machine, own = answerer(), locators(WIFI6)
    answers = 0
    for number in range(100):
        request = replace(REQUEST, itr_rlocs=(ip("2001:db8:66::") + number,))
        answers += bool(only(machine.on_map_request(replace(FORWARDED, request=request), own, 1.0), SendControl))

    assert answers == 3


def test_an_inner_destination_that_a_stranger_writes_makes_no_new_limit() -> None:
    machine = answerer()
    answers = 0
    for number in range(300):
        asked = replace(PROBE, arrived_at=ip("198.18.0.0") + number)
        answers += bool(only(machine.on_map_request(asked, OWN, 1.0), SendControl))

    assert answers <= 40


def probed(machine: Answerer, source: IpAddress, nonce: int, now: float, *, is_known: bool) -> None:
    request = replace(PROBE.request, nonce=nonce)
    machine.on_map_request(replace(PROBE, request=request, source=source, is_known=is_known), OWN, now)


def test_strangers_who_probe_push_out_no_peer_that_is_to_hear_the_nonce_of_its_last_probe() -> None:
    machine = answerer()
    probed(machine, ITR, 7, 0.0, is_known=True)
    for number in range(3000):
        probed(machine, ip("66.0.0.0") + number, 1000 + number, 1.0 + number / 50, is_known=False)

    assert machine.probe_nonce_of(ITR) == 7
    assert machine.probe_nonce_of(ip("66.0.0.0")) is None
    assert machine.probe_nonce_of(ip("66.0.0.0") + 2999) == 3999


def test_of_peers_who_probe_the_last_256_are_remembered_by_their_last_probe() -> None:
    machine = answerer()
    for number in range(257):
        probed(machine, ip("198.18.0.0") + number, number, number / 10, is_known=True)
    probed(machine, ip("198.18.0.0") + 256, 5000, 30.0, is_known=True)

    assert machine.probe_nonce_of(ip("198.18.0.0")) is None
    assert machine.probe_nonce_of(ip("198.18.0.1")) == 1
    assert machine.probe_nonce_of(ip("198.18.1.0")) == 5000


@pytest.mark.parametrize("is_known", [True, False])
def test_a_node_that_becomes_or_ceases_to_be_a_peer_is_remembered_by_its_last_probe_alone(is_known: bool) -> None:
    machine = answerer()
    probed(machine, ITR, 7, 0.0, is_known=is_known)
    probed(machine, ITR, 8, 1.0, is_known=not is_known)

    assert machine.probe_nonce_of(ITR) == 8

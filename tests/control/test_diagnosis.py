"""Why a Map-Server is silent, found out by a question that needs no key."""

from __future__ import annotations

from ipaddress import ip_address, ip_network
from itertools import count

import pytest

from lispmob.control.diagnosis import ANSWER_S, ASK_AGAIN_S, Diagnosis, Finding
from lispmob.hub.dispatch import ControlPlane
from lispmob.hub.map_server.effect import Arrival
from lispmob.hub.map_server.site import Site
from lispmob.protocol.effect import SendControl
from lispmob.wire.address import EidPrefix, IpAddress
from lispmob.wire.auth import Algorithm, Key
from lispmob.wire.ecm import EncapsulatedControl
from lispmob.wire.map_reply import MapReply
from lispmob.wire.map_request import MapRequest
from lispmob.wire.record import Action, Locator, MappingRecord

EID = EidPrefix(ip_network("10.99.0.1/32"))
SITE = EidPrefix(ip_network("10.99.0.0/24"))
SERVER, OTHER = ip_address("198.51.100.1"), ip_address("198.51.100.2")
WIFI = ip_address("192.0.2.7")
KEY = Key(b"secret", 0, Algorithm.HMAC_SHA_256_128)


def asking(eid: EidPrefix = EID, server: IpAddress = SERVER) -> tuple[Diagnosis, SendControl]:
    """A diagnosis that has just asked, and its question."""
    diagnosis = Diagnosis(count(7).__next__)
    (question,) = diagnosis.on_unconfirmed(eid, server, WIFI, 3, now=0.0)
    return diagnosis, question


def nonce_of(question: SendControl) -> int:
    return MapRequest.decode(EncapsulatedControl.decode(question.payload).message).nonce


def reply(question: SendControl, *records: MappingRecord) -> bytes:
    return MapReply(nonce_of(question), records).encode()


def test_the_question_goes_to_the_map_server_from_where_the_map_register_left_and_asks_for_our_own_eid() -> None:
    _, question = asking()

    assert (question.destination, question.source, question.ifindex) == (SERVER, WIFI, 3)
    request = MapRequest.decode(EncapsulatedControl.decode(question.payload).message)
    assert request.records[0].eid_prefix == EID
    assert request.itr_rlocs == (WIFI,)


@pytest.mark.parametrize(
    ("eids", "finding"),
    [
        ((EID,), Finding.KNOWS_EID),
        ((SITE,), Finding.KNOWS_EID),
        ((EidPrefix(ip_network("10.7.0.0/16")),), Finding.NO_SITE),
    ],
)
def test_the_answer_of_a_hub_of_ours_tells_an_unknown_eid_from_another_key(
    eids: tuple[EidPrefix, ...], finding: Finding
) -> None:
    hub = ControlPlane([Site("a", eids, (KEY,))])
    diagnosis, question = asking()

    (answer,) = hub.on_datagram(Arrival(question.payload, WIFI, 4342, SERVER), 0.0)
    assert isinstance(answer, SendControl)

    assert diagnosis.on_datagram(answer.payload)
    assert diagnosis.finding(EID, SERVER) is finding


def test_behind_a_nat_the_hub_answers_to_where_the_question_came_from() -> None:
    hub = ControlPlane([Site("a", (EID,), (KEY,))])
    diagnosis = Diagnosis(count(7).__next__)
    (question,) = diagnosis.on_unconfirmed(EID, SERVER, ip_address("192.168.1.5"), 3, now=0.0)

    (answer,) = hub.on_datagram(Arrival(question.payload, ip_address("203.0.113.9"), 31007, SERVER), 0.0)

    assert isinstance(answer, SendControl)
    assert (answer.destination, answer.port) == (ip_address("203.0.113.9"), 31007)
    assert diagnosis.on_datagram(answer.payload)


def test_a_registration_of_another_node_shows_that_the_site_exists() -> None:
    diagnosis, question = asking()

    diagnosis.on_datagram(
        reply(question, MappingRecord.of(EID, (Locator(ip_address("203.0.113.9"), 1, 100),), ttl_min=10))
    )

    assert diagnosis.finding(EID, SERVER) is Finding.KNOWS_EID


def test_a_negative_answer_about_something_else_is_no_word_about_our_eid() -> None:
    diagnosis, question = asking()
    elsewhere = EidPrefix(ip_network("172.16.0.0/12"))

    diagnosis.on_datagram(reply(question, MappingRecord.of(elsewhere, ttl_min=15, action=Action.NATIVELY_FORWARD)))

    assert diagnosis.finding(EID, SERVER) is Finding.KNOWS_EID


def test_an_answer_that_cannot_be_read_still_proves_that_the_server_is_there() -> None:
    diagnosis, question = asking()

    assert diagnosis.on_datagram(reply(question)[:12] + b"\x01")
    assert diagnosis.finding(EID, SERVER) is Finding.KNOWS_EID


def test_a_map_server_that_has_us_answer_for_ourselves_knows_the_eid() -> None:
    diagnosis, question = asking()

    assert diagnosis.on_map_request(question.payload)
    assert diagnosis.finding(EID, SERVER) is Finding.KNOWS_EID


def test_other_peoples_messages_are_left_alone() -> None:
    diagnosis, question = asking()
    stranger = MapReply(nonce_of(question) + 1, ()).encode()

    assert not diagnosis.on_datagram(stranger)
    assert not diagnosis.on_datagram(b"\x20")
    assert not diagnosis.on_map_request(b"\x80\0\0\0" * 5)
    assert diagnosis.finding(EID, SERVER) is None


def test_silence_is_concluded_after_two_questions() -> None:
    diagnosis, _ = asking()

    assert len(diagnosis.on_timer(ANSWER_S)) == 1
    assert diagnosis.finding(EID, SERVER) is None
    assert diagnosis.on_timer(2 * ANSWER_S) == []
    assert diagnosis.finding(EID, SERVER) is Finding.SILENT
    assert diagnosis.wake_at() is None


@pytest.mark.parametrize(
    "finding", [Finding.PORT_CLOSED, Finding.UNREACHABLE, Finding.PROHIBITED, Finding.REFUSED_HERE]
)
def test_what_icmp_and_the_kernel_say_ends_the_question(finding: Finding) -> None:
    diagnosis, _ = asking()

    diagnosis.on_unreachable(OTHER, Finding.UNREACHABLE, 0.5)
    assert diagnosis.finding(EID, SERVER) is None
    diagnosis.on_unreachable(SERVER, finding, 0.5)

    assert diagnosis.finding(EID, SERVER) is finding
    assert diagnosis.wake_at() is None


def test_it_asks_again_only_after_a_while_and_forgets_when_the_registration_stands() -> None:
    diagnosis, _ = asking()
    diagnosis.on_unreachable(SERVER, Finding.PORT_CLOSED, 0.5)

    assert diagnosis.on_unconfirmed(EID, SERVER, WIFI, 3, ASK_AGAIN_S - 0.1) == []
    assert len(diagnosis.on_unconfirmed(EID, SERVER, WIFI, 3, ASK_AGAIN_S)) == 1
    assert diagnosis.finding(EID, SERVER) is Finding.PORT_CLOSED, "the old finding counts until there is a new one"

    diagnosis.on_confirmed(EID, SERVER)
    assert diagnosis.finding(EID, SERVER) is None
    assert diagnosis.wake_at() is None


def test_each_eid_has_a_question_of_its_own() -> None:
    diagnosis, first = asking()
    other = EidPrefix(ip_network("2001:db8:99::1/128"))
    (second,) = diagnosis.on_unconfirmed(other, SERVER, WIFI, 3, 0.0)

    hole = MappingRecord.of(EidPrefix(ip_network("::/0")), ttl_min=15, action=Action.NATIVELY_FORWARD)
    diagnosis.on_datagram(reply(second, hole))

    assert nonce_of(first) != nonce_of(second)
    assert diagnosis.finding(other, SERVER) is Finding.NO_SITE
    assert diagnosis.finding(EID, SERVER) is None


def test_a_router_that_looked_for_the_host_first_is_heard_late_and_silence_does_not_take_its_word_back() -> None:
    diagnosis, _ = asking()
    diagnosis.on_timer(ANSWER_S)
    diagnosis.on_timer(2 * ANSWER_S)
    assert diagnosis.finding(EID, SERVER) is Finding.SILENT

    diagnosis.on_unreachable(SERVER, Finding.UNREACHABLE, 3.0)
    assert diagnosis.finding(EID, SERVER) is Finding.UNREACHABLE
    diagnosis.on_unconfirmed(EID, SERVER, WIFI, 3, 15.0)
    diagnosis.on_timer(16.0)
    diagnosis.on_timer(17.0)
    assert diagnosis.finding(EID, SERVER) is Finding.UNREACHABLE

    diagnosis.on_unconfirmed(EID, SERVER, WIFI, 3, 75.0)
    diagnosis.on_timer(76.0)
    diagnosis.on_timer(77.0)
    assert diagnosis.finding(EID, SERVER) is Finding.SILENT


def test_at_most_64_questions_are_open_and_one_that_ends_makes_room() -> None:
    diagnosis = Diagnosis(count(7).__next__)
    eids = [EidPrefix.host(EID.address + number) for number in range(70)]
    asked = [len(diagnosis.on_unconfirmed(eid, SERVER, WIFI, 3, now=0.0)) for eid in eids]
    diagnosis.on_confirmed(eids[0], SERVER)

    assert asked == [1] * 64 + [0] * 6
    assert len(diagnosis.on_unconfirmed(eids[69], SERVER, WIFI, 3, now=0.0)) == 1
    assert diagnosis.on_unconfirmed(eids[68], SERVER, WIFI, 3, now=0.0) == []

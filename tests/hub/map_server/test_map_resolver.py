"""Map-Requests at the hub: answered for the ETR, forwarded, answered negatively, refused."""

from __future__ import annotations

from ipaddress import ip_address

import pytest
from msgspec.structs import replace

from lispmob.hub.dispatch import ControlPlane
from lispmob.hub.map_server.effect import Arrival
from lispmob.hub.map_server.map_resolver import RemoteMapServer
from lispmob.hub.map_server.site import ProxyReply
from lispmob.protocol.effect import SendControl
from lispmob.wire.auth import sign
from lispmob.wire.ecm import EncapsulatedControl
from lispmob.wire.map_register import MapRegister
from lispmob.wire.map_request import EidRecord, MapRequest
from lispmob.wire.record import Action, Locator, MappingRecord
from tests.hub.exchange import HUB, ask, eid, plane, reply_in, rlocs_of, sent, site, xtr


def test_a_proxied_eid_is_answered_like_one_of_another_node() -> None:
    hub = plane(site("10.1.0.0/16"))
    hub.on_datagram(xtr("203.0.113.5").register("10.1.0.1/32"), now=0.0)

    effects = hub.on_datagram(ask("10.1.0.1/32", nonce=99), now=1.0)

    (record,) = reply_in(effects).records
    assert (reply_in(effects).nonce, record.eid_prefix, rlocs_of(record)) == (99, eid("10.1.0.1/32"), ["203.0.113.5"])
    assert not record.is_authoritative
    assert not record.locators[0].is_local
    assert (sent(effects)[0].port, sent(effects)[0].source) == (50000, HUB)  # the inner port; the asked address


@pytest.mark.parametrize(
    ("policy", "wants_proxy", "is_answered"),
    [
        (ProxyReply.AS_REGISTERED, True, True),
        (ProxyReply.AS_REGISTERED, False, False),
        (ProxyReply.ALWAYS, False, True),
        (ProxyReply.NEVER, True, False),
    ],
)
def test_the_site_decides_who_answers(policy: ProxyReply, wants_proxy: bool, is_answered: bool) -> None:
    hub = plane(site("10.1.0.0/16", proxy_reply=policy))
    hub.on_datagram(xtr("203.0.113.5").register("10.1.0.1/32", proxy_map_reply=wants_proxy), now=0.0)
    question = ask("10.1.0.1/32")

    (out,) = sent(hub.on_datagram(question, now=1.0))

    if is_answered:
        assert str(out.destination) == "203.0.113.7"
    else:
        assert (str(out.destination), out.port, out.payload) == ("203.0.113.5", 4342, question.payload)


def test_the_etr_is_asked_at_its_best_locator() -> None:
    hub = ControlPlane([site("10.1.0.0/16")], families={4})
    node = xtr("203.0.113.5")
    hub.on_datagram(node.register("10.1.0.1/32", rlocs=["2001:db8::5", "192.0.2.5"], proxy_map_reply=False), now=0.0)

    (out,) = sent(hub.on_datagram(ask("10.1.0.1/32"), now=1.0))

    assert str(out.destination) == "192.0.2.5"  # the only one of a family that we have


@pytest.mark.parametrize(
    ("asked", "hole", "ttl_min"),
    [
        ("198.51.100.7/32", "196.0.0.0/6", 15),
        ("10.0.3.2/32", "0.0.0.0/1", 15),
        ("192.0.2.77/32", "192.0.2.77/32", 1),
        ("2001:db8:ffff::7/128", "2001:db8:8000::/33", 15),
        ("[5]10.0.0.1/32", "[5]0.0.0.0/0", 15),
    ],
)
def test_a_hole_is_as_wide_as_it_is_true(asked: str, hole: str, ttl_min: int) -> None:
    hub = plane(site("192.0.2.0/24", "2001:db8:e1d::/48"))

    (record,) = reply_in(hub.on_datagram(ask(asked), now=0.0)).records

    assert (str(record.eid_prefix), record.ttl_min) == (hole, ttl_min)
    assert (record.action, record.locators) == (Action.NATIVELY_FORWARD, ())


def test_a_silent_site_is_one_hole_without_the_sites_inside_it() -> None:
    outer, inner = site("10.0.0.0/8", more_specifics=False), site("10.1.0.0/16", name="inner")
    hub = plane(outer, inner)

    (record,) = reply_in(hub.on_datagram(ask("10.128.0.1/32"), now=0.0)).records

    assert (str(record.eid_prefix), record.ttl_min) == ("10.128.0.0/9", 1)


def test_a_registered_outer_site_does_not_answer_for_a_silent_one_inside_it() -> None:
    hub = plane(site("10.0.0.0/8"), site("10.1.0.0/16", name="inner"))
    hub.on_datagram(xtr("203.0.113.5").register("10.0.0.0/8"), now=0.0)

    (record,) = reply_in(hub.on_datagram(ask("10.1.2.3/32"), now=0.0)).records

    assert record.locators == ()


def test_a_wide_mapping_comes_with_the_more_specific_ones_and_one_ttl() -> None:
    hub = plane(site("10.0.0.0/8"))
    hub.on_datagram(xtr("203.0.113.5").register("10.0.0.0/8", ttl_min=1440), now=0.0)
    hub.on_datagram(xtr("203.0.113.6").register("10.1.0.0/16", ttl_min=5), now=0.0)
    hub.on_datagram(xtr("203.0.113.9").register("10.2.0.0/16", proxy_map_reply=False), now=0.0)

    records = reply_in(hub.on_datagram(ask("10.9.9.9/32"), now=0.0)).records

    assert [str(record.eid_prefix) for record in records] == ["10.0.0.0/8", "10.1.0.0/16", "10.2.0.0/16"]
    assert [record.action for record in records if not record.locators] == [Action.SEND_MAP_REQUEST]
    assert {record.ttl_min for record in records} == {5}


def test_an_eid_that_is_registered_nowhere_at_the_moment_is_a_short_negative_answer() -> None:
    hub = plane(site("10.0.0.0/8"))
    hub.on_datagram(xtr("203.0.113.5").register("10.0.0.0/8", rlocs=[]), now=0.0)
    hub.on_datagram(xtr("203.0.113.9").register("10.2.0.0/16", proxy_map_reply=False), now=0.0)

    records = reply_in(hub.on_datagram(ask("10.9.9.9/32"), now=0.0)).records

    assert [(record.action, record.ttl_min, record.locators) for record in records] == [
        (Action.NATIVELY_FORWARD, 1, ()),
        (Action.SEND_MAP_REQUEST, 1, ()),
    ]


def test_a_wide_mapping_with_many_more_specific_ones_is_narrowed_instead() -> None:
    hub = plane(site("10.0.0.0/8"))
    hub.on_datagram(xtr("203.0.113.5").register("10.0.0.0/8"), now=0.0)
    for number in range(64):
        hub.on_datagram(xtr("203.0.113.6").register(f"10.0.0.{number}/32"), now=0.0)

    (record,) = reply_in(hub.on_datagram(ask("10.128.0.1/32"), now=0.0)).records

    assert (str(record.eid_prefix), rlocs_of(record)) == ("10.128.0.0/9", ["203.0.113.5"])


@pytest.mark.parametrize(("inside", "records"), [(7, 8), (8, 9), (9, 1), (20, 1)])
@pytest.mark.parametrize("are_registered", [True, False])
def test_a_wide_mapping_comes_with_at_most_eight_others_whether_they_are_registered_or_not(
    inside: int, records: int, are_registered: bool
) -> None:
    names = [f"10.{number}.0.0/16" for number in range(inside)]
    hub = plane(site("10.0.0.0/8"), *(site(name, name=name) for name in names))
    hub.on_datagram(xtr("203.0.113.5").register("10.0.0.0/8"), now=0.0)
    for name in names if are_registered else ():
        hub.on_datagram(xtr("203.0.113.6").register(name), now=0.0)

    found = reply_in(hub.on_datagram(ask("10.128.0.1/32"), now=0.0)).records

    assert len(found) == records
    assert rlocs_of(found[0]) == ["203.0.113.5"]
    assert str(found[0].eid_prefix) == ("10.0.0.0/8" if records > 1 else "10.128.0.0/9")


@pytest.mark.parametrize(("places", "records"), [(12, 3), (13, 1)])
def test_a_wide_mapping_comes_with_others_that_have_24_locators_in_all(places: int, records: int) -> None:
    hub, rlocs = plane(site("10.0.0.0/8")), [f"203.0.113.{number}" for number in range(1, places + 1)]
    hub.on_datagram(xtr("203.0.113.5").register("10.0.0.0/8"), now=0.0)
    for name in ("10.1.0.0/16", "10.2.0.0/16"):
        hub.on_datagram(xtr("203.0.113.6").register(name, rlocs=rlocs), now=0.0)

    found = reply_in(hub.on_datagram(ask("10.128.0.1/32"), now=0.0)).records

    assert (len(found), rlocs_of(found[0])) == (records, ["203.0.113.5"])


def test_requests_for_other_map_servers_go_on_marked_and_never_circle() -> None:
    elsewhere = RemoteMapServer(ip_address("203.0.113.99"), (eid("10.2.0.0/16"),))
    hub = ControlPlane([site("10.1.0.0/16")], [elsewhere])
    question = ask("10.2.0.1/32")

    (out,) = sent(hub.on_datagram(question, now=0.0))
    came_back = hub.on_datagram(replace(question, payload=out.payload), now=0.0)

    assert (str(out.destination), out.port) == ("203.0.113.99", 4342)
    assert replace(EncapsulatedControl.decode(out.payload), to_map_server=False).encode() == question.payload
    assert came_back == []


def test_the_answer_goes_to_the_first_itr_rloc_that_can_be_reached() -> None:
    hub = ControlPlane([site("10.1.0.0/16")], families={4})

    (out,) = sent(hub.on_datagram(ask("10.9.0.1/32", rlocs=["2001:db8::9", "0.0.0.0", "203.0.113.8"]), now=0.0))

    assert str(out.destination) == "203.0.113.8"


@pytest.mark.parametrize("rloc", ["224.0.0.1", "255.255.255.255", "127.0.0.1", "169.254.0.9", str(HUB), "fe80::1"])
def test_an_answer_is_never_sent_where_it_could_do_harm(rloc: str) -> None:
    hub = plane(site("10.1.0.0/16"))

    assert hub.on_datagram(ask("10.9.0.1/32", rlocs=[rloc]), now=0.0) == []
    assert hub.counters["rx_policy"] == 1


@pytest.mark.parametrize("rloc", ["192.168.0.5", "10.0.0.1", "100.64.0.7", "192.0.0.1"])
def test_a_stranger_cannot_have_us_write_into_a_private_network(rloc: str) -> None:
    hub = plane(site("10.1.0.0/16"))

    (answer,) = hub.on_datagram(ask("10.9.0.1/32", rlocs=[rloc], source="8.8.8.8"), now=0.0)

    assert isinstance(answer, SendControl)
    assert answer.destination == ip_address("8.8.8.8")  # the source of the request, as through a NAT


def test_who_names_a_private_and_a_public_address_is_answered_at_the_public_one_alone() -> None:
    hub = plane(site("10.1.0.0/16"))

    (answer,) = hub.on_datagram(ask("10.9.0.1/32", rlocs=["192.168.0.5", "9.9.9.9"], source="8.8.8.8"), now=0.0)

    assert isinstance(answer, SendControl)
    assert answer.destination == ip_address("9.9.9.9")


def test_inside_one_private_network_the_answer_goes_to_the_address_that_was_named() -> None:
    hub = plane(site("10.1.0.0/16"))

    (answer,) = hub.on_datagram(ask("10.9.0.1/32", rlocs=["192.168.0.5"], source="192.168.0.6"), now=0.0)

    assert isinstance(answer, SendControl)
    assert answer.destination == ip_address("192.168.0.5")


@pytest.mark.parametrize("flags", [{"is_smr": True}, {"dont_map_reply": True}])
def test_smrs_and_what_wants_no_reply_get_none(flags: dict[str, object]) -> None:
    assert plane(site("10.1.0.0/16")).on_datagram(ask("10.1.0.1/32", **flags), now=0.0) == []  # type: ignore[arg-type]


def test_plain_map_requests_and_probes_are_dropped() -> None:
    hub = plane(site("10.1.0.0/16"))
    records = (EidRecord.of(eid("10.1.0.1/32")),)
    rlocs = (ip_address("203.0.113.7"),)

    plain = MapRequest(0, None, rlocs, records)
    for request in (plain, replace(plain, is_probe=True), replace(plain, is_smr=True)):
        assert hub.on_datagram(Arrival(request.encode(), rlocs[0], 4342, HUB), now=0.0) == []

    assert (hub.counters["rx_policy"], hub.counters["rx_smr"]) == (2, 1)


def test_several_eids_in_one_question_are_answered_together() -> None:
    hub = plane(site("10.1.0.0/16"))
    hub.on_datagram(xtr("203.0.113.5").register("10.1.0.1/32"), now=0.0)
    records = tuple(EidRecord.of(eid(text)) for text in ("10.1.0.1/32", "10.1.0.2/32"))
    request = MapRequest(7, None, (ip_address("203.0.113.7"),), records)
    ecm = EncapsulatedControl(ip_address("192.0.2.1"), 50000, ip_address("10.1.0.1"), 4342, request.encode())

    reply = reply_in(hub.on_datagram(Arrival(ecm.encode(), ip_address("203.0.113.7"), 4342, HUB), now=0.0))

    assert [str(record.eid_prefix) for record in reply.records] == ["10.1.0.1/32", "10.1.0.2/32"]


def test_one_flooding_source_does_not_starve_another() -> None:
    hub = plane(site("10.1.0.0/16"))

    answered = sum(bool(hub.on_datagram(ask("10.9.0.1/32"), now=0.0)) for _ in range(500))

    assert answered == 100
    assert hub.counters["rx_rate"] == 400
    assert hub.on_datagram(ask("10.9.0.1/32", itr="203.0.113.8"), now=0.0) != []


def test_what_we_sent_to_an_etr_that_is_ourselves_goes_round_no_more() -> None:
    hub = plane(site("10.1.0.0/16"))
    hub.on_datagram(xtr("203.0.113.5").register("10.1.0.1/32", rlocs=[str(HUB)], proxy_map_reply=False), now=0.0)

    (out,) = sent(hub.on_datagram(ask("10.1.0.1/32"), now=0.0))

    assert hub.on_datagram(Arrival(out.payload, HUB, 4342, HUB), now=0.0) == []


def test_a_flood_from_forged_addresses_costs_those_who_are_registered_no_answer() -> None:
    hub = plane(site("10.1.0.0/16"))
    hub.on_datagram(xtr("203.0.113.5").register("10.1.0.1/32"), now=0.0)
    answered = 0

    for second in range(5):
        for number in range(6000):
            hub.on_datagram(
                ask("10.9.0.1/32", itr=str(ip_address(0x0B000000 + second * 6000 + number))), second + number / 6000
            )
        answered += len(hub.on_datagram(ask("10.9.0.1/32", itr="203.0.113.5"), second + 0.9999))

    assert answered == 5


@pytest.mark.parametrize("per_s", [400, 900])
def test_a_flood_with_the_address_of_a_registered_node_costs_that_node_no_answer(per_s: int) -> None:
    hub = plane(site("10.1.0.0/16"))
    hub.on_datagram(xtr("203.0.113.5").register("10.1.0.1/32"), now=0.0)
    answered = 0

    for second in range(10):
        for number in range(per_s):
            hub.on_datagram(ask("10.9.0.1/32", itr="203.0.113.5", nonce=99), second + number / per_s)
        answered += len(hub.on_datagram(ask("10.9.0.1/32", itr="203.0.113.5"), second + 0.9999))

    assert answered == 10


def test_a_64_of_ipv6_has_the_answers_of_one_asker() -> None:
    hub = plane(site("10.1.0.0/16"))

    answered = sum(
        len(hub.on_datagram(ask("10.9.0.1/32", itr=str(ip_address((0x20010DB8 << 96) + number))), now=0.0))
        for number in range(500)
    )

    assert answered == 100


def test_the_hub_is_no_mirror_towards_one_who_did_not_ask() -> None:
    hub, octets = plane(site("10.1.0.0/16")), 0

    for number in range(20_000):
        asker = str(ip_address(0x0B000000 + number % 5000))
        octets += sum(
            len(effect.payload)
            for effect in sent(hub.on_datagram(ask("10.9.0.1/32", itr="192.0.2.9", source=asker), number / 2000))
        )

    assert octets <= (20 + 10 * 5 + 1) * 60


@pytest.mark.parametrize("is_registered", [True, False])
def test_large_answers_to_small_questions_have_an_end(is_registered: bool) -> None:
    hub, victim = plane(site("10.1.0.0/16")), "192.0.2.9"
    many = [f"203.0.113.{number}" for number in range(1, 33)]
    for number in range(8):
        hub.on_datagram(xtr("203.0.113.5").register(f"10.1.0.{number}/32", rlocs=many), now=0.0)
    hub.on_datagram(xtr("203.0.113.5").register("10.1.0.0/24", rlocs=many), now=0.0)
    if is_registered:
        hub.on_datagram(xtr(victim).register("10.1.1.1/32"), now=0.0)

    asked = answered = 0
    for number in range(5000):
        question = ask("10.1.0.0/32", itr=victim)
        asked += len(question.payload)
        answered += sum(len(effect.payload) for effect in sent(hub.on_datagram(question, number / 500)))

    assert answered - asked <= 60_000 + 10 * 10_000 + 4000


def with_large_answers() -> ControlPlane:
    hub, many = plane(site("10.1.0.0/16")), [f"203.0.113.{number}" for number in range(1, 33)]
    for number in range(4):
        hub.on_datagram(xtr("203.0.113.5").register(f"10.1.0.{number}/32", rlocs=many), now=0.0)
    return hub


def short_question(itr: str, source: str) -> Arrival:
    """Its answer is ten times as long."""
    eids = tuple(EidRecord.of(eid(f"10.1.0.{number}/32")) for number in range(4))
    request = MapRequest(7, None, (ip_address(itr),), eids)
    inner = ip_address("192.0.2.200"), 50000, ip_address("10.1.0.0"), 4342
    ecm = EncapsulatedControl(*inner, request.encode())
    return Arrival(ecm.encode(), ip_address(source), 50001, HUB)


@pytest.mark.parametrize("node", ["192.0.2.9", "2001:db8:50::9"])
def test_who_names_the_address_of_another_uses_up_nothing_of_what_that_one_asks(node: str) -> None:
    hub, stranger = with_large_answers(), "203.0.113.66" if "." in node else "2001:db8:66::1"
    hub.on_datagram(xtr(node).register("10.1.1.1/32"), now=0.0)
    for number in range(1000):
        hub.on_datagram(short_question(node, stranger), number / 500)

    assert len(sent(hub.on_datagram(short_question(node, node), 2.0))) == 1


def test_a_neighbour_in_its_ipv6_network_uses_up_no_answers_of_a_registered_node() -> None:
    hub, node, neighbour = with_large_answers(), "2001:db8:50::9", "2001:db8:50::bad"
    hub.on_datagram(xtr(node).register("10.1.1.1/32"), now=0.0)
    for number in range(1000):
        hub.on_datagram(short_question(neighbour, neighbour), number / 500)

    assert len(sent(hub.on_datagram(short_question(node, node), 2.0))) == 1


def test_questions_passed_on_to_one_etr_have_an_end_and_strangers_leave_some_to_others() -> None:
    hub = plane(site("10.1.0.0/16"))
    hub.on_datagram(xtr("203.0.113.5").register("10.1.0.1/32", proxy_map_reply=False), now=0.0)
    hub.on_datagram(xtr("203.0.113.6").register("10.1.0.2/32"), now=0.0)

    passed_on = sum(
        len(hub.on_datagram(ask("10.1.0.1/32", itr=str(ip_address(0x0B000000 + number))), number / 1000))
        for number in range(2000)
    )

    assert passed_on <= 200 + 2 * 100 + 1
    assert len(hub.on_datagram(ask("10.1.0.1/32", itr="203.0.113.6"), 2.0)) == 1


def test_the_answer_goes_whence_it_was_asked_when_that_is_an_itr_rloc() -> None:
    hub = plane(site("10.1.0.0/16"))

    (out,) = sent(hub.on_datagram(ask("10.9.0.1/32", rlocs=["203.0.113.8", "203.0.113.7"], source="203.0.113.7"), 0.0))

    assert str(out.destination) == "203.0.113.7"


def test_a_question_too_long_for_one_is_not_read() -> None:
    hub, question = plane(site("10.1.0.0/16")), ask("10.1.0.1/32")

    assert hub.on_datagram(replace(question, payload=question.payload + bytes(2000)), 0.0) == []
    assert hub.counters["rx_limit"] == 1


def without_inner_checksum(asked: Arrival) -> Arrival:
    """The request as lispers.net sends it."""
    ecm = replace(EncapsulatedControl.decode(asked.payload), has_checksum=False)
    return replace(asked, payload=ecm.encode())


def test_a_question_without_an_inner_checksum_is_answered_and_counted() -> None:
    hub = plane(site("10.1.0.0/16"))
    hub.on_datagram(xtr("203.0.113.5").register("10.1.0.1/32"), now=0.0)

    effects = hub.on_datagram(without_inner_checksum(ask("10.1.0.1/32", nonce=99)), now=1.0)

    assert reply_in(effects).nonce == 99
    assert hub.counters["rx_ecm_unsummed"] == 1
    assert hub.counters["rx_ecm"] == 0


def test_a_question_is_passed_on_to_an_etr_with_its_inner_checksum_filled_in() -> None:
    hub = plane(site("10.1.0.0/16"))
    hub.on_datagram(xtr("203.0.113.5").register("10.1.0.1/32", proxy_map_reply=False), now=0.0)
    question = ask("10.1.0.1/32")

    (out,) = sent(hub.on_datagram(without_inner_checksum(question), now=1.0))

    assert out.payload == question.payload


def test_a_question_with_a_wrong_inner_checksum_is_refused() -> None:
    hub = plane(site("10.1.0.0/16"))
    hub.on_datagram(xtr("203.0.113.5").register("10.1.0.1/32"), now=0.0)
    question = ask("10.1.0.1/32")
    payload = bytearray(question.payload)
    payload[4 + 20 + 6] ^= 1

    assert hub.on_datagram(replace(question, payload=bytes(payload)), now=1.0) == []
    assert (hub.counters["rx_ecm"], hub.counters["rx_ecm_unsummed"]) == (1, 0)


def behind_rtr(hub: ControlPlane, rtr: str, *more: Locator, **flags: object) -> None:
    """A node behind a NAT registers: its RTR, and its private address, which only the RTR can use."""
    node = xtr("203.0.113.200")
    locators = (Locator(ip_address(rtr)), Locator(ip_address("192.168.1.2"), is_reachable=False), *more)
    record = MappingRecord.of(eid("10.1.0.1/32"), locators, ttl_min=10, is_authoritative=True)
    message = MapRegister(1, (record,), want_map_notify=True, **flags)  # type: ignore[arg-type]
    hub.on_datagram(Arrival(sign(message, node.key), node.address, 4342, HUB), now=0.0)


@pytest.mark.parametrize("proxied", [True, False])
def test_an_rtr_is_not_told_of_a_node_that_registered_through_it(proxied: bool) -> None:
    hub = plane(site("10.1.0.0/16"))
    behind_rtr(hub, "203.0.113.77", proxy_map_reply=proxied)

    assert sent(hub.on_datagram(ask("10.1.0.1/32", itr="203.0.113.77"), now=1.0)) == []
    assert hub.counters["rx_rtr_asks"] == 1


def test_another_rtr_is_told_of_it() -> None:
    hub = plane(site("10.1.0.0/16"))
    behind_rtr(hub, "203.0.113.77", proxy_map_reply=True)

    (record,) = reply_in(hub.on_datagram(ask("10.1.0.1/32", itr="203.0.113.78"), now=1.0)).records

    assert "203.0.113.77" in rlocs_of(record)


def test_an_etr_in_the_open_is_told_of_its_own_mapping() -> None:
    hub = plane(site("10.1.0.0/16"))
    hub.on_datagram(xtr("203.0.113.5").register("10.1.0.1/32"), now=0.0)

    (record,) = reply_in(hub.on_datagram(ask("10.1.0.1/32", itr="203.0.113.5"), now=1.0)).records

    assert rlocs_of(record) == ["203.0.113.5"]


def test_a_node_with_one_more_uplink_in_the_open_changes_nothing_for_its_rtr() -> None:
    hub = plane(site("10.1.0.0/16"))
    behind_rtr(hub, "203.0.113.77", Locator(ip_address("198.51.100.9")), proxy_map_reply=True)

    assert sent(hub.on_datagram(ask("10.1.0.1/32", itr="203.0.113.77"), now=1.0)) == []


@pytest.mark.parametrize("is_summed", [True, False])
def test_a_question_for_another_map_server_goes_on_marked_whether_it_is_changed_or_not(is_summed: bool) -> None:
    hub = ControlPlane([site("10.1.0.0/16")], [RemoteMapServer(ip_address("198.51.100.9"), (eid("10.7.0.0/16"),))])
    question = ask("10.7.0.1/32")

    (out,) = sent(hub.on_datagram(question if is_summed else without_inner_checksum(question), now=1.0))

    assert EncapsulatedControl.decode(out.payload).to_map_server

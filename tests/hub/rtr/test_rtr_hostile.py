"""Forged and copied messages to an RTR move no node, keep none out, and cause no flood of questions."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import ip_address
from itertools import count

import pytest
from msgspec.structs import replace

from lispmob.hub.dispatch import ControlPlane
from lispmob.hub.map_server.effect import Arrival
from lispmob.hub.rtr.rtr import MapServerLink
from lispmob.hub.rtr.rtr_effect import InData, InstallRelay, SendFromRelayPort, UnregisteredData
from lispmob.hub.rtr.traversal import TraversalPolicy
from lispmob.protocol.effect import SendControl
from lispmob.wire.address import DistinguishedName, EidPrefix, IpAddress
from lispmob.wire.auth import Algorithm, Key, sign
from lispmob.wire.ecm import EncapsulatedControl
from lispmob.wire.info import InfoRequest
from lispmob.wire.map_notify import MapNotify
from lispmob.wire.map_register import MapRegister
from lispmob.wire.map_reply import MapReply
from lispmob.wire.map_request import EidRecord, MapRequest
from lispmob.wire.record import Locator, MappingRecord
from tests.hub.exchange import CLOCK, HUB, KEY, eid, sent, site

HUB6, HERE, ELSEWHERE = ip_address("2001:db8:51::1"), [HUB], ip_address("198.51.100.99")
NAT, EVIL, WIFI = ip_address("203.0.113.200"), ip_address("66.66.66.66"), ip_address("192.168.1.2")
NODE, XTR_ID = eid("10.1.0.1/32"), bytes(range(16))
RTR_KEY = Key(b"between servers", key_id=1, algorithm=Algorithm.HMAC_SHA_1_96)
NOBODYS = Key(b"nobody's", algorithm=KEY.algorithm)


def hub(**policy: object) -> ControlPlane:
    plane = ControlPlane(
        [site("10.1.0.0/16")],
        traversal=TraversalPolicy(is_rtr=True, **policy),  # type: ignore[arg-type]
        new_nonce=count(1000).__next__,
    )
    plane.traversal.on_addresses([HUB, HUB6])
    return plane


def register(
    public: tuple[IpAddress, int] = (NAT, 20001),
    *,
    prefix: EidPrefix = NODE,
    key: Key = KEY,
    server: IpAddress = HUB,
    nonce: int | None = None,
) -> Arrival:
    record = MappingRecord.of(prefix, (Locator(HUB),), ttl_min=10, is_authoritative=True)
    nonce = next(CLOCK) if nonce is None else nonce
    message = MapRegister(nonce, (record,), proxy_map_reply=True, want_map_notify=True, xtr_id=XTR_ID)
    rloc = WIFI if server.version == 4 else ip_address("fd00::2")
    ecm = EncapsulatedControl(rloc, 4342, server, 4342, sign(message, key), to_rtr=True)
    return Arrival(ecm.encode(), *public, server)


def places(plane: ControlPlane, prefix: EidPrefix = NODE) -> list[tuple[str, int]]:
    found = plane.traversal.rtr.entries.get(prefix)
    return [(str(binding.address), binding.port) for binding in (found.usable() if found else ())]


def forged_notify(register: Arrival, server: IpAddress) -> Arrival:
    ecm = EncapsulatedControl.decode(register.payload)
    message = MapRegister.decode(ecm.message)
    notify = sign(MapNotify(message.nonce, message.records, xtr_id=XTR_ID), NOBODYS)
    answer = EncapsulatedControl(ecm.destination, 4342, ecm.source, 4342, notify, to_rtr=True)
    return Arrival(answer.encode(), server, 4342, server)


def test_mondays_register_replayed_from_elsewhere_binds_nothing() -> None:
    plane, monday = hub(), register()
    plane.on_datagram(monday, 0.0)
    plane.on_datagram(register((NAT, 30000)), 100.0)
    before = places(plane)

    plane.on_datagram(replace(monday, source=EVIL, source_port=4341), 86400.0)

    assert places(plane) == before
    assert plane.counters["rx_replay"] == 1


def test_of_a_live_register_that_two_send_the_first_one_counts() -> None:
    plane, live = hub(), register()
    plane.on_datagram(live, 0.0)

    effects = plane.on_datagram(replace(live, source=EVIL, source_port=4341), 0.001)

    assert places(plane) == [(str(NAT), 20001)]
    assert not [effect for effect in effects if isinstance(effect, InstallRelay | SendControl)]


@pytest.mark.parametrize("server", [HUB, HUB6])
@pytest.mark.parametrize("prefix", ["8.8.8.8/32", "0.0.0.0/1", "::/1", "10.1.0.1/32"])
def test_a_map_notify_from_our_own_address_binds_nothing(server: IpAddress, prefix: str) -> None:
    plane, wanted = hub(), register((EVIL, 4341), prefix=eid(prefix), key=NOBODYS, server=server)

    effects = [
        *plane.on_datagram(wanted, 0.0),
        *plane.on_datagram(forged_notify(wanted, server), 0.001),
    ]

    assert not [effect for effect in effects if isinstance(effect, InstallRelay)]
    assert len(plane.traversal.rtr.entries) == 0


def test_a_prefix_of_no_site_is_never_bound_and_costs_no_state() -> None:
    plane = hub()

    for number in range(200):
        plane.on_datagram(register((EVIL, number + 1), prefix=eid("8.8.8.8/32"), key=KEY), 0.0)

    assert len(plane.traversal.rtr.entries) == 0
    assert len(plane.traversal.rtr._pending) == 0


@pytest.mark.parametrize("source", [HUB, HUB6])
def test_what_comes_by_wire_from_our_own_address_is_refused_whatever_it_is(source: IpAddress) -> None:
    plane, probe = hub(), MapRequest(9, None, (NAT,), (EidRecord.of(NODE),), is_probe=True)
    for payload in (register().payload, probe.encode(), sign(MapRegister(1, ()), KEY)):
        assert plane.on_datagram(Arrival(payload, source, 4342, source), 0.0) == []

    assert plane.counters["rx_own_source"] == 3
    assert plane.on_datagram(Arrival(probe.encode(), HUB, 4342, HUB, is_from_wire=False), 0.0) != []


def for_elsewhere(to_us: Arrival) -> Arrival:
    ecm = replace(EncapsulatedControl.decode(to_us.payload), destination=ELSEWHERE)
    return replace(to_us, payload=ecm.encode())


def test_a_map_server_elsewhere_without_a_key_gets_no_registers() -> None:
    plane = hub(map_servers=(MapServerLink(ELSEWHERE),))

    assert plane.on_datagram(for_elsewhere(register()), 0.0) == []


@pytest.mark.parametrize("per_s", [7, 100, 1000])
def test_junk_with_the_address_of_a_nat_keeps_no_node_of_this_hub_out(per_s: int) -> None:
    plane, junk = hub(), register(key=NOBODYS)
    for second in range(10):
        for number in range(per_s):
            plane.on_datagram(replace(junk, source_port=number % 60000 + 1), second + number / per_s)
        effects = plane.on_datagram(register(), second + 0.999)
        assert [effect for effect in sent(effects) if (effect.destination, effect.port) == (NAT, 20001)]

    assert len(plane.traversal.rtr._pending) == 0


@pytest.mark.parametrize(("evil", "per_s"), [("66.66.66.66", 900), ("66.66.66.66", 5000), ("2001:db8:66::", 5000)])
def test_one_senders_registers_keep_no_node_out_whose_map_server_is_elsewhere(evil: str, per_s: int) -> None:
    plane, junk = hub(map_servers=(MapServerLink(ELSEWHERE, RTR_KEY),)), for_elsewhere(register(key=NOBODYS))
    passed_on = 0
    for second in range(3):
        for number in range(per_s):
            source = ip_address(evil) + (number if ":" in evil else 0)
            plane.on_datagram(replace(junk, source=source, source_port=number % 60000 + 1), second + number / per_s)
        passed_on += questions(plane.on_datagram(for_elsewhere(register((NAT, 2000 + second))), second + 0.999))

    assert passed_on == 3


# An RTR whose Map-Servers are elsewhere asks them only about EIDs that packets use.


def smr(prefix: str, source: IpAddress = EVIL) -> Arrival:
    host = eid(prefix)
    request = MapRequest(1, host.address, (source,), (EidRecord.of(NODE),), is_smr=True)
    return Arrival(request.encode(), source, 4342, HUB)


def questions(effects: Iterable[object]) -> int:
    return sum(effect.destination == ELSEWHERE for effect in sent(effects))


def relay_elsewhere(learned: str = "10.2.0.0/16") -> ControlPlane:
    plane = hub(map_servers=(MapServerLink(ELSEWHERE, RTR_KEY),))
    asked = sent(plane.traversal.on_miss(NODE.address, eid(learned).address, 0, 0.0))
    nonce = MapRequest.decode(EncapsulatedControl.decode(asked[0].payload).message).nonce
    record = MappingRecord.of(eid(learned), (Locator(ip_address("198.18.3.10")),), ttl_min=60)
    plane.on_datagram(Arrival(MapReply(nonce, (record,)).encode(), ELSEWHERE, 4342, HUB), 0.1)
    return plane


def test_smrs_for_unused_mappings_cause_no_question() -> None:
    plane = relay_elsewhere()

    asked = sum(questions(plane.on_datagram(smr(f"10.3.{n // 250}.{n % 250}/32"), 1.0)) for n in range(1100))

    assert asked == 0
    assert plane.counters["rx_smr_unknown"] == 1100


def test_data_of_strangers_causes_no_question() -> None:
    plane = relay_elsewhere()

    for n in range(1100):
        plane.traversal.on_unregistered(UnregisteredData(ip_address(0x0A030000 + n), 0, EVIL, 4341, HUB), 1.0)

    assert questions(plane.on_timer(2.0)) == 0


def test_data_of_strangers_for_a_node_of_ours_costs_a_share_of_the_questions() -> None:
    plane, asked = relay_elsewhere(), 0

    for n in range(1000):
        inner, now = ip_address(0x0A030000 + n), 1.0 + n / 500
        stranger = UnregisteredData(inner, 0, EVIL, 4341, HUB, inner_destination=ip_address("10.2.0.1"))
        plane.traversal.on_unregistered(stranger, now)
        asked += questions(plane.on_timer(now))

    assert 1 <= asked <= 75  # of 24 EIDs, each again after a second
    assert questions(plane.traversal.on_miss(NODE.address, ip_address("10.4.0.1"), 0, 4.0)) == 1


def test_smrs_for_all_hosts_of_one_prefix_in_use_are_one_question() -> None:
    plane = relay_elsewhere()

    asked = sum(questions(plane.on_datagram(smr(f"10.2.{n // 250}.{n % 250}/32"), 1.0)) for n in range(1100))

    assert asked <= 2


def test_a_flood_of_smrs_leaves_room_for_those_who_have_a_packet_to_send() -> None:
    plane = relay_elsewhere()
    for n in range(2000):
        plane.on_datagram(smr(f"10.2.{n // 250}.{n % 250}/32"), 1.0 + n / 1000)
        plane.traversal.on_unregistered(
            UnregisteredData(ip_address(0x0A020000 + n), 0, EVIL, 4341, HUB), 1.0 + n / 1000
        )

    assert questions(plane.traversal.on_miss(NODE.address, ip_address("10.4.0.1"), 0, 3.0)) == 1


def test_a_node_that_scans_leaves_half_of_the_questions_to_others() -> None:
    plane = relay_elsewhere()
    answered = 0

    for second in range(1, 11):
        for n in range(100):
            plane.traversal.on_miss(
                ip_address("10.1.0.66"), ip_address(0x0A050000 + second * 100 + n), 0, second + n / 100
            )
        effects = plane.traversal.on_miss(NODE.address, ip_address(0x0A060000 + second), 0, second + 0.995)
        answered += questions(effects)

    assert answered >= 9


def test_a_sender_with_many_addresses_in_one_registered_prefix_is_one_sender() -> None:
    plane = relay_elsewhere("10.2.0.0/16")

    asked = sum(
        questions(plane.traversal.on_miss(ip_address(0x0A020000 + n), ip_address(0x0A050000 + n), 0, 1.0))
        for n in range(100)
    )

    assert asked <= 10


def test_a_reply_without_a_question_is_not_decoded() -> None:
    plane = relay_elsewhere()
    junk = MapReply(12345, ()).encode()[:12] + b"\xff" * 40000

    plane.on_datagram(Arrival(junk, EVIL, 4342, HUB), 1.0)

    assert plane.counters["rx_nonce"] == 1
    assert plane.counters["rx_truncated"] == 0


# RLOC-probes, and messages that open a NAT's binding.


def probe(source: IpAddress) -> Arrival:
    request = MapRequest(9, None, (source,), (EidRecord.of(NODE),), is_probe=True)
    return Arrival(request.encode(), source, 30000, HUB)


def test_probes_make_no_reflector() -> None:
    plane = hub()

    answers = sum(len(plane.on_datagram(probe(EVIL), n / 1000)) for n in range(5000))

    assert answers <= 20 + 5 * 5 + 1


def test_the_probes_of_one_64_share_one_bucket() -> None:
    plane = hub()

    answers = sum(len(plane.on_datagram(probe(ip_address((0x20010DB8 << 96) + n)), n / 1000)) for n in range(5000))

    assert answers <= 20 + 5 * 5 + 1


def test_a_flood_of_forged_probes_costs_no_registered_node_its_answers() -> None:
    plane = hub()
    plane.on_datagram(register(), 0.0)
    answered = 0

    for second in range(10):
        for n in range(1000):
            plane.on_datagram(probe(ip_address(0x0B000000 + second * 1000 + n)), second + n / 1000)
        answered += len(plane.on_datagram(probe(NAT), second + 0.999))

    assert answered == 10


@pytest.mark.parametrize("source", ["127.0.0.1", "224.0.0.5", "169.254.169.254", "255.255.255.255", "0.1.2.3"])
def test_a_probe_from_no_host_is_not_answered(source: str) -> None:
    assert hub().on_datagram(probe(ip_address(source)), 0.0) == []


def test_probes_in_data_have_the_same_limits() -> None:
    plane, request = hub(), probe(EVIL).payload

    answers = sum(
        len(plane.traversal.on_data_control(InData(request, EVIL, 4341, HUB, EVIL, 4342), n / 1000))
        for n in range(5000)
    )

    assert answers <= 20 + 5 * 5 + 1


def test_only_nodes_of_ours_are_told_their_place_in_the_drafts_dialect_and_no_place_is_kept() -> None:
    plane = hub()
    plane.on_datagram(register(), 0.0)
    punch = InfoRequest(7, None, 0, tail=DistinguishedName(b"laptop")).encode()

    def told(source: IpAddress, now: float) -> int:
        return len(plane.traversal.on_data_control(InData(punch, source, 4341, HUB, source, 4341), now))

    assert sum(told(EVIL, n / 100) for n in range(100)) == 0
    assert told(NAT, 1.0) == 1
    assert sum(told(NAT, 1.0 + n / 1000) for n in range(5000)) <= 20 + 5 * 2 + 1
    assert len(plane.traversal.named.cache) == 0


def told_without_a_name(plane: ControlPlane, source: IpAddress, port: int, now: float) -> int:
    question = InfoRequest(7, None, 0).encode()
    return len(plane.traversal.on_data_control(InData(question, source, port, HUB, WIFI, 4342), now))


def test_the_nodes_behind_one_address_are_told_their_places_each_within_a_limit() -> None:
    plane = hub()
    plane.on_datagram(register(), 0.0)

    assert all(told_without_a_name(plane, NAT, 20000 + n, 1.0) for n in range(1000))
    assert sum(told_without_a_name(plane, NAT, 30000, 2.0 + n / 1000) for n in range(5000)) <= 10 + 5 * 2 + 1


def test_a_place_that_is_not_registered_is_told_to_its_owner_within_a_limit_for_all_strangers() -> None:
    plane = hub()
    plane.on_datagram(register(), 0.0)

    assert told_without_a_name(plane, EVIL, 4341, 1.0) == 1
    assert sum(told_without_a_name(plane, EVIL, n, 1.0) for n in range(1, 1000)) < 30
    forged = (ip_address(0x50000000 + 256 * n) for n in range(5000))
    assert sum(told_without_a_name(plane, source, 4341, 2.0) for source in forged) <= 400
    assert plane.counters["rx_rate"] > 4000
    assert told_without_a_name(plane, NAT, 20001, 2.0) == 1


def test_an_answer_leaves_by_the_port_that_the_question_came_to() -> None:
    plane = hub()
    question = InfoRequest(7, None, 0).encode()

    def ports(*, at_control_port: bool) -> set[object]:
        packet = InData(question, NAT, 20001, HUB, WIFI, 4342, at_control_port)
        stranger = UnregisteredData(NODE.address, 0, NAT, 20001, HUB, is_at_control_port=at_control_port)
        answers = [*plane.traversal.on_data_control(packet, 1.0), *plane.traversal.rtr.on_unregistered(stranger, 1.0)]
        return {one.is_from_control_port for one in answers if isinstance(one, SendFromRelayPort)}

    assert ports(at_control_port=False) == {False}
    assert ports(at_control_port=True) == {True}


def test_pokes_for_nodes_that_are_registered_are_not_used_up_by_strangers() -> None:
    plane = hub()
    plane.on_datagram(register(), 0.0)
    for n in range(1000):
        plane.traversal.on_unregistered(UnregisteredData(ip_address(0x0A030000 + n), 0, EVIL, 4341, HUB), 1.0)

    assert plane.traversal.on_unregistered(UnregisteredData(ip_address("10.1.0.1"), 0, NAT, 30000, HUB), 1.0)

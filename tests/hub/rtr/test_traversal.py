"""Nodes behind NATs at the hub's one port: requests, registrations and probes there reach the right node."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import ip_address

import pytest
from msgspec.structs import replace

from lispmob.hub.dispatch import ControlPlane
from lispmob.hub.map_server.effect import Arrival, RegistrationChanged
from lispmob.hub.rtr.rtr import MapServerLink
from lispmob.hub.rtr.rtr_effect import InstallRelay, Learned, RemoveRelay, UnregisteredData
from lispmob.hub.rtr.traversal import TraversalPolicy
from lispmob.protocol.effect import Event, SendControl
from lispmob.wire.address import EidPrefix
from lispmob.wire.auth import Algorithm, Key, sign, sign_for_rtr
from lispmob.wire.data_header import split_data_packet
from lispmob.wire.ecm import EncapsulatedControl
from lispmob.wire.info import InfoReply, InfoRequest
from lispmob.wire.lisp_sec import AD_MS_RTR
from lispmob.wire.map_notify import MapNotify
from lispmob.wire.map_register import MapRegister
from lispmob.wire.map_reply import MapReply
from lispmob.wire.map_request import EidRecord, MapRequest
from lispmob.wire.record import Locator, MappingRecord
from tests.hub.exchange import HUB, KEY, eid, site, xtr

NAT, WIFI = ip_address("203.0.113.200"), ip_address("192.168.1.2")
EID = eid("10.1.0.1/32")
AN_RTR = TraversalPolicy(is_rtr=True)


def hub(policy: TraversalPolicy = AN_RTR) -> ControlPlane:
    plane = ControlPlane([site("10.1.0.0/16")], traversal=policy)
    plane.traversal.on_addresses([HUB])
    return plane


def question() -> Arrival:
    request = InfoRequest(7, EID.address, EID.mask_len)
    return Arrival(sign(request, KEY), NAT, 20001, HUB)


def register() -> Arrival:
    record = MappingRecord.of(EID, (Locator(HUB),), ttl_min=10, is_authoritative=True)
    message = MapRegister(5, (record,), proxy_map_reply=True, want_map_notify=True, xtr_id=bytes(range(16)))
    ecm = EncapsulatedControl(WIFI, 4342, HUB, 4342, sign(message, KEY), to_rtr=True)
    return Arrival(ecm.encode(), NAT, 20001, HUB)


def unsummed(asked: Arrival) -> Arrival:
    """The same ECM without an inner UDP checksum."""
    ecm = replace(EncapsulatedControl.decode(asked.payload), has_checksum=False)
    return replace(asked, payload=ecm.encode())


def test_an_info_request_is_answered_with_what_the_hub_sees_and_itself_as_rtr() -> None:
    (answer,) = hub().on_datagram(question(), 0.0)

    assert isinstance(answer, SendControl)
    assert (answer.destination, answer.port) == (NAT, 20001)
    nat = InfoReply.decode(answer.payload).nat
    assert (nat.global_etr_rloc, nat.etr_port, nat.rtr_rlocs) == (NAT, 20001, (HUB,))


def test_a_hub_without_rtrs_still_tells_what_it_sees() -> None:
    (answer,) = hub(TraversalPolicy()).on_datagram(question(), 0.0)

    assert isinstance(answer, SendControl)
    nat = InfoReply.decode(answer.payload).nat
    assert (nat.global_etr_rloc, nat.etr_port, nat.rtr_rlocs) == (NAT, 20001, ())


def test_a_node_registers_through_the_rtr_of_the_same_hub() -> None:
    plane = hub()

    effects = plane.on_datagram(register(), 0.0)

    assert [effect.prefix for effect in effects if isinstance(effect, RegistrationChanged)] == [EID]
    (relay,) = [effect for effect in effects if isinstance(effect, InstallRelay)]
    assert [(binding.address, binding.port, binding.source_port) for binding in relay.bindings] == [(NAT, 20001, 4342)]
    (sent,) = [effect for effect in effects if isinstance(effect, SendControl)]
    header, _ = split_data_packet(sent.payload)
    assert (sent.destination, sent.port, header.instance_id) == (NAT, 20001, 0xFFFFFF)


def test_a_register_for_an_rtr_is_refused_by_a_hub_that_is_none() -> None:
    plane = hub(TraversalPolicy())

    assert plane.on_datagram(register(), 0.0) == []
    assert plane.counters["rx_policy"] == 1


def test_a_relayed_register_counts_only_from_an_rtr_that_is_configured() -> None:
    plane = hub(TraversalPolicy())
    ecm = replace(EncapsulatedControl.decode(register().payload), to_rtr=False, relayed_by_rtr=True)

    assert plane.on_datagram(Arrival(ecm.encode(), NAT, 4342, HUB), 0.0) == []
    assert plane.counters["rx_policy"] == 1


def test_a_probe_of_an_rtr_is_answered() -> None:
    probe = MapRequest(9, None, (WIFI,), (EidRecord.of(EID),), is_probe=True)

    (answer,) = hub().on_datagram(Arrival(probe.encode(), NAT, 30000, HUB), 0.0)

    assert isinstance(answer, SendControl)
    assert (answer.destination, answer.port) == (NAT, 30000)
    assert MapReply.decode(answer.payload).is_probe


def test_a_map_notify_goes_back_to_the_port_that_the_register_came_from() -> None:
    arrival = replace(xtr("203.0.113.9").register("10.1.0.1/32", nonce=1), source_port=40000)

    answer = next(one for one in hub().on_datagram(arrival, 0.0) if isinstance(one, SendControl))

    assert answer.port == 40000
    assert MapNotify.decode(answer.payload).nonce == 1


def test_a_binding_that_ran_out_is_forgotten_in_time() -> None:
    plane = hub()
    plane.on_datagram(register(), 0.0)

    plane.on_timer(601.0)

    assert len(list(plane.traversal.rtr.entries)) == 0


ELSEWHERE = ip_address("198.51.100.99")
RTR_KEY = Key(b"between servers", key_id=1, algorithm=Algorithm.HMAC_SHA_1_96)


def relay_elsewhere() -> ControlPlane:
    """An RTR whose Map-Server is another machine, with one node behind a NAT."""
    plane = hub(TraversalPolicy(is_rtr=True, map_servers=(MapServerLink(ELSEWHERE, RTR_KEY),)))
    ecm = EncapsulatedControl.decode(register().payload)
    to_it = replace(ecm, destination=ELSEWHERE)
    plane.on_datagram(Arrival(to_it.encode(), NAT, 20001, HUB), 0.0)
    notify = sign(MapNotify(5, MapRegister.decode(ecm.message).records, xtr_id=bytes(range(16))), KEY)
    proof = bytes((AD_MS_RTR, 0, 0, 0)) + sign_for_rtr(notify, RTR_KEY).encode()
    back = EncapsulatedControl(ELSEWHERE, 4342, WIFI, 4342, notify, authentication=proof, to_rtr=True)
    assert any(
        isinstance(one, InstallRelay) for one in plane.on_datagram(Arrival(back.encode(), ELSEWHERE, 4342, HUB), 0.0)
    )
    return plane


def asked(effects: Iterable[object]) -> MapRequest:
    (sent,) = [effect for effect in effects if isinstance(effect, SendControl) and effect.destination == ELSEWHERE]
    return MapRequest.decode(EncapsulatedControl.decode(sent.payload).message)


def test_an_rtr_looks_up_a_node_whose_data_comes_from_elsewhere_and_forgets_its_nat() -> None:
    plane, there = relay_elsewhere(), ip_address("198.18.3.10")
    plane.traversal.on_unregistered(UnregisteredData(ip_address("10.1.0.1"), 0, there, 50000, HUB), 1.0)
    request = asked(plane.on_timer(plane.wake_at() or 0.0))
    record = MappingRecord.of(EID, (Locator(there),), ttl_min=10)

    effects = plane.on_datagram(Arrival(MapReply(request.nonce, (record,)).encode(), ELSEWHERE, 4342, HUB), 1.1)

    assert [type(effect) for effect in effects if not isinstance(effect, Event)] == [RemoveRelay, Learned]


def test_a_node_whose_data_overtakes_its_register_is_asked_about_a_moment_later_and_once() -> None:
    plane, there = relay_elsewhere(), ip_address("198.18.3.10")
    for number in range(5):
        told = plane.traversal.on_unregistered(
            UnregisteredData(ip_address("10.1.0.1"), 0, there, 50000 + number, HUB), 1.0 + number / 1000
        )
        assert not [effect for effect in told if isinstance(effect, SendControl)]

    early = plane.on_timer(1.04)
    due = plane.on_timer(1.05)

    assert early == []
    assert len(due) == 1
    assert not plane.on_timer(1.06)


def test_a_mapping_that_names_the_rtr_itself_keeps_what_it_knows_of_the_nat() -> None:
    plane = relay_elsewhere()
    smr = MapRequest(1, EID.address, (NAT,), (EidRecord.of(EID),), is_smr=True)
    request = asked(plane.on_datagram(Arrival(smr.encode(), NAT, 20001, HUB), 1.0))
    record = MappingRecord.of(EID, (Locator(HUB),), ttl_min=10)

    effects = plane.on_datagram(Arrival(MapReply(request.nonce, (record,)).encode(), ELSEWHERE, 4342, HUB), 1.1)

    assert effects == []
    assert len(list(plane.traversal.rtr.entries)) == 1


def test_a_register_for_the_rtr_without_an_inner_checksum_is_relayed_with_one_and_counted() -> None:
    plane = hub(TraversalPolicy(is_rtr=True, map_servers=(MapServerLink(ELSEWHERE, RTR_KEY),)))

    ecm = replace(EncapsulatedControl.decode(register().payload), destination=ELSEWHERE)
    asked = replace(register(), payload=ecm.encode())

    effects = plane.on_datagram(unsummed(asked), 0.0)

    relayed = [effect for effect in effects if isinstance(effect, SendControl) and effect.destination == ELSEWHERE]
    assert [EncapsulatedControl.decode(effect.payload).has_checksum for effect in relayed] == [True]
    assert plane.counters["rx_ecm_unsummed"] == 1


@pytest.mark.parametrize("width", [1, 7, 8, 12])
def test_an_rtr_believes_no_mapping_that_is_wider_than_a_site_of_its_own(width: int) -> None:
    plane = relay_elsewhere()
    request = asked(plane.traversal.on_miss(ip_address("10.1.0.1"), ip_address("10.9.0.1"), 0, 1.0))
    record = MappingRecord.of(EidPrefix.make(ip_address("10.9.0.1"), width), (Locator(NAT),), ttl_min=10)

    effects = plane.on_datagram(Arrival(MapReply(request.nonce, (record,)).encode(), ELSEWHERE, 4342, HUB), 1.1)

    assert not [effect for effect in effects if isinstance(effect, Learned)]

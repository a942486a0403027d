"""The RTR: it accepts only what a Map-Server proves, and sends only to where the proof says."""

from __future__ import annotations

from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from lispmob.control.path_mtu.size_probe import ControlProbe, everything
from lispmob.hub.map_server.effect import Arrival
from lispmob.hub.map_server.map_server import MapServer
from lispmob.hub.rtr.relayed import RelayedRegisters, RtrPeer
from lispmob.hub.rtr.rtr_effect import InstallRelay, RemoveRelay, SendFromRelayPort, UnregisteredData, WayAlive
from lispmob.hub.rtr.rtr_pending import PENDING_LIMIT, PENDING_S, PER_NETWORK, Pending, PendingRegisters
from lispmob.protocol.effect import SendControl
from lispmob.wire.address import EidPrefix, IpAddress
from lispmob.wire.auth import Key
from lispmob.wire.data_header import split_data_packet
from lispmob.wire.ecm import EncapsulatedControl
from lispmob.wire.ip_udp import parse_ip_udp
from lispmob.wire.map_notify import MapNotify
from lispmob.wire.map_reply import MapReply
from lispmob.wire.map_request import EidRecord, MapRequest
from tests.hub.exchange import HUB, KEY, site
from tests.hub.rtr.rtr_scene import EID, LTE, NAT, OTHER_NAT, RTR, RTR_KEY, WIFI, XTR_ID, Scene


def scene_message() -> EncapsulatedControl:
    """A register in an ECM, for which the RTR has no key."""
    return EncapsulatedControl.decode(Scene().register(key=Key(b"nobody's")).payload)


def junk(like: EncapsulatedControl, nonce: int, source: tuple[IpAddress, int]) -> Arrival:
    message = like.message[:4] + (nonce + (1 << 60)).to_bytes(8) + like.message[12:]
    return Arrival(replace(like, message=message).encode(), *source, RTR)


def test_a_register_is_passed_on_and_its_answer_comes_back_in_the_data_plane() -> None:
    scene = Scene()

    install, _, alive, answer = scene.all_the_way(scene.register())

    assert alive == WayAlive(EID, NAT, 20001)

    assert isinstance(install, InstallRelay)
    assert [(binding.address, binding.port, binding.source_port) for binding in install.bindings] == [
        (NAT, 20001, 4342)
    ]
    assert isinstance(answer, SendControl)
    assert (answer.destination, answer.port, answer.source) == (NAT, 20001, RTR)
    header, inner = split_data_packet(answer.payload)
    udp = parse_ip_udp(inner)
    assert header.instance_id == 0xFFFFFF
    assert (udp.source, udp.source_port, udp.destination, udp.destination_port) == (HUB, 4342, WIFI, 4342)
    assert MapNotify.decode(udp.payload).xtr_id == XTR_ID


def test_nothing_is_forwarded_before_the_map_server_has_vouched_for_it() -> None:
    scene = Scene()

    effects = scene.at_rtr(scene.register())

    assert not [effect for effect in effects if isinstance(effect, InstallRelay)]
    assert scene.places() == []


def test_the_same_register_again_tells_the_datapath_nothing_new() -> None:
    scene = Scene()
    scene.all_the_way(scene.register())

    effects = scene.all_the_way(scene.register(), now=20.0)

    assert [type(effect) for effect in effects] == [WayAlive, SendControl]


@pytest.mark.parametrize("inner", [WIFI, ip_address("192.168.66.66")])
def test_of_two_who_send_the_same_register_the_first_is_its_sender(inner: IpAddress) -> None:
    scene = Scene()
    original = scene.register()
    ecm = replace(EncapsulatedControl.decode(original.payload), source=inner)

    (onward,) = scene.at_rtr(original)
    assert scene.at_rtr(Arrival(ecm.encode(), OTHER_NAT, 4341, RTR)) == []
    assert isinstance(onward, SendControl)
    scene.at_rtr(Arrival(scene.at_server(onward).payload, HUB, 4342, RTR))

    assert scene.places() == [(str(NAT), 20001, 1, 100)]
    assert scene.rtr.counters["rx_pending"] == 1


def test_a_private_rloc_that_the_node_does_not_list_is_not_its_own() -> None:
    scene = Scene()
    ecm = EncapsulatedControl.decode(scene.register(listed=[(WIFI, 1, 100)]).payload)
    bent = replace(ecm, source=ip_address("192.168.66.66"))

    scene.all_the_way(Arrival(bent.encode(), OTHER_NAT, 4341, RTR))

    assert scene.places() == []


def test_two_uplinks_share_by_the_priority_and_weight_that_the_register_names() -> None:
    scene = Scene()
    listed = [(WIFI, 1, 75), (LTE, 1, 25)]
    scene.all_the_way(scene.register(WIFI, (NAT, 20001), listed=listed))

    scene.all_the_way(scene.register(LTE, (OTHER_NAT, 30000), listed=listed), now=1.0)

    assert sorted(scene.places()) == [(str(NAT), 20001, 1, 75), (str(OTHER_NAT), 30000, 1, 25)]


def test_an_uplink_that_is_no_longer_listed_is_gone() -> None:
    scene = Scene()
    both = [(WIFI, 1, 75), (LTE, 1, 25)]
    scene.all_the_way(scene.register(WIFI, listed=both))
    scene.all_the_way(scene.register(LTE, (OTHER_NAT, 30000), listed=both))

    scene.all_the_way(scene.register(LTE, (OTHER_NAT, 30000), listed=[(LTE, 1, 100)]))

    assert scene.places() == [(str(OTHER_NAT), 30000, 1, 100)]


def test_a_binding_lives_as_long_as_the_register_says() -> None:
    scene = Scene()
    scene.all_the_way(scene.register(ttl_min=3))
    assert scene.rtr.wake_at() == 180.0

    effects = scene.rtr.on_timer(180.0)

    assert [effect for effect in effects if isinstance(effect, RemoveRelay)]
    assert scene.rtr.wake_at() is None


def test_a_withdrawal_removes_the_node() -> None:
    scene = Scene()
    scene.all_the_way(scene.register())

    effects = scene.all_the_way(scene.register(ttl_min=0))

    assert isinstance(effects[0], RemoveRelay)


def test_a_register_for_an_eid_of_others_never_becomes_an_entry() -> None:
    scene = Scene()
    (onward,) = scene.at_rtr(scene.register(key=Key(b"not the site's")))
    assert isinstance(onward, SendControl)

    effects = scene.server.on_encapsulated_register(
        Arrival(onward.payload, RTR, 4342, HUB), EncapsulatedControl.decode(onward.payload), 0.0
    )

    assert not [effect for effect in effects if isinstance(effect, SendControl)]
    assert scene.places() == []


def test_a_relayed_register_for_an_eid_that_is_not_the_nodes_is_counted_and_not_answered() -> None:
    for pool, key, counter in (("10.1.0.0/16", Key(b"not the site's"), "rx_auth"), ("10.99.0.0/16", KEY, "rx_policy")):
        server = MapServer([site(pool)])
        scene = Scene(server=RelayedRegisters(server, [RtrPeer(RTR, RTR_KEY)]))
        (onward,) = scene.at_rtr(scene.register(key=key))
        assert isinstance(onward, SendControl)

        arrival = Arrival(onward.payload, RTR, 4342, HUB)
        effects = scene.server.on_encapsulated_register(arrival, EncapsulatedControl.decode(onward.payload), 0.0)

        assert [effect for effect in effects if isinstance(effect, SendControl)] == []
        assert server.counters[counter] == 1
        assert server.registrations.get(EID) is None


def test_a_register_without_an_xtr_id_or_for_a_strange_map_server_is_dropped() -> None:
    scene = Scene()
    strange = EncapsulatedControl.decode(scene.register().payload)
    strange = replace(strange, destination=ip_address("192.0.2.66"))

    assert scene.at_rtr(scene.register(xtr_id=None)) == []
    assert scene.at_rtr(Arrival(strange.encode(), NAT, 20001, RTR)) == []
    assert scene.rtr.counters["rx_policy"] == 2


def test_a_map_notify_without_proof_with_a_wrong_one_or_from_elsewhere_is_dropped() -> None:
    scene = Scene()
    (onward,) = scene.at_rtr(scene.register())
    assert isinstance(onward, SendControl)
    good = EncapsulatedControl.decode(scene.at_server(onward).payload)
    assert good.authentication is not None
    bent = good.authentication[:-1] + bytes((good.authentication[-1] ^ 1,))

    assert scene.at_rtr(Arrival(replace(good, authentication=None).encode(), HUB, 4342, RTR)) == []
    assert scene.at_rtr(Arrival(replace(good, authentication=bent).encode(), HUB, 4342, RTR)) == []
    assert scene.at_rtr(Arrival(good.encode(), OTHER_NAT, 4342, RTR)) == []
    assert scene.rtr.counters["rx_auth"] == 2
    assert scene.rtr.counters["rx_policy"] == 1
    assert scene.places() == []


def test_a_map_notify_that_no_node_waits_for_is_dropped() -> None:
    scene = Scene()
    (onward,) = scene.at_rtr(scene.register(), 0.0)
    assert isinstance(onward, SendControl)
    back = scene.at_server(onward)

    assert scene.at_rtr(Arrival(back.payload, HUB, 4342, RTR), PENDING_S + 1) == []
    assert scene.rtr.counters["rx_nonce"] == 1


def test_a_flood_of_registers_stays_bounded() -> None:
    scene, message = Scene(), scene_message()

    for number in range(3 * PENDING_LIMIT):
        source = ip_address(0x0B000000 + number)
        scene.at_rtr(junk(message, number, (source, 4341)), number / 1000)

    assert len(scene.rtr._pending) <= PENDING_LIMIT


@pytest.mark.parametrize("port", [None, 20001])
@pytest.mark.parametrize("per_s", [7, 100, 1000])
def test_junk_with_the_address_of_a_nat_keeps_no_node_behind_it_out(per_s: int, port: int | None) -> None:
    scene, message = Scene(), scene_message()
    done = 0

    for second in range(20):
        for number in range(per_s):
            source = (NAT, port or 1024 + (second * per_s + number) % 60000)
            scene.at_rtr(junk(message, second * per_s + number, source), second + number / per_s)
        now = second + 0.999
        (onward,) = scene.at_rtr(scene.register(), now)
        assert isinstance(onward, SendControl)
        back = scene.at_server(onward, now)
        for number in range(per_s // 20):  # the Map-Server is 50 ms away
            scene.at_rtr(junk(message, 10**9 + second * per_s + number, (NAT, port or 1024 + number)), now)
        done += len(scene.at_rtr(Arrival(back.payload, HUB, 4342, RTR), now + 0.05))

    assert done == 4 + 19 * 2
    assert scene.places() == [(str(NAT), 20001, 1, 100)]


def test_a_64_of_ipv6_is_one_network() -> None:
    pending = PendingRegisters()
    for number in range(5000):
        address = ip_address((0x20010DB8 << 96) + number)
        pending.put((XTR_ID, number), Pending(b"", WIFI, address, 4341, RTR, HUB, 0.0), 0.0)
    other = ip_address("2001:db8:0:1::1")

    assert len(pending) == PER_NETWORK
    assert pending.put((XTR_ID, 5001), Pending(b"", WIFI, other, 4341, RTR, HUB, 0.0), 0.0)
    assert len(pending) == PER_NETWORK + 1


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 3), st.integers(1, 3), st.integers(0, 20)), max_size=60))
def test_what_is_pending_is_counted_right(steps: list[tuple[int, int, int, int]]) -> None:
    pending, now = PendingRegisters(), 0.0
    for nonce, address, port, pause_s in steps:
        now += pause_s / 4
        source = ip_address(0x0B000000 + address)
        pending.put((XTR_ID, nonce), Pending(b"", WIFI, source, port, RTR, HUB, now), now)
        if nonce == 5:
            for key, _ in pending.find(nonce, WIFI, HUB, now):
                pending.take(key)
    pending.find(0, WIFI, HUB, now + 100.0)

    assert len(pending) == 0
    assert not pending.awaits(0)
    assert pending._groups == {}


def test_an_unknown_rtr_may_not_relay() -> None:
    scene = Scene()
    (onward,) = scene.at_rtr(scene.register())
    assert isinstance(onward, SendControl)

    ecm = EncapsulatedControl.decode(onward.payload)

    assert scene.server.on_encapsulated_register(Arrival(onward.payload, NAT, 4342, HUB), ecm, 0.0) == []
    assert scene.server.counters["rx_policy"] == 1


def test_a_probe_is_answered_whatever_eid_it_names_and_with_authority_for_none() -> None:
    scene = Scene()
    everything = EidRecord.of(EidPrefix.parse("0.0.0.0/0"))
    request = MapRequest(5, None, (WIFI,), (everything,), is_probe=True)

    (sent,) = scene.rtr.on_probe(Arrival(request.encode(), NAT, 20001, RTR), 0.0)

    assert isinstance(sent, SendControl)
    assert (sent.destination, sent.port) == (NAT, 20001)
    (record,) = MapReply.decode(sent.payload).records
    assert [(locator.address, locator.is_probed) for locator in record.locators] == [(RTR, True)]
    assert not record.is_authoritative


def test_data_from_an_unknown_place_has_its_node_told_the_way_it_came_and_seldom() -> None:
    scene = Scene()
    packet = UnregisteredData(EID.address, 0, NAT, 31234, RTR)

    told = [effect for n in range(100) for effect in scene.rtr.on_unregistered(packet, n / 1000)]

    (one,) = told
    assert isinstance(one, SendFromRelayPort)
    assert (one.destination, one.port, one.source) == (NAT, 31234, RTR)
    request = MapRequest.decode(parse_ip_udp(split_data_packet(one.payload)[1]).payload)
    assert request.is_smr
    assert request.records[0].eid_prefix == EID
    assert scene.rtr.counters["data_source"] == 100


def test_many_forged_sources_are_not_answered_without_bound() -> None:
    scene = Scene()
    base = int(ip_address("10.2.0.0"))

    told = [
        effect
        for n in range(2000)
        for effect in scene.rtr.on_unregistered(UnregisteredData(ip_address(base + n), 0, NAT, 31234, RTR), n / 2000)
    ]

    assert len(told) <= 101


@given(payload=st.binary(max_size=200))
def test_any_ecm_contents_are_counted_and_dropped(payload: bytes) -> None:
    scene = Scene()
    ecm = EncapsulatedControl(WIFI, 4342, HUB, 4342, b"\x30" + payload, to_rtr=True)

    effects = scene.rtr.on_encapsulated_control(Arrival(ecm.encode(), NAT, 20001, RTR), ecm, 0.0)

    assert all(isinstance(effect, SendControl) for effect in effects)
    assert scene.places() == []


@pytest.mark.parametrize("size", [1280, 1500, 9000])
def test_a_probe_that_is_as_long_as_a_full_packet_is_answered_shortly(size: int) -> None:
    scene = Scene()
    probe = ControlProbe(everything(4), WIFI, RTR).packet(5, size)

    (sent,) = scene.rtr.on_probe(Arrival(probe.payload, NAT, 20001, RTR), 0.0)

    assert isinstance(sent, SendControl)
    assert MapReply.decode(sent.payload).nonce == 5
    assert len(sent.payload) < 100


def test_a_long_probe_that_is_not_padded_with_zeros_is_not_even_read() -> None:
    scene = Scene()
    probe = ControlProbe(everything(4), WIFI, RTR).packet(5, 1500).payload

    assert scene.rtr.on_probe(Arrival(probe[:-1] + b"x", NAT, 20001, RTR), 0.0) == []
    assert scene.rtr.counters["rx_limit"] == 1

"""The dialect of lispers.net: what a node registers, keeps open and accepts."""

from __future__ import annotations

import pytest

from lispmob.natt.arrival import DataControl
from lispmob.natt.dialect import Dialect
from lispmob.natt.effect import NattEffect, SendFromDataPort
from lispmob.protocol.effect import Count
from lispmob.wire.address import DistinguishedName, IpAddress
from lispmob.wire.data_header import DATA_HEADER_OCTETS, DataHeader
from lispmob.wire.header import CONTROL_PORT, DATA_PORT
from lispmob.wire.info import InfoRequest
from lispmob.wire.lcaf_types import AfiList
from lispmob.wire.map_request import EidRecord, MapRequest
from lispmob.wire.named_locator import is_rtr, partial
from tests.internet.nat import Kind, NatBox
from tests.internet.network import World, ip
from tests.natt.world import RTR, MapServerHost, NodeHost, RtrHost, locator

NAT = "203.0.113.200"


def lispers_world(**options: object) -> tuple[World, MapServerHost, RtrHost, NatBox, NodeHost]:
    world = World()
    server, rtr = MapServerHost(world), RtrHost(world)
    nat = NatBox(world, NAT, **options)  # type: ignore[arg-type]
    node = NodeHost(world, mode="lispers", rtrs=(RTR,), host_name=b"laptop")
    node.attach((locator(), nat))
    world.run(1.0)
    return world, server, rtr, nat, node


def test_the_record_names_the_translated_place_and_the_rtr_at_priority_254() -> None:
    _, server, _, _, node = lispers_world()

    record = server.record()

    assert record is not None
    place, relay = record.locators if not is_rtr(record.locators[0]) else record.locators[::-1]
    seen = node.traversal.machines[0].seen
    assert seen is not None
    assert place.address == AfiList((ip(NAT), DistinguishedName(b"laptop-eth2@tp-%d" % seen.port)))
    assert (relay.address, relay.priority, relay.weight) == (AfiList((RTR, DistinguishedName(b"RTR"))), 254, 0)


def test_an_info_request_in_a_data_packet_goes_to_the_rtr_every_15_seconds() -> None:
    world, _, _, _, node = lispers_world()
    start = world.now

    world.run(60.0)

    punches = [port for port in node.outbound(start) if port.destination == RTR]
    assert len(punches) == 4
    payload = punches[0].payload
    assert DataHeader.decode(payload).instance_id == 0xFFFFFF
    assert InfoRequest.decode(payload[DATA_HEADER_OCTETS:]).tail == DistinguishedName(b"laptop-eth2")
    assert {punch.port for punch in punches} == {4341}


def test_nothing_leaves_from_port_4341_in_this_dialect() -> None:
    world, _, _, _, node = lispers_world()
    world.run(60.0)

    ports = {one.data_port.value for _, one in node.sent if isinstance(one, SendFromDataPort)}

    assert ports == {"ephemeral"}


@pytest.mark.parametrize("kind", Kind)
def test_the_rtr_finds_the_way_back_by_address_and_host_name(kind: Kind) -> None:
    world, server, rtr, nat, _ = lispers_world(mapping=kind, filtering=kind, preserves_ports=False)
    record = server.record()
    assert record is not None

    (binding,) = rtr.cache.bindings(record, world.now)

    to_rtr = [packet for _, packet in world.internet.carried if packet.destination == RTR]
    last = [packet for packet in to_rtr if packet.destination_port == 4341][-1]
    assert (binding.address, binding.port, binding.source_port) == (nat.public, last.source_port, 4341)


def test_a_host_name_from_another_address_does_not_take_the_place() -> None:
    world, server, rtr, _, _ = lispers_world()
    thief = NodeHost(world, mode="lispers", rtrs=(RTR,), host_name=b"laptop", xtr_id=bytes(15) + b"x")
    record = server.record()
    assert record is not None
    before = rtr.cache.bindings(record, world.now)

    thief.attach((locator("192.168.9.9"), NatBox(world, "203.0.113.66")))
    world.run(0.01)

    assert [binding.port for binding in rtr.cache.bindings(record, world.now)] == [binding.port for binding in before]


def test_rtrs_see_the_places_and_all_others_the_rtrs() -> None:
    _, server, _, _, _ = lispers_world()
    record = server.record()
    assert record is not None

    assert [is_rtr(candidate) for candidate in partial(record.locators, (RTR,))] == [False]
    assert [is_rtr(candidate) for candidate in partial(record.locators, (ip("192.0.2.99"),))] == [True]


def test_unauthenticated_rtrs_that_are_not_configured_are_not_used_and_the_node_says_why() -> None:
    world = World()
    MapServerHost(world), RtrHost(world)
    node = NodeHost(world, mode="lispers")
    node.attach((locator(), NatBox(world, NAT)))

    world.run(5.0)

    assert node.state == "stranded"
    told = next(event for _, event in node.events if event.kind == "natt-stranded")
    assert "natt: rtrs" in str(told.fields["text"])


def test_auto_finds_a_server_that_speaks_this_dialect_alone() -> None:
    world = World()
    server, _ = MapServerHost(world), RtrHost(world)
    server.deaf_to_e19 = True
    node = NodeHost(world, rtrs=(RTR,))
    node.attach((locator(), NatBox(world, NAT)))

    world.run(90.0)

    assert node.state == "relayed"
    assert node.traversal.machines[0].dialect is not None
    assert node.traversal.machines[0].dialect.value == "lispers"


def test_with_its_rtrs_named_a_node_does_not_wait_for_an_answer_in_the_other_dialect() -> None:
    world = World()
    server, _ = MapServerHost(world), RtrHost(world)
    server.deaf_to_e19 = True
    node = NodeHost(world, rtrs=(RTR,))
    node.attach((locator(), NatBox(world, NAT)))

    world.run(0.5)

    assert node.state == "relayed"
    assert node.traversal.machines[0].dialect is Dialect.LISPERS


def test_a_server_of_both_dialects_is_believed_in_the_one_that_proves_something_although_its_rtrs_are_named() -> None:
    world = World()
    MapServerHost(world)
    RtrHost(world)
    node = NodeHost(world, rtrs=(RTR,))
    node.attach((locator(), NatBox(world, NAT)))

    world.run(2.0)

    assert node.traversal.machines[0].dialect is Dialect.E19
    assert node.state == "relayed"


def test_without_a_named_rtr_the_dialect_that_proves_nothing_is_not_asked_for_first() -> None:
    world = World()
    server = MapServerHost(world)
    node = NodeHost(world)
    node.attach((locator(), NatBox(world, NAT)))

    world.run(0.01)

    assert server.asked <= 1
    assert not any(isinstance(one, SendFromDataPort) for _, one in node.sent)


def probe_in_data(node: NodeHost, outer_source: IpAddress, inner_port: int) -> list[NattEffect] | None:
    own = locator().address
    probe = MapRequest(9, None, (outer_source,), (EidRecord.of(node.eid),), is_probe=True).encode()
    return node.traversal.on_data_control(
        DataControl(probe, outer_source, inner_port, ip(NAT), CONTROL_PORT, outer_source, DATA_PORT, own, 2), 2.0
    )


@pytest.mark.parametrize("inner_port", [DATA_PORT, CONTROL_PORT, 61_000])
def test_a_probe_of_the_rtr_is_left_to_the_node_whatever_port_it_names_inside(inner_port: int) -> None:
    *_, node = lispers_world()

    assert probe_in_data(node, RTR, inner_port) is None


@pytest.mark.parametrize("inner_port", [DATA_PORT, CONTROL_PORT, 61_000])
def test_a_probe_in_data_from_a_stranger_is_refused_whatever_port_it_names_inside(inner_port: int) -> None:
    *_, node = lispers_world()

    effects = probe_in_data(node, ip("203.0.113.77"), inner_port)

    assert effects is not None
    assert Count("data_inner") in effects

"""A node that the datapath tells of large packets: which locators it probes, and what it makes of the answers."""

from __future__ import annotations

from msgspec.structs import replace

from lispmob.control.path_mtu.search import Way
from lispmob.control.probing.probing import ProbeConfig
from lispmob.node.node import Node, NodeEffect
from lispmob.protocol.effect import Event, SendControl, UsePathMtu
from lispmob.wire.map_reply import MapReply
from lispmob.wire.map_request import MapRequest
from lispmob.wire.record import Locator, MappingRecord
from tests.control.support import WIFI, ip, only, prefix
from tests.control.test_claims import learn
from tests.node.test_node import CONFIG, PEER, PEER_RLOC, datagram, node

PROBING = replace(CONFIG, probing=ProbeConfig())
PEER_PREFIX = prefix("10.2.0.0/24")
RECORD = MappingRecord.of(PEER_PREFIX, (Locator(PEER_RLOC),), ttl_min=1440)


def with_peer(machine: Node) -> Node:
    machine.on_locators([WIFI], 0.0)
    learn(machine, PEER, RECORD, 0.0)
    return machine


def test_large_packets_make_it_ask_the_locator_with_a_packet_as_large() -> None:
    machine = with_peer(node(PROBING))

    (probe,) = only(machine.on_large(WIFI.address, PEER_RLOC, 4341, 1.0), SendControl)

    asked = MapRequest.decode(probe.payload)
    assert (probe.destination, probe.port, probe.ifindex) == (PEER_RLOC, 4342, WIFI.ifindex)
    assert len(probe.payload) == 1500 - 28
    assert asked.is_probe
    assert asked.records[0].eid_prefix == PEER_PREFIX


def test_its_answer_passes_the_gate_and_counts_for_no_other_probe() -> None:
    machine = with_peer(node(PROBING))
    (probe,) = only(machine.on_large(WIFI.address, PEER_RLOC, 4341, 1.0), SendControl)
    nonce = MapRequest.decode(probe.payload).nonce

    machine.on_datagram(datagram(MapReply(nonce, (RECORD,), is_probe=True).encode(), PEER_RLOC), 1.1)

    known = machine.path_mtus[Way(WIFI.address, PEER_RLOC, 4341)]
    assert known is not None
    assert known.source.value == "probed"
    assert machine.counters["rx_nonce"] == 0
    assert machine.path_mtus.wake_at() is None


def test_a_size_that_falls_reaches_the_datapath_by_the_timer() -> None:
    machine, now = with_peer(node(PROBING)), 1.0
    effects: list[NodeEffect] = [*machine.on_large(WIFI.address, PEER_RLOC, 4341, now)]
    told: list[UsePathMtu] = []
    for _ in range(500):
        for probe in only(effects, SendControl):
            if probe.is_whole and len(probe.payload) + 28 <= 1400:
                reply = MapReply(MapRequest.decode(probe.payload).nonce, (RECORD,), is_probe=True).encode()
                machine.on_datagram(datagram(reply, PEER_RLOC), now)
        told += only(effects, UsePathMtu)
        at = machine.path_mtus.wake_at()
        if at is None:
            break
        now = at
        effects = machine.on_timer(now)

    assert told[-1] == UsePathMtu(WIFI.address, PEER_RLOC, 4341, 1400)
    assert now < 3.0


def test_without_probing_no_locator_is_asked_and_icmp_still_counts() -> None:
    machine = with_peer(node())

    assert machine.on_large(WIFI.address, PEER_RLOC, 4341, 1.0) == []
    told = machine.on_too_big(WIFI.address, PEER_RLOC, 4341, 1400, "icmp", 1.0)
    assert [event.kind for event in only(told, Event)] == ["mtu-learned"]
    assert only(told, SendControl) == []


def test_errors_that_prove_nothing_lead_to_no_event_but_to_a_probe() -> None:
    machine = with_peer(node(PROBING))

    told = machine.on_too_big(WIFI.address, PEER_RLOC, 4341, 576, "unproven", 1.0)

    assert only(told, Event) == []
    assert len(only(told, SendControl)) == 1


def test_a_pair_of_locators_that_reaches_no_peer_is_not_probed() -> None:
    machine = with_peer(node(PROBING))

    assert machine.on_large(WIFI.address, ip("192.0.2.99"), 4341, 1.0) == []
    assert machine.on_large(ip("192.0.2.98"), PEER_RLOC, 4341, 1.0) == []

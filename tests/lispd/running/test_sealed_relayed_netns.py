"""Two nodes behind NATs from their first start, without configured keys: the RTR between them reads nothing."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from lispmob.lab import behind_nats
from lispmob.lab import move as moves
from lispmob.lab.behind_nats import FAR, FAR_NODE, HOTEL, ROAMER
from lispmob.lab.demo.nat_stage import NatStage
from lispmob.lab.move import Kind, Move
from tests.crypto.support import needs_libcrypto
from tests.lab.capture import Capture
from tests.lispd.running.world import wait_for

pytestmark = [pytest.mark.netns, needs_libcrypto]

MARK = b"no RTR shall read this"
NODES = (ROAMER, FAR_NODE)


@pytest.fixture(scope="module")
def nats(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatStage]:
    with NatStage(tmp_path_factory.mktemp("nats"), kinds=()) as stage:
        stage.wait_until_registered()
        yield stage


def seal_of(nats: NatStage, name: str) -> dict[str, Any]:
    answer = nats.nodes[name].lispctl("key")
    assert answer is not None
    return dict(answer["peers"][0]["seal"]) if answer["peers"] else {"state": "none"}


def pings(nats: NatStage, source: str, other: str) -> bool:
    said = nats.lab[source].run("sh", "-c", f"ping -n -c 1 -W 1 {nats.identities[other].eid4} || true")
    return "bytes from" in said


def test_an_rtr_passes_on_handshakes_and_sealed_packets_and_reads_neither(nats: NatStage) -> None:
    for name, other in ((ROAMER, FAR_NODE), (FAR_NODE, ROAMER)):
        wait_for(
            lambda: pings(nats, name, other) and seal_of(nats, name)["state"] == "sealed",  # noqa: B023
            f"{name} seals: {seal_of(nats, name)}",
        )
    assert [seal_of(nats, name)["grade"] for name in NODES] == ["vouched", "vouched"]
    here, there = nats.identities[ROAMER].eid4, nats.identities[FAR_NODE].eid4
    captures = [Capture(nats.lab[server], "eth0") for server in behind_nats.SERVERS]
    with ExitStack() as open_:
        for capture in captures:
            open_.enter_context(capture)
        ends = [open_.enter_context(nats.lab[name].socket(socket.AF_INET, socket.SOCK_DGRAM)) for name in NODES]
        for end, eid in zip(ends, (here, there), strict=True):
            end.bind((str(eid), 9))
            end.settimeout(5.0)
        for sender, receiver, eid in ((ends[0], ends[1], there), (ends[1], ends[0], here)):
            sender.sendto(MARK, (str(eid), 9))
            assert receiver.recv(1000) == MARK
    passed = [packet for capture in captures for packet in capture.packets]

    assert any(here.packed + there.packed in packet for packet in passed), "it went by an RTR, which sees the EIDs"
    assert not [packet for packet in passed if MARK in packet]


def counted(nats: NatStage, name: str) -> int:
    answer = nats.nodes[FAR_NODE].lispctl("counters")
    return 0 if answer is None else int(answer["control"].get(name, 0))


def test_a_node_behind_a_nat_hears_from_the_map_server_when_its_peer_has_moved(nats: NatStage) -> None:
    wait_for(lambda: pings(nats, FAR_NODE, ROAMER) and counted(nats, "tx_subscription") > 0, "it subscribes")
    before = counted(nats, "rx_publication")

    moves.perform(nats.lab, Move(Kind.RESTORED, ROAMER, "lte0", HOTEL.name))  # another uplink, behind other NATs

    wait_for(lambda: counted(nats, "rx_publication") > before, "the Map-Server tells of it")
    assert pings(nats, FAR_NODE, ROAMER)


def test_where_the_map_server_cannot_reach_the_node_the_rtr_carries_its_publications(nats: NatStage) -> None:
    """The RTR is another machine; the NAT has forgotten the node's binding to the Map-Server."""
    before, gateway = counted(nats, "rx_publication"), nats.lab[f"gw-{FAR.name}"]
    map_server = nats.lab.topology.address("hub", "eth0")
    hook = "type filter hook prerouting priority -300;"
    gateway.run("nft", f"add table ip lapsed; add chain ip lapsed in {{ {hook} }}")
    gateway.run("nft", f"add rule ip lapsed in ip saddr {map_server} counter drop")
    try:
        moves.perform(nats.lab, Move(Kind.LINK_DOWN, ROAMER, "lte0"))

        wait_for(lambda: counted(nats, "rx_publication") > before, "the RTR carries it")
        assert pings(nats, FAR_NODE, ROAMER)
    finally:
        gateway.run("nft", "delete table ip lapsed")

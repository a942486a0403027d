"""Nodes behind one NAT, and one in the open: direct paths for those who ask for them, and the RTR for the others."""

from __future__ import annotations

import contextlib
import struct
import time
from collections.abc import Callable, Iterator
from ipaddress import IPv4Address, IPv4Network, ip_address
from pathlib import Path

import pytest

from lispmob.lab.build import Lab
from lispmob.lab.demo_service import Hub, Identity, Node, hub_configuration, node_configuration
from lispmob.lab.line import Impairment
from lispmob.lab.nat import Filtering, Nat, NatGateway
from lispmob.lab.ping import ping
from lispmob.lab.probe import Party
from lispmob.lab.tcp_stream import TcpStream
from lispmob.lab.topology import AccessNetwork, Host, Topology, Uplink
from lispmob.natt.shortcuts import ANSWER_S, CHECK_S, TRIES
from tests.lab.capture import Capture

pytestmark = pytest.mark.netns

PATIENCE_S = 15.0
CLOSING_S = CHECK_S + TRIES * ANSWER_S + 5.0
OPENING_S = 60.0  # a path that was given up is not tried for a while, and is reported again a while later
OVERLAY = ("10.1.0.0/16", "2001:db8:e1d::/48")
HOUSE = {"one": 10, "two": 11}  # they ask for direct paths
FLAT = {"three": 10, "four": 11}  # behind a NAT that hairpins; they do not ask
PEER = IPv4Address("198.18.41.10")
HUB = IPv4Address("198.51.100.10")
LINE = Impairment(delay_s=0.005)


class Stage:
    """Everything that runs."""

    def __init__(self, lab: Lab, directory: Path) -> None:
        self.lab = lab
        NatGateway(lab, "house", Nat(IPv4Address("203.0.113.51")))
        cone = Nat(IPv4Address("203.0.113.52"), filtering=Filtering.ENDPOINT_INDEPENDENT, hairpins=True)
        NatGateway(lab, "flat", cone)
        names = [*HOUSE, *FLAT, "peer"]
        self.identities = {
            name: Identity(name, ip_address(f"10.1.0.{number}"), ip_address(f"2001:db8:e1d::{number}"))
            for number, name in enumerate(names, start=1)
        }
        text = hub_configuration(list(self.identities.values()), [HUB], directory / "hub") + "rtr: {enabled: yes}\n"
        self.hub = Hub(lab["hub"], text, directory / "hub")
        self.hub.wait_until_listening(timeout_s=PATIENCE_S)
        self.texts = {
            name: node_configuration(one, HUB, OVERLAY, directory / name) for name, one in self.identities.items()
        }
        self.nodes = {
            name: Node(one, lab[name], self.text(name, direct=name in HOUSE), directory / name)
            for name, one in self.identities.items()
        }
        wait_for(lambda: all(" registered eid=" in self.log(name) for name in names), "the registrations")
        wait_for(lambda: all(self.is_routed(name) for name in names), "the routes into the overlay")

    def is_routed(self, name: str) -> bool:
        """True once the kernel has what a node needs to answer: its tables follow the registration."""
        shown = self.lab[name].run("sh", "-c", "ip -4 rule; ip -4 route show table 4341 2>/dev/null || true")
        return f"from {self.identities[name].eid4} lookup 4341" in shown and "lmn0" in shown

    def text(self, name: str, *, direct: bool) -> str:
        return self.texts[name] + f"natt: {{direct: {'yes' if direct else 'no'}}}\n"

    def log(self, name: str) -> str:
        return self.nodes[name].daemon.log_text()

    def party(self, name: str) -> Party:
        return Party(self.lab[name], self.identities[name].eid4)

    def lost(self, one: str, other: str, count: int = 5) -> int:
        return ping(
            self.lab[one], self.identities[other].eid4, self.identities[one].eid4, count=count, timeout_s=3.0
        ).lost

    def open_way(self, one: str, other: str) -> None:
        """Send packets both ways until the first node has a direct path."""
        eid = self.identities[other].eid4
        deadline = time.monotonic() + OPENING_S
        while last_word(self.log(one), f"eid={eid}/32") != "shortcut-opened":
            assert time.monotonic() < deadline, self.nodes[one].daemon.log_tail()
            assert self.lost(one, other, 1) == 0  # the RTR serves meanwhile


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    topology = Topology(
        networks=(
            AccessNetwork("house", IPv4Network("192.168.51.0/24"), line=LINE),
            AccessNetwork("flat", IPv4Network("192.168.52.0/24"), line=LINE),
            AccessNetwork("street", IPv4Network("198.18.41.0/24"), line=LINE),
            AccessNetwork("rack", IPv4Network("198.51.100.0/24"), line=LINE),
        ),
        hosts=(
            *(Host(name, (Uplink("eth0", "house", number),)) for name, number in HOUSE.items()),
            *(Host(name, (Uplink("eth0", "flat", number),)) for name, number in FLAT.items()),
            Host("peer", (Uplink("eth0", "street"),)),
            Host("hub", (Uplink("eth0", "rack"),)),
        ),
    )
    with Lab(topology) as lab, contextlib.ExitStack() as stack:
        made = Stage(lab, tmp_path_factory.mktemp("past"))
        for daemon in (made.hub.daemon, *(node.daemon for node in made.nodes.values())):
            stack.callback(daemon.stop)
        yield made


def test_two_nodes_behind_one_nat_that_ask_for_it_talk_without_leaving_the_house(stage: Stage) -> None:
    stage.open_way("one", "two")
    stage.open_way("two", "one")

    with Capture(stage.lab["gw-house"], "wan") as seen:
        lost = stage.lost("one", "two")

    assert lost == 0
    assert data_packets(seen.packets) == []
    shown = stage.nodes["one"].lispctl("map-cache")
    assert shown is not None
    ways = {entry["prefix"]: entry for entry in shown["entries"] if entry["source"] == "short-way"}
    way = ways[f"{stage.identities['two'].eid4}/32"]
    assert [locator["address"] for locator in way["locators"]] == ["192.168.51.11"]
    assert way["locators"][0]["rtt_ms"] > 0


def test_data_for_a_peer_in_the_open_goes_straight_there_and_its_answers_come_by_the_rtr(stage: Stage) -> None:
    stage.open_way("one", "peer")

    with Capture(stage.lab["gw-house"], "wan") as seen:
        lost = stage.lost("one", "peer")

    assert lost == 0
    ways = data_packets(seen.packets)
    assert {destination for _, destination in ways if destination != IPv4Address("203.0.113.51")} == {PEER}
    assert {source for source, _ in ways if source != IPv4Address("203.0.113.51")} == {HUB}


def test_a_tcp_stream_survives_that_the_other_one_wants_the_rtr_again(stage: Stage) -> None:
    about = f"eid={stage.identities['two'].eid4}/32"
    stage.open_way("one", "two")
    with TcpStream(stage.party("one"), stage.party("two")) as tcp:
        time.sleep(0.5)
        stage.nodes["two"].reconfigure(stage.text("two", direct=False))
        # Sealed packets are accepted from any address, so that no stall hastens the next probe of the path.
        wait_for(lambda: last_word(stage.log("one"), about) == "shortcut-closed", "the end of the short way", CLOSING_S)
        time.sleep(1.0)
        result = tcp.finish()
    stage.nodes["two"].reconfigure(stage.text("two", direct=True))

    assert result.is_alive, result


def test_two_nodes_behind_a_nat_that_hairpins_are_relayed_when_they_do_not_ask(stage: Stage) -> None:
    with Capture(stage.lab["gw-flat"], "wan") as seen:
        lost = stage.lost("three", "four")

    assert lost == 0
    assert {destination for _, destination in data_packets(seen.packets)} == {HUB, IPv4Address("203.0.113.52")}
    told = stage.nodes["three"].lispctl("netcheck")
    assert told is not None
    assert (told["entries"][0]["has_nat"], told["entries"][0]["seen_address"]) == (True, "203.0.113.52")


def data_packets(packets: list[bytes]) -> list[tuple[IPv4Address, IPv4Address]]:
    """Source and destination of packets with data of an EID: no control messages, in neither plane."""
    found = []
    for packet in packets:
        header = (packet[0] & 0xF) * 4
        udp, lisp = packet[header : header + 8], packet[header + 8 : header + 16]
        if packet[9] != 17 or len(lisp) < 8 or lisp[4:7] == b"\xff\xff\xff":
            continue
        ports = struct.unpack_from("!HH", udp)
        is_data = lisp[0] >> 4 == 0 and packet[header + 16 : header + 17] == b"\x45"  # no flag but I, then IPv4
        if is_data and {4341, 4342}.intersection(ports):
            found.append((IPv4Address(packet[12:16]), IPv4Address(packet[16:20])))
    return found


def last_word(log: str, about: str) -> str | None:
    """The kind of the last event about a direct path to this EID."""
    kinds = [line.split()[2] for line in log.splitlines() if about in line and " shortcut-" in line]
    return kinds[-1] if kinds else None


def wait_for(is_true: Callable[[], bool], what: str, patience_s: float = PATIENCE_S) -> None:
    deadline = time.monotonic() + patience_s
    while not is_true():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.05)

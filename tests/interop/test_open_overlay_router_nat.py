"""Behind a NAT, by Open Overlay Router's RTR and Map-Server, to its node: where its program is installed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

import pytest

from lispmob.lab.build import Lab
from lispmob.lab.nat import Mapping, Nat, NatGateway
from lispmob.lab.process import module
from lispmob.lab.topology import AccessNetwork, Host, Topology, Uplink
from lispmob.natt.deafness import REST_S
from tests.interop.open_overlay_router import NEEDS_IT, SERVER, THEIR_RTR, Meeting, our_node, rtr_set

pytestmark = NEEDS_IT

TOPOLOGY = Topology(
    networks=(
        AccessNetwork("rack", IPv4Network("198.51.100.0/24")),
        AccessNetwork("home", IPv4Network("192.168.71.0/24")),
        AccessNetwork("office", IPv4Network("198.19.1.0/24")),
    ),
    hosts=(
        Host("server", (Uplink("eth0", "rack", 10),)),
        Host("rtr", (Uplink("eth0", "rack", 11),)),
        Host("ours", (Uplink("wlan0", "home"),)),
        Host("theirs", (Uplink("eth0", "office"),)),
    ),
)
RTR = TOPOLOGY.address("rtr", "eth0")


@pytest.fixture
def meeting(build_lab: Callable[[Topology], Lab], tmp_path: Path) -> Iterator[Meeting]:
    made = Meeting(build_lab(TOPOLOGY), tmp_path)
    yield made
    for daemon in reversed(made.running):
        daemon.stop()


@pytest.fixture
def nat(meeting: Meeting) -> NatGateway:
    """Our node behind a NAT, by their RTR and Map-Server to their node, and back."""
    gateway = NatGateway(meeting.lab, "home", Nat(IPv4Address("203.0.113.71")))
    meeting.start_their_map_server(rtr_set(RTR))
    time.sleep(1)
    start_their_rtr(meeting)
    meeting.start_their_node()
    text = our_node(meeting.directory, "hmac-sha-1-96")
    meeting.start("ours", "our-node", text, lambda path: module("lispmob", "-c", path))
    assert meet(meeting)
    return gateway


def start_their_rtr(meeting: Meeting) -> None:
    meeting.start_theirs("rtr", "their-rtr", THEIR_RTR.replace("SERVER", str(SERVER)))


def meet(meeting: Meeting) -> bool:
    return meeting.reaches("ours", "10.1.0.1", "10.1.0.2") and meeting.reaches("theirs", "10.1.0.2", "10.1.0.1")


@pytest.mark.usefixtures("nat")
def test_their_node_is_reached_by_their_rtr_again_after_their_map_server_was_restarted(meeting: Meeting) -> None:
    meeting.stop("their-map-server")
    time.sleep(1.5)
    meeting.start_their_map_server(rtr_set(RTR))

    assert meet(meeting)


@pytest.mark.usefixtures("nat")
def test_their_node_is_reached_by_their_rtr_again_after_it_was_restarted(meeting: Meeting) -> None:
    meeting.stop("their-rtr")
    time.sleep(1.5)
    start_their_rtr(meeting)

    assert meet(meeting)


@pytest.mark.parametrize("what", ["forgets", "is renumbered", "is renumbered twice"])
def test_their_rtr_takes_us_up_again_when_our_nat(
    meeting: Meeting, nat: NatGateway, what: str, record_property: Callable[[str, object], None]
) -> None:
    """It keeps the binding that it knows, so our uplink needs another name there (natt/traversal.py)."""
    for number in range(2 if what.endswith("twice") else 1):
        if what == "forgets":
            nat.change(replace(nat.nat, mapping=Mapping.ADDRESS_AND_PORT_DEPENDENT))
            nat.reboot()
        else:
            nat.renumber(IPv4Address(f"203.0.113.{72 + number}"))
        began_at = time.monotonic()
        assert meet(meeting)
        record_property("back after s", round(time.monotonic() - began_at, 1))
        if what.endswith("twice") and number == 0:
            time.sleep(REST_S)  # how often another name is tried


@pytest.mark.timeout(240)
@pytest.mark.usefixtures("nat")
def test_their_node_is_reached_again_after_their_map_server_and_then_their_rtr_were_restarted(
    meeting: Meeting, record_property: Callable[[str, object], None]
) -> None:
    """Its node registers once a minute, and its RTR caches a negative answer for a minute."""
    meeting.stop("their-map-server")
    time.sleep(1.5)
    meeting.start_their_map_server(rtr_set(RTR))
    meeting.stop("their-rtr")
    time.sleep(1.5)
    start_their_rtr(meeting)
    began_at = time.monotonic()

    assert any(meet(meeting) for _ in range(5))
    record_property("back after s", round(time.monotonic() - began_at, 1))

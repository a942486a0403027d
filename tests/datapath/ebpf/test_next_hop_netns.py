"""Packets in quick succession leave with the link header of the one before, and only as long as that is right."""

from __future__ import annotations

import sys
import time

import pytest

from lispmob.datapath import tier
from tests.datapath.netlab import EID_A4, EID_B4, Lab, install_both, lab

pytestmark = [
    pytest.mark.netns,
    pytest.mark.skipif(not tier.OBJECT.exists(), reason="built without clang or libbpf's headers"),
]

BURST = 300  # in far less than a millisecond each
NEW = "02:00:00:00:00:77"
VALID_S = 0.002  # twice LED_FOR_NS (bpf/lib/out_flow.h)
SEND = """
import socket, sys
source, to, count = sys.argv[1:]
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as mouth:
    mouth.bind((source, 5001))
    for number in range(int(count)):
        mouth.sendto(number.to_bytes(4), (to, 5000))
"""


def send(both: Lab, count: int) -> None:
    both.a.namespace.run(sys.executable, "-c", SEND, EID_A4, EID_B4, str(count), timeout_s=20)


def arrived(both: Lab, count: int) -> int:
    """How many packets have come in all, when `count` are expected."""
    return len(both.b("udp_received", name="x", count=count))


def prepare(both: Lab) -> int:
    """Packets of a to b leave by the kernel's programs; returns how many b has received."""
    install_both(both, 4)
    both.b("udp_open", name="x", address=EID_B4, port=5000)
    deadline = time.monotonic() + 5
    while not both.a("counters").get("kernel_out_packets") and time.monotonic() < deadline:
        send(both, 1)
    return arrived(both, 0)


def test_a_burst_leaves_by_the_kernels_programs_and_arrives_whole() -> None:
    with lab(tier="ebpf") as both:
        before = prepare(both)
        left = both.a("counters")["kernel_out_packets"]

        send(both, BURST)

        assert arrived(both, before + BURST) == before + BURST
        assert both.a("counters")["kernel_out_packets"] - left >= BURST - 2  # one or two may report something


def test_a_neighbour_with_a_new_link_address_is_followed() -> None:
    """As after a gateway has been replaced: nothing tells the datapath, and the kernel's table knows."""
    with lab(tier="ebpf") as both:
        before, (link,) = prepare(both), both.links
        send(both, BURST)
        both.b.ip(f"link set dev {link.name} address {NEW}")
        both.a.ip(f"neigh replace {link.rloc('b', 4)} lladdr {NEW} dev {link.name} nud reachable")
        time.sleep(VALID_S)

        send(both, BURST)

        assert arrived(both, before + 2 * BURST) == before + 2 * BURST


def test_a_neighbour_that_is_not_known_any_more_is_looked_for_again() -> None:
    with lab(tier="ebpf") as both:
        before, (link,) = prepare(both), both.links
        send(both, BURST)
        both.a.ip(f"neigh flush dev {link.name}")
        time.sleep(VALID_S)

        send(both, 20)  # no more than the kernel holds until the neighbour has answered

        assert arrived(both, before + BURST + 20) == before + BURST + 20

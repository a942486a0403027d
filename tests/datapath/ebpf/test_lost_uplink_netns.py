"""An uplink goes, and the process that should hear of it is late: the kernel's programs know nevertheless."""

from __future__ import annotations

import sys
import time

import pytest

from lispmob.datapath import tier
from tests.datapath.netlab import EID_A4, EID_A6, EID_B4, EID_B6, Lab, lab

pytestmark = [
    pytest.mark.netns,
    pytest.mark.skipif(not tier.OBJECT.exists(), reason="built without clang or libbpf's headers"),
]

FAR = {4: "198.51.100.7", 6: "2001:db8:beef::7"}  # b's only locator of each family, reachable over either link
INNER = {4: (EID_A4, EID_B4), 6: (EID_A6, EID_B6)}
PACKETS = 20
SEND = """
import socket, sys
source, to = sys.argv[1:]
with socket.socket(socket.AF_INET6 if ":" in to else socket.AF_INET, socket.SOCK_DGRAM) as mouth:
    mouth.bind((source, 5001))
    for number in range({count}):
        mouth.sendto(number.to_bytes(4), (to, 5000))
"""


def prepare(both: Lab, family: int) -> None:
    """Two uplinks with a default route each; the flows of a to b leave by the kernel's programs, over the first one."""
    flag = f"-{family}"
    for link in both.links:
        both.a.ip(f"{flag} route add default via {link.rloc('b', family)} dev {link.name} metric {link.number + 10}")
    both.b.ip(f"{flag} addr add {FAR[family]} dev lo")
    both.a("uplinks", uplinks=[link.uplink("a", (family,), 1 + link.number) for link in both.links])
    own, other = INNER[family]
    both.a("install", prefix=other, locators=[FAR[family]])
    both.b("install", prefix=own, locators=[link.rloc("a", family) for link in both.links])
    both.b("udp_open", name="x", address=other, port=5000)
    both.a("udp_open", name="x", address=own, port=5002)
    deadline = time.monotonic() + 5
    while not both.a("counters").get("kernel_out_packets") and time.monotonic() < deadline:
        both.a("udp_send", name="x", to=other, port=5000)
        time.sleep(0.02)
    send(both, own, other, count=1)


def send(both: Lab, source: str, to: str, count: int) -> None:
    """Send from a process of its own: the engine's may be halted meanwhile."""
    both.a.namespace.run(sys.executable, "-c", SEND.format(count=count), source, to, timeout_s=20)


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize(
    "loss", ["link set up0 down", "link del up0", "addr flush dev up0 scope global", "route del default dev up0"]
)
def test_what_leaves_after_an_uplink_went_is_not_lost_however_late_it_is_noticed(loss: str, family: int) -> None:
    with lab(links=2, tier="ebpf") as both:
        prepare(both, family)
        time.sleep(0.1)
        before = len(both.b("udp_received", name="x", count=0))

        with both.a.halted():
            both.a.ip(f"-{family} {loss}" if loss.startswith(("addr", "route")) else loss)
            send(both, *INNER[family], count=PACKETS)

        assert both.a("counters")["kernel_out_packets"] > 0
        assert len(both.b("udp_received", name="x", count=before + PACKETS)) == before + PACKETS

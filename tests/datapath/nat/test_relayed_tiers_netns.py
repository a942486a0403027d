"""The ebpf tier behind a NAT: no UDP checksums, the port that owns the binding, and detection of silence."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from lispmob.datapath import tier
from tests.datapath.netlab import EID_A4, EID_B4, Lab, install_both, lab, open_sockets

pytestmark = [
    pytest.mark.netns,
    pytest.mark.skipif(not tier.OBJECT.exists(), reason="built without clang or libbpf's headers"),
]


@contextmanager
def behind_a_nat(data_port: str = "fixed", *, passes_zero: bool = True, outer: int = 4) -> Iterator[Lab]:
    """b is the relay of a, and answers from port 4341."""
    with lab(tier="ebpf") as both:
        link = both.links[0]
        install_both(both, outer)
        both.a("install", prefix=f"{EID_B4}/32", locators=["203.0.113.9" if outer == 4 else "2001:db8:dead::9"])
        relays = [link.rloc("b", outer)]
        both.a("relay", uplink=link.uplink("a", (outer,)), data_port=data_port, relays=relays, passes_zero=passes_zero)
        open_sockets(both)
        yield both


STALL_S = 0.06


def exchange(both: Lab, count: int = 20) -> tuple[int, int]:
    """Send a packet each way, repeatedly: how many of a's went through the kernel, and how many answers were late."""
    before = int(both.a("counters").get("kernel_out_packets", 0))
    late = 0
    for _ in range(count):
        start = time.monotonic()
        heard = len(both.b("udp_received", name="x", count=0)), len(both.a("udp_received", name="x", count=0))
        both.a("udp_send", name="x", to=EID_B4, port=5000)
        assert len(both.b("udp_received", name="x", count=heard[0] + 1)) == heard[0] + 1
        both.b("udp_send", name="x", to=EID_A4, port=5000)
        assert len(both.a("udp_received", name="x", count=heard[1] + 1)) == heard[1] + 1
        late += time.monotonic() - start > STALL_S
    return int(both.a("counters").get("kernel_out_packets", 0)) - before, late


def checksums(packets: list[str], source: str) -> set[tuple[int, bool]]:
    """Of outer IPv4 packets from an address: the source port, and whether there is a checksum."""
    own = [packet for packet in packets if packet[24:32] == bytes(map(int, source.split("."))).hex()]
    return {(int(one[40:44], 16), one[52:56] != "0000") for one in own}


def stalls(both: Lab) -> int:
    return sum(punt.startswith("Stalled") for punt in both.a("drain"))


@pytest.mark.parametrize("data_port", ["fixed", "ephemeral"])
def test_what_goes_to_a_relay_takes_the_short_way_from_the_port_of_the_binding(data_port: str) -> None:
    with behind_a_nat(data_port) as both:
        both.a("udp_send", name="x", to=EID_B4, port=5000)  # the first shows whether the path works
        assert both.b("udp_received", name="x", count=1)
        both.b("sniff", name="wire", interface=both.links[0].name)

        both.a("udp_send", name="x", to=EID_B4, port=5000, count=20)

        assert len(both.b("udp_received", name="x", count=21)) == 21
        # The first after a pause starts the clock, and one more reports if no answer comes.
        assert both.a("counters")["kernel_out_packets"] >= 18
        seen = checksums(both.b("sniffed", name="wire", count=20), both.links[0].rloc("a", 4))
        assert len({port for port, _ in seen}) == 1
        assert any(not has_checksum for _, has_checksum in seen)
        assert ((4341, False) in seen) == (data_port == "fixed")


def test_a_stream_through_a_relay_is_whole() -> None:
    with behind_a_nat() as both:
        both.b("tcp_serve", address=EID_B4, port=5001)

        assert both.a("tcp_send", source=EID_A4, to=EID_B4, port=5001, octets=20_000_000) == 20_000_000
        assert both.a("counters")["kernel_out_packets"] > 1000


@pytest.mark.parametrize(("passes_zero", "outer"), [(False, 4), (True, 6)])
def test_where_a_checksum_is_needed_every_packet_has_one(passes_zero: bool, outer: int) -> None:
    with behind_a_nat(passes_zero=passes_zero, outer=outer) as both:
        both.b("sniff", name="wire", interface=both.links[0].name)

        both.a("udp_send", name="x", to=EID_B4, port=5000, count=20)

        assert len(both.b("udp_received", name="x", count=20)) == 20
        assert "kernel_out_packets" not in both.a("counters")
        assert both.a("tier_now")[1].endswith(f"; threads send by up0 (IPv{outer}: UDP checksums are needed)")
        if outer == 4:
            seen = checksums(both.b("sniffed", name="wire", count=20), both.links[0].rloc("a", 4))
            assert seen == {(4341, True)}


def test_a_silence_after_an_exchange_is_reported_with_the_next_packet() -> None:
    with behind_a_nat() as both:
        exchange(both)
        both.a("drain")

        both.a("udp_send", name="x", to=EID_B4, port=5000)
        time.sleep(0.15)
        both.a("udp_send", name="x", to=EID_B4, port=5000)
        time.sleep(0.05)

        assert stalls(both) == 1


def test_a_single_packet_after_a_pause_that_is_not_answered_is_reported_by_the_clock() -> None:
    with behind_a_nat() as both:
        exchange(both)
        time.sleep(0.2)
        both.a("drain")

        both.a("udp_send", name="x", to=EID_B4, port=5000)
        time.sleep(0.2)

        assert stalls(both) == 1


def test_an_exchange_takes_the_short_way_and_is_no_silence() -> None:
    with behind_a_nat() as both:
        exchange(both, 1)
        both.a("drain")

        short, late = exchange(both, 40)

        assert short > 0
        assert stalls(both) <= late

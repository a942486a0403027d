"""Super-packets between two engines: nothing is lost or changed, or sent in a piece that the path cannot take."""

from __future__ import annotations

import time

import pytest

from tests.datapath.netlab import EID_A4, EID_A6, EID_B4, EID_B6, Lab, install_both, lab

pytestmark = pytest.mark.netns

INNER = {4: (EID_A4, EID_B4), 6: (EID_A6, EID_B6)}
OCTETS = 20_000_000


def open_udp(both: Lab, a: str, b: str) -> None:
    both.a("udp_open", name="x", address=a, port=5000)
    both.b("udp_open", name="x", address=b, port=5000)


@pytest.mark.parametrize("outer", [4, 6])
@pytest.mark.parametrize("inner", [4, 6])
def test_a_burst_of_datagrams_arrives_as_it_was_sent(inner: int, outer: int) -> None:
    with lab() as both:
        install_both(both, outer)
        a, b = INNER[inner]
        open_udp(both, a, b)

        both.a("udp_burst", name="x", to=b, port=5000, count=40, size=900)

        assert both.b("udp_received", name="x", count=40) == [[number, 900] for number in range(40)]
        # A packet is counted when the system call that sent it has returned: it may have arrived before that.
        both.a("wait_for_counter", name="out_packets", value=40)
        assert both.a("counters")["out_packets"] == both.b("counters")["data_packets"] == 40


@pytest.mark.parametrize("offload", [True, False])
@pytest.mark.parametrize("checksum", [True, False])
def test_a_stream_takes_either_kind_of_device(offload: bool, checksum: bool) -> None:
    with lab(offload=offload, udp_checksum=checksum) as both:
        install_both(both, 4)
        both.b("tcp_serve", address=EID_B4, port=5001)

        assert both.a("tcp_send", source=EID_A4, to=EID_B4, port=5001, octets=OCTETS) == OCTETS
        assert both.a("counters")["out_packets"] > OCTETS / 1440


def test_a_super_packet_that_waits_for_its_mapping_is_whole_when_it_leaves() -> None:
    with lab() as both:
        open_udp(both, EID_A4, EID_B4)
        both.a("udp_burst", name="x", to=EID_B4, port=5000, count=30, size=1000)
        time.sleep(0.1)

        both.a("install", prefix=f"{EID_B4}/32", locators=[both.links[0].rloc("b", 4)])

        assert both.b("udp_received", name="x", count=30) == [[number, 1000] for number in range(30)]
        assert both.a("counters")["out_pending"] == 1


def test_a_super_packet_that_waits_for_an_uplink_is_whole_when_it_leaves() -> None:
    with lab() as both:
        install_both(both, 4)
        open_udp(both, EID_A4, EID_B4)
        both.a("uplinks", uplinks=[])
        both.a("udp_burst", name="x", to=EID_B4, port=5000, count=30, size=1000)
        time.sleep(0.1)

        both.a("uplinks", uplinks=[both.links[0].uplink("a")])

        assert both.b("udp_received", name="x", count=30) == [[number, 1000] for number in range(30)]


def test_an_uplink_that_refuses_in_the_middle_of_a_burst_costs_nothing() -> None:
    with lab() as both:
        link = both.links[0]
        both.a("install", prefix=f"{EID_B4}/32", locators=[link.rloc("b", 4), link.rloc("b", 6)])
        open_udp(both, EID_A4, EID_B4)
        both.a.ip("-4 addr flush dev up0")

        both.a("udp_burst", name="x", to=EID_B4, port=5000, count=30, size=1000)

        assert len(both.b("udp_received", name="x", count=30)) == 30
        assert both.a("counters")["out_failover"] == 30


def test_datagrams_that_may_be_fragmented_are_each_of_a_burst() -> None:
    with lab(mtu_bytes=1300, tun_mtu_bytes=1440) as both:
        install_both(both, 4)
        open_udp(both, EID_A4, EID_B4)

        both.a("udp_burst", name="x", to=EID_B4, port=5000, count=30, size=1400)

        assert both.b("udp_received", name="x", count=30) == [[number, 1400] for number in range(30)]
        assert both.a("counters")["out_fragmented"] == 30


@pytest.mark.parametrize("feature", ["tx-udp-segmentation", "tx-checksum-ip-generic"])
def test_an_uplink_without_offloads_of_its_own_carries_streams_too(feature: str) -> None:
    with lab() as both:
        install_both(both, 4)
        both.b("tcp_serve", address=EID_B4, port=5001)
        both.a.run(f"ethtool -K up0 {feature} off")

        assert both.a("tcp_send", source=EID_A4, to=EID_B4, port=5001, octets=OCTETS) == OCTETS


def test_datagrams_too_large_for_the_path_are_told_once_for_all() -> None:
    with lab(mtu_bytes=1300, tun_mtu_bytes=1440) as both:
        install_both(both, 4)
        open_udp(both, EID_A4, EID_B4)

        both.a("udp_burst", name="x", to=EID_B4, port=5000, count=30, size=1400, sets_df=True)
        time.sleep(0.2)

        counters = both.a("counters")
        assert (counters["out_toobig"], counters["icmp_sent"]) == (30, 1)
        assert "mtu 1264" in both.a.ip(f"route get {EID_B4}")

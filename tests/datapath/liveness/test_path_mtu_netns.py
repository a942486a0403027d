"""Path MTUs in the datapath, in each tier: what is obeyed and reported, and which errors the senders get."""

from __future__ import annotations

import time

import pytest

from tests.datapath.full_size import announce, real_packet, send_full
from tests.datapath.netlab import EID_A4, EID_B4, Lab, install_both, lab

pytestmark = pytest.mark.netns


def test_an_error_about_a_packet_of_ours_is_obeyed_and_the_sender_is_told(both: Lab, outer: int) -> None:
    packet, theirs = real_packet(both), both.links[0].rloc("b", outer)

    for learned, mtu_bytes in enumerate((1400, 1300, 1280), start=1):
        announce(both, packet, mtu_bytes, outer)
        assert both.a("path_mtus") == {theirs: mtu_bytes}
        assert both.a("counters")["mtu_learned"] == learned
    assert sum("source='icmp'" in told for told in both.a("drain")) == 3

    assert send_full(both) == 0
    counters = both.a("counters")
    assert (counters["out_toobig"], counters["icmp_sent"]) == (1, 1)
    assert send_full(both) == 1  # the sender knows the MTU, and sends the packet in fragments


def test_an_uplink_that_takes_less_than_it_said_is_obeyed_and_the_sender_is_told(both: Lab, outer: int) -> None:
    both.a.ip("link set up0 mtu 1400")

    assert send_full(both) == 0

    assert both.a("path_mtus") == {both.links[0].rloc("b", outer): 1400}
    assert any("source='interface'" in told for told in both.a("drain"))
    assert both.a("counters")["icmp_sent"] == 1
    assert send_full(both) == 1


def test_what_probes_found_holds_and_large_packets_are_reported_now_and_then(both: Lab, outer: int) -> None:
    ours, theirs = (both.links[0].rloc(host, outer) for host in "ab")
    assert send_full(both, 5) == 5
    assert not any("LargeSent" in told for told in both.a("drain"))  # the control plane has not asked for it

    both.a("report_large", reports=True)
    both.a("udp_send", name="x", to=EID_B4, port=5000, count=5, sizes=[500])
    assert not any("LargeSent" in told for told in both.a("drain"))
    send_full(both, 20)
    told = [one for one in both.a("drain") if "LargeSent" in one]
    assert len(told) == 1
    assert ours in told[0]
    assert theirs in told[0]

    both.a("path_mtu", local=ours, locator=theirs, mtu_bytes=1300)
    assert send_full(both) == 0
    both.a("path_mtu", local=ours, locator=theirs, mtu_bytes=0)
    assert both.a("path_mtus") == {}


def test_large_packets_of_a_conversation_are_reported_and_none_is_overtaken_for_it(in_tier: str) -> None:
    if in_tier == "tun":
        pytest.skip("all its packets take the same way")
    with lab() as both:
        install_both(both, 4)
        both.a("udp_open", name="x", address=EID_A4, port=5000)
        both.b("udp_open", name="x", address=EID_B4, port=5000)
        both.a("patience", locator=both.links[0].rloc("b", 4), seconds=0.19, one_sided=60.0)
        both.a("report_large", reports=True)

        def converse(seconds: float) -> tuple[int, int]:
            """How many packets were sent in a conversation of that length, and how many reports there were of them."""
            sent = reports = 0
            until = time.monotonic() + seconds
            while time.monotonic() < until:
                both.b("udp_send", name="x", to=EID_A4, port=5000)
                both.a("udp_send", name="x", to=EID_B4, port=5000, sizes=[1200])
                time.sleep(0.02)
                sent += 1
                reports += sum(word.startswith("LargeSent") for word in both.a("drain"))
            return sent, reports

        assert converse(0.2)[1] == 1
        before = both.a("counters")
        sent, reports = converse(4.2)
        after = both.a("counters")

        assert reports == 2  # every two seconds
        assert after["out_packets"] - before["out_packets"] == sent
        by_threads = sent - (after["kernel_out_packets"] - before["kernel_out_packets"])
        assert by_threads < reports  # one, at most, when the machine pauses


def test_what_a_router_advertised_for_ipv6_is_heeded(both: Lab, outer: int) -> None:
    both.a.run("sysctl -w net.ipv6.conf.up0.mtu=1400")
    both.a("uplinks", uplinks=[both.links[0].uplink("a")])

    assert send_full(both) == (1 if outer == 4 else 0)

    assert both.a("counters").get("icmp_sent", 0) == (0 if outer == 4 else 1)

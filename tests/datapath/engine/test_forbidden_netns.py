"""A firewall of this host that refuses what the datapath sends: it is counted, and packets go on when it ends."""

from __future__ import annotations

import time

import pytest

from tests.datapath.netlab import EID_A4, EID_B4, Lab, lab

pytestmark = pytest.mark.netns

FIREWALL = "add table inet fw; add chain inet fw out { type filter hook output priority 0; }; "


def nft(both: Lab, rules: str) -> None:
    both.a.namespace.run("nft", rules)


def test_what_a_firewall_of_this_host_refuses_is_counted_and_goes_on_when_it_no_longer_does() -> None:
    with lab(links=1) as both:
        (link,) = both.links
        both.a("uplinks", uplinks=[link.uplink("a", (4,), 1)])
        both.b("uplinks", uplinks=[link.uplink("b", (4,), 1)])
        both.a("install", prefix=EID_B4, locators=[link.rloc("b", 4)])
        both.b("install", prefix=EID_A4, locators=[link.rloc("a", 4)])
        both.a("udp_open", name="x", address=EID_A4, port=5002)
        both.b("udp_open", name="x", address=EID_B4, port=5000)

        nft(both, FIREWALL + "add rule inet fw out udp dport 4341 drop")
        both.a("udp_send", name="x", to=EID_B4, port=5000)
        deadline = time.monotonic() + 5
        while not both.a("counters")["out_forbidden"]:
            assert time.monotonic() < deadline
        nft(both, "delete table inet fw")
        both.a("udp_send", name="x", to=EID_B4, port=5000)

        assert both.b("udp_received", name="x", count=1)

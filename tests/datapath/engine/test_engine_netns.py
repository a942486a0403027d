"""Two engines in two namespaces, and the packets of users between them, with the real kernel."""

from __future__ import annotations

import time

import pytest

from tests.datapath.netlab import EID_A4, EID_A6, EID_B4, EID_B6, Lab, install_both, lab, open_sockets, third_host

pytestmark = pytest.mark.netns

INNER = {4: (EID_A4, EID_B4), 6: (EID_A6, EID_B6)}


@pytest.mark.parametrize("outer", [4, 6])
@pytest.mark.parametrize("inner", [4, 6])
def test_packets_of_either_family_travel_over_either_family(inner: int, outer: int) -> None:
    with lab() as both:
        install_both(both, outer)
        a, b = INNER[inner]
        both.a("udp_open", name="x", address=a, port=5000)
        both.b("udp_open", name="x", address=b, port=5000)
        both.b("tcp_serve", address=b, port=5001)

        assert both.a("udp_send", name="x", to=b, port=5000, count=20, sizes=[64, 900, 1390]) == []

        assert len(both.b("udp_received", name="x", count=20)) == 20
        assert both.a("tcp_send", source=a, to=b, port=5001, octets=5_000_000) == 5_000_000
        time.sleep(0.1)  # TCP's FIN and its answer
        assert both.b("heard") == [both.links[0].rloc("a", outer)]
        assert both.a("used") == [f"{b}/{32 if inner == 4 else 128}"]
        assert both.a("used") == []
        assert both.a("counters")["out_packets"] > 20


def test_packets_wait_in_order_for_their_mapping_and_the_miss_is_told_once() -> None:
    with lab() as both:
        open_sockets(both)
        both.a("udp_send", name="x", to=EID_B4, port=5000, count=16)
        time.sleep(0.1)
        told = both.a("drain")

        both.a("install", prefix=f"{EID_B4}/32", locators=[both.links[0].rloc("b", 4)])

        assert len(told) == 1
        assert f"destination=IPv4Address('{EID_B4}')" in told[0]
        assert [number for number, _ in both.b("udp_received", name="x", count=16)] == list(range(16))


def test_no_more_packets_wait_than_agreed_and_the_newest_stay() -> None:
    with lab(pending_per_entry=4) as both:
        open_sockets(both)
        both.a("udp_send", name="x", to=EID_B4, port=5000, count=10)
        time.sleep(0.1)

        both.a("install", prefix=f"{EID_B4}/32", locators=[both.links[0].rloc("b", 4)])

        assert [number for number, _ in both.b("udp_received", name="x", count=5, timeout_s=0.5)] == [6, 7, 8, 9]
        assert both.a("counters")["out_pending_full"] == 6


@pytest.mark.parametrize("family", [4, 6])
def test_a_failed_resolution_tells_the_application(family: int) -> None:
    with lab() as both:
        a, b = INNER[family]
        prefix = f"{b}/{32 if family == 4 else 128}"
        both.a("udp_open", name="x", address=a, port=5000)
        both.a("udp_send", name="x", to=b, port=5000)
        time.sleep(0.1)

        assert both.a("drop_pending", prefix=prefix) == 1
        both.a("install", prefix=prefix, locators=[], disposition="DROP")

        assert both.a("tcp_connect", source=a, to=b, port=5001) == "No route to host"
        assert both.a("counters")["out_pending_failed"] == 1
        assert both.a("counters")["icmp_sent"] == 2


# Packets that leave in the microseconds between the kernel's change and its notification. The programs, unlike a
# socket, cannot see that a packet they redirect is dropped. It is hardly ever one.
UNHEARD = {"tun": 0, "ebpf": 1}


@pytest.mark.parametrize("loss", ["link set up0 down", "addr flush dev up0", "link del up0"])
def test_a_vanished_uplink_costs_no_packet_while_another_one_works(loss: str, in_tier: str) -> None:
    with lab(links=2) as both:
        for link in both.links:  # b has one locator, reachable over either link
            both.a.ip(f"route add 198.51.100.7 via {link.rloc('b', 4)} dev {link.name} metric {link.number + 1}")
        both.b.ip("addr add 198.51.100.7/32 dev lo")
        both.a("uplinks", uplinks=[both.links[0].uplink("a", (4,), 1), both.links[1].uplink("a", (4,), 2)])
        both.a("install", prefix=f"{EID_B4}/32", locators=["198.51.100.7"])
        open_sockets(both)

        both.a.start("udp_send", name="x", to=EID_B4, port=5000, count=1000, pause_s=0.001)
        both.b("udp_received", name="x", count=100)  # in the middle of the stream, however busy the machine is
        both.a.ip(loss)
        both.a.finish()

        assert len(both.b("udp_received", name="x", count=1000)) >= 1000 - UNHEARD[in_tier]
        assert both.a("counters")["out_failover"] > 100


def test_the_other_family_takes_over_when_a_family_is_gone() -> None:
    with lab() as both:
        link = both.links[0]
        both.a("install", prefix=f"{EID_B4}/32", locators=[link.rloc("b", 4), link.rloc("b", 6)])
        open_sockets(both)

        both.a("udp_send", name="x", to=EID_B4, port=5000, count=10)
        assert len(both.b("udp_received", name="x", count=10)) == 10
        both.a.ip("-4 addr flush dev up0")
        both.a("udp_send", name="x", to=EID_B4, port=5000, count=10)

        assert len(both.b("udp_received", name="x", count=20)) == 20
        assert sorted(both.b("heard")) == [link.rloc("a", 4), link.rloc("a", 6)]
        assert both.a("counters")["out_failover"] == 10


def test_packets_wait_while_the_only_uplink_refuses_and_leave_when_it_works_again() -> None:
    with lab() as both:
        link = both.links[0]
        install_both(both, 4)
        open_sockets(both)
        both.a.ip("addr flush dev up0")
        both.a("udp_send", name="x", to=EID_B4, port=5000, count=20)
        time.sleep(0.2)

        both.a.ip(f"addr add {link.rloc('a', 4)}/29 dev up0")
        both.a("udp_send", name="x", to=EID_B4, port=5000)

        assert len(both.b("udp_received", name="x", count=21)) == 21


def test_packets_wait_for_an_uplink_when_there_is_none_at_all() -> None:
    with lab() as both:
        install_both(both, 4)
        open_sockets(both)
        both.a("mark_move")
        both.a("uplinks", uplinks=[])
        both.a("udp_send", name="x", to=EID_B4, port=5000, count=50)
        time.sleep(0.2)

        both.a("uplinks", uplinks=[both.links[0].uplink("a")])

        assert [number for number, _ in both.b("udp_received", name="x", count=50)] == list(range(50))
        assert [told for told in both.a("drain") if told.startswith("TrafficResumed(is_outbound=True")]


def test_uplinks_that_come_and_go_cost_nothing_while_one_stays() -> None:
    with lab(links=2) as both:
        install_both(both, 4)
        open_sockets(both)
        first, second = both.links

        both.b.start("udp_received", name="x", count=400, timeout_s=5)
        for number in range(40):
            some = [first.uplink("a")] + ([second.uplink("a", priority=2)] if number % 2 else [])
            both.a("uplinks", uplinks=some)
            both.a("udp_send", name="x", to=EID_B4, port=5000, count=10)

        assert len(both.b.finish()) == 400


@pytest.mark.parametrize("outer", [4, 6])
def test_large_packets_without_df_are_fragmented_inside(outer: int) -> None:
    with lab(tun_mtu_bytes=1500) as both:
        install_both(both, outer)
        both.b("udp_open", name="x", address=EID_B4, port=5000)
        both.a("udp_open", name="x", address=EID_A4, port=5000, may_fragment=True)

        both.a("udp_send", name="x", to=EID_B4, port=5000, count=4, sizes=[1472])

        assert [size for _, size in both.b("udp_received", name="x", count=4)] == [1472] * 4
        assert both.a("counters")["out_fragmented"] == 4


@pytest.mark.parametrize(("inner", "outer"), [(4, 4), (4, 6), (6, 4), (6, 6)])
def test_the_source_of_too_large_packets_learns_what_fits(inner: int, outer: int) -> None:
    with lab(tun_mtu_bytes=1500) as both:
        install_both(both, outer)
        a, b = INNER[inner]
        both.b("udp_open", name="x", address=b, port=5000)
        both.a("udp_open", name="x", address=a, port=5000)
        both.b("tcp_serve", address=b, port=5001)

        moved = both.a("tcp_send", source=a, to=b, port=5001, octets=300_000)

        counters = both.a("counters")
        assert moved == 300_000
        assert counters["out_toobig"] > 0
        room = 1500 - (36 if outer == 4 else 56)
        assert f"mtu {room}" in both.a.ip(f"{'-6 ' if inner == 6 else ''}route get {b}")


@pytest.mark.parametrize("outer", [4, 6])
def test_ipv6_packets_up_to_1280_octets_pass_whatever_the_path(outer: int) -> None:
    with lab(mtu_bytes=1300, tun_mtu_bytes=1400) as both:
        install_both(both, outer)
        both.b("udp_open", name="x", address=EID_B6, port=5000)
        both.a("udp_open", name="x", address=EID_A6, port=5000)

        both.a("udp_send", name="x", to=EID_B6, port=5000, count=3, sizes=[1232])

        assert [size for _, size in both.b("udp_received", name="x", count=3)] == [1232] * 3
        assert both.a("counters")["out_outer_fragmented"] == 3
        both.a("udp_send", name="x", to=EID_B6, port=5000, sizes=[1300])
        time.sleep(0.1)
        assert "mtu 1280" in both.a.ip(f"-6 route get {EID_B6}")


@pytest.mark.parametrize("has_checksum", [False, True])
@pytest.mark.parametrize("outer", [4, 6])
def test_outer_headers_are_as_agreed(outer: int, has_checksum: bool) -> None:
    with lab(udp_checksum=has_checksum, offload=False) as both:  # one frame for each packet, because they are counted
        install_both(both, outer)
        both.b("udp_open", name="x", address=EID_B4, port=5000)
        both.b("sniff", name="s", interface="up0")
        for number in range(16):
            both.a("udp_open", name=f"x{number}", address=EID_A4, port=5000 + number)
            both.a("udp_send", name=f"x{number}", to=EID_B4, port=5000, count=2)
            both.a("wait_for_counter", name="out_packets", value=2 * number + 2)  # two or more of them leave in one run

        packets = [bytes.fromhex(one) for one in both.b("sniffed", name="s", count=34)]

        header = 20 if outer == 4 else 40
        checks = [datagram for datagram in packets if datagram[header + 12 : header + 15] == b"\xff\xff\xff"]
        packets = [datagram for datagram in packets if datagram not in checks]
        assert len(checks) == 2  # the question whether b copes with partial checksums, and its answer
        ports: dict[bytes, set[int]] = {}
        assert len(packets) == 32
        for packet in packets:
            ports.setdefault(packet[header + 36 : header + 38], set()).add(
                int.from_bytes(packet[header : header + 2], "big")
            )
            assert packet[header + 2 : header + 4] == b"\x10\xf5"  # UDP port 4341
            assert packet[8 if outer == 4 else 7] == packet[header + 16 + 8] == 64  # the TTL of the inner packet
            assert outer == 6 or packet[6:8] == b"\x40\0"  # DF set, not a fragment
            assert (packet[header + 6 : header + 8] != b"\0\0") == has_checksum
            assert packet[header + 8 : header + 16] == bytes(8)  # no flag set
        assert all(len(of_a_flow) == 1 for of_a_flow in ports.values())
        used = set.union(*ports.values())
        assert 1 < len(used) <= 8
        assert all(port >= 49152 for port in used)


@pytest.mark.parametrize("outer", [4, 6])
def test_an_uplink_sends_checksums_as_long_as_it_needs_them_by_the_same_sockets(outer: int) -> None:
    with lab(offload=False) as both:
        install_both(both, outer)
        link = both.links[0]
        both.b("udp_open", name="x", address=EID_B4, port=5000)
        both.b("sniff", name="s", interface="up0")
        both.a("udp_open", name="x", address=EID_A4, port=5000)
        for number, summed in enumerate(([], [link.rloc("a", outer)], [])):
            both.a("uplinks", uplinks=[link.uplink("a")], summed=summed)
            both.a("udp_send", name="x", to=EID_B4, port=5000, count=2)
            both.a("wait_for_counter", name="out_packets", value=2 * number + 2)

        packets = [bytes.fromhex(one) for one in both.b("sniffed", name="s", count=8)]

        header = 20 if outer == 4 else 40
        data = [one for one in packets if one[header + 12 : header + 15] != b"\xff\xff\xff"]
        assert [one[header + 6 : header + 8] != b"\0\0" for one in data] == [False, False, True, True, False, False]
        assert len({one[header : header + 2] for one in data}) == 1


def test_a_smaller_path_behind_a_router_is_learned_from_its_icmp() -> None:
    with lab(tun_mtu_bytes=1440) as both, third_host(both.b, "203.0.113.1/24", "203.0.113.2/24", mtu_bytes=1300):
        both.a.ip(f"route add 203.0.113.0/24 via {both.links[0].rloc('b', 4)}")
        both.a("install", prefix=f"{EID_B4}/32", locators=["203.0.113.2"])
        both.a("udp_open", name="x", address=EID_A4, port=5000)

        for _ in range(3):
            both.a("udp_send", name="x", to=EID_B4, port=5000, sizes=[1400])
            time.sleep(0.1)

        assert both.a("path_mtus") == {"203.0.113.2": 1300}
        assert any("MtuLearned" in told for told in both.a("drain"))
        both.a("uplinks", uplinks=[both.links[0].uplink("a", priority=7)])
        assert both.a("path_mtus") == {"203.0.113.2": 1300}
        both.a("uplinks", uplinks=[both.links[0].uplink("a", (6,))])
        assert both.a("path_mtus") == {}


def wait_until_settled(both: Lab) -> None:
    """Return when the kernel has reported all about the new uplinks: addresses, routes, programs."""
    before = both.a("context_switches")
    for _ in range(10):
        time.sleep(2)
        now = both.a("context_switches")
        if now == before:
            return
        before = now
    pytest.fail("it wakes up again and again")


def test_an_idle_datapath_never_wakes_up() -> None:
    with lab() as both:
        install_both(both, 4)
        wait_until_settled(both)

        before = both.a("context_switches")
        time.sleep(2)

        assert before > 0
        assert both.a("context_switches") == before


def test_guarded_destinations_and_foreign_sources_never_leave() -> None:
    with lab() as both:
        install_both(both, 4)
        both.a("guard", addresses=[EID_B4])
        both.a.ip("addr add 10.9.9.9/32 dev lmt0")
        both.a("udp_open", name="own", address=EID_A4, port=5000)
        both.a("udp_open", name="foreign", address="10.9.9.9", port=5000)

        both.a("udp_send", name="own", to=EID_B4, port=5000)
        both.a("udp_send", name="foreign", to="10.2.0.99", port=5000)
        time.sleep(0.1)

        counters = both.a("counters")
        assert counters["out_guard"] == 1
        assert counters["out_source"] == 1
        assert "out_packets" not in counters

"""The ebpf tier: what it forwards and what it leaves to the tun tier; a switch or a crash leaves nothing behind."""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any

import pytest

from lispmob.datapath import tier
from tests.datapath.netlab import EID_A4, EID_A6, EID_B4, EID_B6, Lab, RemoteEngine, install_both, lab

pytestmark = [
    pytest.mark.netns,
    pytest.mark.skipif(not tier.OBJECT.exists(), reason="built without clang or libbpf's headers"),
]

INNER = {4: (EID_A4, EID_B4), 6: (EID_A6, EID_B6)}
BPF_PROG_QUERY, TCX_INGRESS, TCX_EGRESS = 16, 46, 47


def open_udp(both: Lab, family: int = 4) -> tuple[str, str]:
    a, b = INNER[family]
    both.a("udp_open", name="x", address=a, port=5000)
    both.b("udp_open", name="x", address=b, port=5000)
    return a, b


def settle(both: Lab, to: str = EID_B4) -> None:
    """Send first packets: an uplink's first one leaves by the socket, and asks whether the other side copes."""
    both.a("udp_send", name="x", to=to, port=5000)
    both.a("wait_for_counter", name="out_packets", value=1)
    both.a("wait_for_counter", name="peer_proven", value=1)


def until_short(both: Lab, to: str) -> int:
    """Send until a packet of a's leaves through the kernel; returns how many have."""
    deadline = time.monotonic() + 5.0
    while not (sent := count(both.a, "kernel_out_packets")) and time.monotonic() < deadline:
        both.a("udp_send", name="x", to=to, port=5000)
        time.sleep(0.05)
    return sent


def count(host: RemoteEngine, name: str) -> int:
    return int(host("counters").get(name, 0))


def filters(host: RemoteEngine, interface: str) -> list[Any]:
    """The classic filters at the ingress of an interface."""
    found: list[Any] = json.loads(host.run(f"tc -j filter show dev {interface} ingress") or "[]")
    return found


@pytest.mark.parametrize("outer", [4, 6])
@pytest.mark.parametrize("inner", [4, 6])
def test_ordinary_packets_of_either_family_take_the_short_way_in_both_directions(inner: int, outer: int) -> None:
    with lab(tier="ebpf") as both:
        install_both(both, outer)
        _, b = open_udp(both, inner)
        settle(both, b)
        time.sleep(0.2)  # the kernel has reported the IPv6 routes of a new interface by then
        before = until_short(both, b)

        both.a("udp_send", name="x", to=b, port=5000, count=20, sizes=[64, 900, 1390])

        sent = count(both.a, "out_packets")
        assert len(both.b("udp_received", name="x", count=sent)) == sent
        assert count(both.a, "kernel_out_packets") == before + 20
        assert count(both.b, "kernel_data_packets") == sent
        sent_to = [packets for packets, *_ in both.a("traffic").values()]
        assert sent_to == [count(both.a, "out_packets")], "each is counted for its locator, too"


@pytest.mark.parametrize("tiers", [("ebpf", "tun"), ("tun", "ebpf")])
@pytest.mark.parametrize("outer", [4, 6])
@pytest.mark.parametrize("inner", [4, 6])
def test_a_stream_between_different_tiers_is_whole(inner: int, outer: int, tiers: tuple[str, str]) -> None:
    with lab(tier="ebpf") as both:
        for host, wish in zip((both.a, both.b), tiers, strict=True):
            assert host("tier", wish=wish)[0] == wish
        install_both(both, outer)
        a, b = INNER[inner]
        both.b("tcp_serve", address=b, port=5001)

        assert both.a("tcp_send", source=a, to=b, port=5001, octets=20_000_000) == 20_000_000

        assert count(both.a, "out_packets") > 20_000_000 / 1440
        assert (count(both.a, "kernel_out_packets") > 0) == (tiers[0] == "ebpf")
        assert (count(both.b, "kernel_data_packets") > 0) == (tiers[1] == "ebpf")


def test_what_is_unusual_falls_through_and_arrives() -> None:
    with lab(tier="ebpf", tun_mtu_bytes=1500) as both:
        install_both(both, 4)
        _, b = open_udp(both)
        both.a("udp_open", name="large", address=EID_A4, port=5001, may_fragment=True)
        settle(both)
        before = count(both.a, "kernel_out_packets")

        both.a("udp_send", name="large", to=b, port=5000, sizes=[1472])  # larger than the path MTU: we fragment it
        both.a("udp_send", name="large", to=b, port=5000, sizes=[4000])  # fragments already
        both.a("udp_burst", name="x", to=b, port=5000, count=10, size=900)  # a super-packet of datagrams
        arrived = [size for _, size in both.b("udp_received", name="x", count=13)]

        assert sorted(arrived[1:]) == sorted([1472, 4000, *[900] * 10])
        assert count(both.a, "out_fragmented") >= 1
        assert count(both.a, "kernel_out_packets") == before


def test_a_miss_and_an_answer_are_the_tun_tiers_and_the_rest_is_the_kernels() -> None:
    with lab(tier="ebpf") as both:
        _, b = open_udp(both)
        both.a("udp_send", name="x", to=b, port=5000, count=3)
        time.sleep(0.1)
        told = both.a("drain")
        both.a("install", prefix=f"{b}/32", locators=[both.links[0].rloc("b", 4)])
        both.a("wait_for_counter", name="peer_proven", value=1)

        both.a("udp_send", name="x", to=b, port=5000, count=5)

        assert len(both.b("udp_received", name="x", count=8)) == 8
        assert len([one for one in told if one.startswith("Miss")]) == 1
        assert count(both.a, "kernel_out_packets") >= 4


@pytest.mark.parametrize("change", ["remove", "drop", "guard", "eids"])
def test_an_update_takes_effect_with_the_next_packet(change: str) -> None:
    with lab(tier="ebpf") as both:
        install_both(both, 4)
        _, b = open_udp(both)
        settle(both)
        both.a("udp_send", name="x", to=b, port=5000, count=5)
        assert len(both.b("udp_received", name="x", count=6)) == 6
        sent = count(both.a, "out_packets")

        match change:
            case "remove":
                both.a("remove", prefix=f"{b}/32")
            case "drop":
                both.a("install", prefix=f"{b}/32", locators=[], disposition="DROP")
            case "guard":
                both.a("guard", addresses=[b])
            case _:
                both.a("eids", eids=["10.77.0.0/16"])
        both.a("udp_send", name="x", to=b, port=5000, count=5)
        time.sleep(0.1)

        assert count(both.a, "out_packets") == sent
        assert len(both.b("udp_received", name="x", count=7, timeout_s=0.1)) == 6


def test_a_longer_prefix_wins_and_leaves_the_shorter_one_when_it_goes() -> None:
    with lab(tier="ebpf") as both:
        _, b = open_udp(both)
        link = both.links[0]
        both.a("install", prefix="10.2.0.0/16", locators=[link.rloc("b", 4)])
        settle(both)
        both.a("install", prefix="10.2.0.0/24", locators=[link.rloc("b", 6)])
        both.a("udp_send", name="x", to=b, port=5000)
        both.a("udp_send", name="x", to=b, port=5000)
        time.sleep(0.1)
        both.a("remove", prefix="10.2.0.0/24")
        both.a("udp_send", name="x", to=b, port=5000)

        assert len(both.b("udp_received", name="x", count=4)) == 4
        assert sorted(both.a("used")) == ["10.2.0.0/16"]
        assert sorted(both.b("heard")) == [link.rloc("a", 4), link.rloc("a", 6)]


def test_what_is_used_and_heard_is_told_each_time_it_is_asked_for() -> None:
    with lab(tier="ebpf") as both:
        install_both(both, 4)
        _, b = open_udp(both)
        settle(both)
        for _ in range(3):
            both.a("udp_send", name="x", to=b, port=5000, count=3)
            time.sleep(0.05)

            assert both.a("used") == [f"{b}/32"]
            assert both.b("heard") == [both.links[0].rloc("a", 4)]
        assert both.a("used") == []
        assert both.b("heard") == []


def test_switching_back_and_forth_under_load_loses_nothing() -> None:
    with lab(tier="tun") as both:
        install_both(both, 4)
        _, b = open_udp(both)
        both.a.start("udp_send", name="x", to=b, port=5000, count=3000, pause_s=0.0005)
        for number in range(8):
            assert both.b("tier", wish=("ebpf", "tun")[number % 2])[0] == ("ebpf", "tun")[number % 2]
        both.a.finish()
        both.b.start("udp_send", name="x", to=EID_A4, port=5000, count=3000, pause_s=0.0005)
        for number in range(8):
            assert both.a("tier", wish=("ebpf", "tun")[number % 2])[0] == ("ebpf", "tun")[number % 2]
        both.b.finish()

        assert len(both.b("udp_received", name="x", count=3000)) == 3000
        assert len(both.a("udp_received", name="x", count=3000)) == 3000
        assert count(both.a, "data_packets") == count(both.b, "data_packets") == 3000


def test_counters_only_grow_when_the_tier_is_switched() -> None:
    with lab(tier="ebpf") as both:
        install_both(both, 4)
        _, b = open_udp(both)
        settle(both)
        both.a("udp_send", name="x", to=b, port=5000, count=9)
        before, traffic = both.a("counters"), both.a("traffic")

        both.a("tier", wish="tun")

        assert (both.a("counters"), both.a("traffic")) == (before, traffic)
        assert before["out_packets"] == 10


@pytest.mark.parametrize("allows_tcx", [True, False])
def test_both_ways_of_attaching_move_packets_and_are_gone_afterwards(allows_tcx: bool) -> None:
    with lab(tier="ebpf", allows_tcx=allows_tcx) as both:
        install_both(both, 4)
        _, b = open_udp(both)
        settle(both)
        both.a("udp_send", name="x", to=b, port=5000, count=4)
        assert len(both.b("udp_received", name="x", count=5)) == 5
        assert count(both.b, "kernel_data_packets") == 5
        assert bool(filters(both.b, "up0")) == (not allows_tcx)

        both.b("tier", wish="tun")
        both.a("udp_send", name="x", to=b, port=5000)

        assert filters(both.b, "up0") == []
        assert len(both.b("udp_received", name="x", count=6)) == 6
        assert count(both.b, "kernel_data_packets") == 5


def test_nothing_is_left_on_the_uplinks_when_the_process_is_killed() -> None:
    with lab(tier="ebpf") as both:
        programs = _programs(both.b)
        both.b.kill()  # SIGKILL

        assert programs > 0
        deadline = time.monotonic() + 5
        while _programs(both.b) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert _programs(both.b) == 0


def test_outer_ipv6_keeps_to_bound_sockets_where_the_kernel_would_lead_it_out_of_another_interface() -> None:
    def kernel_sent(both: Lab) -> int:
        """How many of 20 packets the kernel sends, once the engine has acted on the last change."""
        for _ in range(3):
            time.sleep(0.1)
            both.a("udp_send", name="x", to=EID_B4, port=5000)
        time.sleep(0.1)
        before = count(both.a, "kernel_out_packets")
        for _ in range(20):
            both.a("udp_send", name="x", to=EID_B4, port=5000)
        return count(both.a, "kernel_out_packets") - before

    with lab(tier="ebpf") as both:
        install_both(both, 6)
        open_udp(both)
        remote = both.links[0].rloc("b", 6)
        both.a.ip("link add other type veth peer name far")
        both.a.ip("-6 addr add 2001:db8:aa::1/64 dev other nodad")
        both.a.ip("link set far up")
        both.a.ip("link set other up")
        time.sleep(2.0)  # link-local addresses, and their routes
        beside_another = kernel_sent(both)
        both.a.ip(f"-6 route add {remote}/128 dev other")
        astray = kernel_sent(both)
        both.a.ip(f"-6 route del {remote}/128 dev other")
        straight_again = kernel_sent(both)

        assert (beside_another, astray, straight_again) == (20, 0, 20)
        assert len(both.b("udp_received", name="x", count=69)) == 69  # none is lost


def test_filters_that_a_crash_has_left_are_swept_by_the_next_start() -> None:
    with lab(tier="ebpf", allows_tcx=False) as both:
        both.b.kill()
        assert filters(both.b, "up0") != []

        again = RemoteEngine(both.b.namespace)
        try:
            again("open", tier="ebpf", eids=["10.2.0.1/32"], tun_name="lmt0")

            assert filters(again, "up0") == []
        finally:
            again.kill()


def test_an_uplink_that_goes_loses_its_program_and_one_that_comes_gets_it() -> None:
    with lab(links=2, tier="ebpf") as both:
        first, second = both.links
        assert _programs(both.b) == 2
        both.b("uplinks", uplinks=[first.uplink("b")])
        # Not at once: an interface often comes back with another address.
        until = time.monotonic() + 20
        while _programs(both.b) != 1 and time.monotonic() < until:
            time.sleep(0.2)
        assert _programs(both.b) == 1
        both.b("uplinks", uplinks=[first.uplink("b"), second.uplink("b")])

        assert _programs(both.b) == 2


def test_an_interface_made_again_under_its_old_number_has_its_program_again() -> None:
    with lab(links=2, tier="ebpf") as both:
        first, second = both.links
        number = json.loads(both.b.ip(f"-j link show {second.name}"))[0]["ifindex"]
        both.b.ip(f"link del {second.name}")
        both.b.ip(f"link add {second.name} index {number} type veth peer name other")
        both.b.ip(f"addr add {second.rloc('b', 4)}/29 dev {second.name}")
        both.b.ip(f"link set {second.name} up")
        assert _programs(both.b) == 1

        both.b("uplinks", uplinks=[first.uplink("b"), second.uplink("b", families=[4])])

        assert _programs(both.b) == 2


def _programs(host: RemoteEngine) -> int:
    """How many uplinks have a program of ours at their ingress, asked from inside the namespace."""
    code = "from tests.datapath.ebpf.test_tiers_netns import query; print(query())"
    return int(host.namespace.run(sys.executable, "-c", code, timeout_s=20))


def query() -> int:
    """The same for this namespace, by BPF_PROG_QUERY."""
    import ctypes
    import platform
    import socket
    import struct

    number = {"x86_64": 321, "aarch64": 280}[platform.machine()]
    libc = ctypes.CDLL(None, use_errno=True)
    found = 0
    for ifindex, name in socket.if_nameindex():
        if not name.startswith("up"):
            continue
        ids = ctypes.create_string_buffer(64)
        attributes = struct.pack("IIIIQI", ifindex, TCX_INGRESS, 0, 0, ctypes.addressof(ids), 16).ljust(72, b"\0")
        buffer = ctypes.create_string_buffer(attributes, len(attributes))
        if libc.syscall(number, BPF_PROG_QUERY, buffer, len(attributes)) == 0:
            found += struct.unpack_from("I", buffer, 24)[0]
    return found


def test_status_bits_that_say_nothing_new_keep_no_packet_off_the_short_way() -> None:
    with lab(tier="ebpf") as both:
        install_both(both, 4)
        _, b = open_udp(both)
        both.a("status_bits", bits=0b11)
        settle(both)

        both.a("udp_send", name="x", to=b, port=5000, count=100)

        assert len(both.b("udp_received", name="x", count=101)) == 101
        assert count(both.a, "kernel_out_packets") == 100
        # Each processor has to see the bits once, and this stream moves between them.
        assert count(both.b, "kernel_data_packets") >= 100 - min(os.cpu_count() or 1, 50)

"""An RTR whose BPF programs forward packets: they send the same octets as its threads, which still report the same."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from lispmob.datapath import tier
from tests.datapath.engine.test_acceptance_netns import PLAIN, udp
from tests.datapath.nat.test_rtr_netns import AN_RTR
from tests.datapath.netlab import EID_B4, EID_B6, Lab, lab
from tests.datapath.oracle import packet as oracle
from tests.datapath.packet.test_differential_netns import addressed, counted, ordinary
from tests.datapath.packets import datagram

pytestmark = [
    pytest.mark.netns,
    pytest.mark.skipif(not tier.OBJECT.exists(), reason="built without clang or libbpf's headers"),
]

PACKETS = 300
TRIES = 50
NODE_PORT, RTR_PORT = 40001, 4342
THERE = {4: "10.3.0.1", 6: "2001:db8:3::1"}
PLACES = {4: "192.0.2.3", 6: "2001:db8:ff00::3"}  # of the destination; the sender is at the link's address of b


@contextmanager
def an_rtr(family: int, *, is_bound: bool, sends_runs: bool = False) -> Iterator[Lab]:
    """a is an RTR, b has both nodes. `is_bound`: NATs are before them, and packets to them leave from port 4342.

    Packets on the link are segmented and have their checksums, except runs of datagrams of b's with `sends_runs`.
    """
    with lab(**AN_RTR) as both:
        link = both.links[0]
        here, there, own = link.rloc("b", family), PLACES[family], link.rloc("a", family)
        both.b.ip(f"addr add {there}/{29 if family == 4 else 64} dev {link.name}" + (" nodad" if family == 6 else ""))
        for host in (both.a,) if sends_runs else (both.a, both.b):
            host.run(f"ethtool -K {link.name} tx off gso off")
        for host in (both.a, both.b):
            host.run("sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1")
        for version, source in ((4, EID_B4), (6, EID_B6)):
            for eid, place, port in ((source, here, NODE_PORT), (THERE[version], there, 4341)):
                if is_bound:
                    traits = {"address": place, "port": port, "source": own, "source_port": RTR_PORT}
                    both.a("install_bound", prefix=f"{eid}/{32 if version == 4 else 128}", **traits)
                else:
                    both.a("install", prefix=f"{eid}/{32 if version == 4 else 128}", locators=[place])
        both.b("sniff", name="wire", interface=link.name)
        yield both


def from_node(both: Lab, family: int, payloads: list[str], *, source_port: int = NODE_PORT, **options: int) -> None:
    link = both.links[0]
    ends = {"source": link.rloc("b", family), "to": link.rloc("a", family), "source_port": source_port}
    both.b("inject", payloads=payloads, **ends, **options)


def onward(datagram: bytes) -> bytes:
    """The datagram with an inner packet from the sender to the destination."""
    inner = addressed(datagram[8:], outbound=False)
    version = inner[0] >> 4 if inner else 0
    if version == 4 and len(inner) >= 20:
        head = bytearray(inner)
        head[16:20] = bytes(map(int, THERE[4].split(".")))
        head[10:12] = b"\0\0"
        head[10:12] = oracle.checksum(bytes(head[: (head[0] & 15) * 4])).to_bytes(2, "big")
        inner = bytes(head)
    if version == 6 and len(inner) >= 40:
        inner = inner[:24] + bytes.fromhex("20010db8000300000000000000000001") + inner[40:]
    return datagram[:8] + inner


def outer(text: str) -> tuple[bytes, bytes] | None:
    """Outer headers without what may differ, and payload. The UDP checksum has to be correct, or zero."""
    packet = bytearray.fromhex(text)
    is_v4 = packet[0] >> 4 == 4
    header = 20 if is_v4 else 40
    if len(packet) < header + 8 or packet[9 if is_v4 else 6] != 17 or packet[header + 2 : header + 4] != b"\x10\xf5":
        return None
    if packet[header + 12 : header + 15] == b"\xff\xff\xff":  # the RTR's own questions (liveness/peer_check.c)
        return None
    if bytes(packet[header + 6 : header + 8]) != b"\0\0":
        addresses = packet[12:20] if is_v4 else packet[8:40]
        pseudo = bytes(addresses) + b"\0\x11" + bytes(packet[header + 4 : header + 6])
        assert oracle.checksum(pseudo + bytes(packet[header:])) == 0
        packet[header + 6 : header + 8] = b"\0\0"
    if is_v4:
        assert oracle.checksum(bytes(packet[:20])) == 0
        assert packet[6] & 0x40  # DF: the identification has no meaning (RFC 6864)
        packet[4:6] = packet[10:12] = b"\0\0"
    else:
        packet[1:4] = bytes([packet[1] & 0xF0, 0, 0])
    return bytes(packet[: header + 8]), bytes(packet[header + 8 :])


def passed_on_by(
    both: Lab, wish: str, family: int, payloads: list[str], **options: int
) -> tuple[Counter[tuple[bytes, bytes]], Counter[str]]:
    """What the RTR forwards for these datagrams, and what it counts."""
    link = both.links[0]
    assert both.a("tier", wish=wish)[0] == wish
    both.a("uplinks", uplinks=[link.uplink("a")])
    plain = PLAIN + udp(EID_B4, THERE[4])
    for _ in range(TRIES):  # until the neighbour and the route are known, and that the other side copes
        if family == 4 or wish == "tun":
            ends = {"source": PLACES[family], "to": link.rloc("a", family), "source_port": NODE_PORT}
            both.b("inject", payloads=[PLAIN + udp(THERE[4], EID_B4)], has_checksum=False, **ends)
        from_node(both, family, [plain], has_checksum=False)
        if wish == "tun" or both.a("counters").get("kernel_out_packets", 0):
            break
    both.b("heard_on", name="wire")
    before = Counter(both.a("counters"))
    from_node(both, family, payloads, **options)
    seen = [one for packet in both.b("heard_on", name="wire") if (one := outer(packet))]
    counts = counted(both, before, "data_", "out_", "kernel_out_")
    del counts["out_notlisp"]  # the host's own multicast
    return Counter(seen), counts


@pytest.mark.parametrize(
    ("family", "is_bound", "has_checksum", "ttl", "tos"),
    [(4, False, True, 64, 0), (4, True, False, 64, 2), (4, True, True, 2, 3), (6, False, False, 255, 2)],
)
def test_what_an_rtr_passes_on_is_the_same_in_both_tiers(
    family: int, is_bound: bool, has_checksum: bool, ttl: int, tos: int
) -> None:
    datagrams = [onward(datagram(seed)) for seed in range(PACKETS)]
    datagrams += [onward(bytes(8) + ordinary(seed)) for seed in range(PACKETS)]
    datagrams = [one for one in datagrams if len(one) < 1400]
    random.Random(5).shuffle(datagrams)
    payloads = [one.hex() for one in datagrams]
    options = {"has_checksum": has_checksum, "ttl": ttl, "tos": tos}
    with an_rtr(family, is_bound=is_bound) as both:
        by_tun, tun_counts = passed_on_by(both, "tun", family, payloads, **options)
        by_ebpf, ebpf_counts = passed_on_by(both, "ebpf", family, payloads, **options)

    assert by_ebpf == by_tun
    assert ebpf_counts.pop("kernel_out_packets") > PACKETS / 6
    assert ebpf_counts == tun_counts


def test_a_new_port_of_a_node_and_a_stranger_are_reported_though_the_kernel_passes_packets_on() -> None:
    plain = PLAIN + udp(EID_B4, THERE[4])
    with an_rtr(4, is_bound=True) as both:
        passed_on_by(both, "ebpf", 4, [plain] * 4)
        both.a("drain")
        from_node(both, 4, [plain] * 4)
        quiet = [punt for punt in both.a("drain") if punt.startswith("UnregisteredSource")]
        from_node(both, 4, [plain] * 4, source_port=NODE_PORT + 1)
        before = both.a("counters")["kernel_out_packets"]
        from_node(both, 4, [plain] * 4, source_port=NODE_PORT + 1)
        moved = [punt for punt in both.a("drain") if punt.startswith("UnregisteredSource")]
        after = both.a("counters")["kernel_out_packets"]
        from_node(both, 4, [PLAIN + udp("10.9.9.9", THERE[4])])
        both.a("wait_for_counter", name="data_source", value=1)
        strange = [punt for punt in both.a("drain") if punt.startswith("UnregisteredSource")]

    assert quiet == []
    assert ["is_registered=True" in punt for punt in moved] == [True]
    assert after - before == 4
    assert ["is_registered=False" in punt for punt in strange] == [True]


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("is_bound", [False, True])
def test_datagrams_in_a_row_stay_together_in_the_kernel_and_leave_as_by_the_threads(
    version: int, is_bound: bool
) -> None:
    eid = {4: EID_B4, 6: EID_B6}[version]
    payloads = [PLAIN + udp(eid, THERE[version], ttl=9, tos=1) for _ in range(40)]
    with an_rtr(4, is_bound=is_bound, sends_runs=True) as both:
        passed_on_by(both, "tun", 4, payloads[:1], tos=1)
        by_tun, tun_counts = passed_on_by(both, "tun", 4, payloads, tos=1, run=True)
        passed_on_by(both, "ebpf", 4, payloads[:1], tos=1)
        by_ebpf, ebpf_counts = passed_on_by(both, "ebpf", 4, payloads, tos=1, run=True)

    assert by_tun.total() == 40
    assert by_ebpf == by_tun
    assert ebpf_counts.pop("kernel_out_packets") == 40
    assert ebpf_counts == tun_counts


def test_datagrams_in_a_row_of_which_one_is_of_another_flow_are_left_to_the_threads() -> None:
    payloads = [PLAIN + udp(EID_B4, THERE[4], source_port=port) for port in (5000, 5000, 5001, 5000)]
    with an_rtr(4, is_bound=False, sends_runs=True) as both:
        seen, counts = passed_on_by(both, "ebpf", 4, payloads, run=True)

    assert seen.total() == counts["out_packets"] == 4
    assert counts["kernel_out_packets"] == 0


def test_a_node_that_sends_checksums_gets_them_again_though_another_host_sent_without() -> None:
    back = PLAIN + udp(THERE[4], EID_B4)
    plain = PLAIN + udp(EID_B4, THERE[4])
    with an_rtr(4, is_bound=True) as both:
        passed_on_by(both, "ebpf", 4, [plain], has_checksum=False)
        before = both.a("counters")["kernel_out_packets"]
        from_node(both, 4, [plain] * 2, has_checksum=False)
        without = both.a("counters")["kernel_out_packets"]
        ends = {"source": PLACES[4], "to": both.links[0].rloc("a", 4), "source_port": NODE_PORT}
        both.b("inject", payloads=[back] * 20, has_checksum=True, **ends)
        summed = both.a("counters")["kernel_out_packets"]
        from_node(both, 4, [plain] * 2, has_checksum=False)
        after = both.a("counters")["kernel_out_packets"]

    assert without - before == 2
    assert after - summed == 0


STRANGER = {4: "10.9.9.9", 6: "2001:db8:9::9"}


def inner_of(both: Lab) -> list[bytes]:
    """The inner packets that the RTR has forwarded since the last call."""
    seen = [one for packet in both.b("heard_on", name="wire") if (one := outer(packet))]
    return [payload[8:] for _, payload in seen]


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("wish", ["tun", "ebpf"])
def test_the_first_packets_of_a_stranger_to_a_node_go_on_once_the_mapping_names_the_place_they_came_from(
    family: int, wish: str
) -> None:
    payloads = [PLAIN + udp(STRANGER[family], THERE[family], source_port=port) for port in (1001, 1002, 1003)]
    width = 32 if family == 4 else 128
    with an_rtr(family, is_bound=True) as both:
        passed_on_by(both, wish, family, [])
        place = both.links[0].rloc("b", family)
        before = both.a("counters").get("data_source", 0)
        from_node(both, family, payloads)
        both.a("wait_for_counter", name="data_source", value=before + 3)
        early = inner_of(both)
        both.a("install", prefix=f"{STRANGER[family]}/{width}", locators=[place])
        late = inner_of(both)
        moved = both.a("counters").get("data_moved", 0)

    assert early == []
    assert [packet[-8:] for packet in late] == [bytes.fromhex(payload)[-8:] for payload in payloads]
    assert [packet[8 if family == 4 else 7] for packet in late] == [63] * 3
    assert moved == 3


@pytest.mark.parametrize("why", ["from elsewhere", "too late", "to nobody", "the sender has left its place"])
def test_what_waits_at_an_rtr_goes_on_only_soon_and_from_where_the_mapping_says(why: str) -> None:
    with an_rtr(4, is_bound=True) as both:
        passed_on_by(both, "tun", 4, [])
        link = both.links[0]
        source = EID_B4 if why == "the sender has left its place" else STRANGER[4]
        if why == "the sender has left its place":
            both.a("install", prefix=f"{EID_B4}/32", locators=["192.0.2.77"])
        before = both.a("counters").get("data_source", 0)
        to = "10.77.0.1" if why == "to nobody" else THERE[4]
        from_node(both, 4, [PLAIN + udp(source, to)])
        both.a("wait_for_counter", name="data_source", value=before + 1)
        if why == "too late":
            time.sleep(1.2)
        inner_of(both)
        place = "192.0.2.77" if why == "from elsewhere" else link.rloc("b", 4)
        both.a("install", prefix=f"{source}/32", locators=[place])
        seen = inner_of(both)

    assert len(seen) == (why == "the sender has left its place")

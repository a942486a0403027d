"""Each packet of the corpus through both tiers: what leaves and arrives is what the oracle says, octet by octet."""

from __future__ import annotations

import struct
import time
from collections import Counter
from ipaddress import ip_address, ip_network
from itertools import product

import pytest

from lispmob.datapath import tier
from lispmob.wire.address_class import may_be_eid
from tests.datapath import binding, corpus
from tests.datapath.netlab import Lab, install_both, lab
from tests.datapath.oracle import packet as oracle
from tests.datapath.oracle.segments import VnetHeader, segment

pytestmark = [
    pytest.mark.netns,
    pytest.mark.skipif(not tier.OBJECT.exists(), reason="built without clang or libbpf's headers"),
]

MTU = 1500
ADDED = {4: 36, 6: 56}
TRIES = 50
LISP_PORTS = (4341, 4342)
OURS = [ip_network("192.0.2.0/24"), ip_network("2001:db8:ff00::/40")]
SOFTWARE = ("tso", "gso", "tx-udp-segmentation", "tx-udp_tnl-segmentation", "tx-udp_tnl-csum-segmentation")


def turned(packet: bytes) -> bytes:
    """The packet from its destination to its source."""
    at, size = (12, 4) if packet[0] >> 4 == 4 else (8, 16)
    if len(packet) < at + 2 * size:
        return packet
    return packet[:at] + packet[at + size : at + 2 * size] + packet[at : at + size] + packet[at + 2 * size :]


def payloads_of(packet: bytes, room: int) -> list[bytes]:
    """The outer payloads that have to leave for a packet of an application on a."""
    inner = oracle.parse(packet)
    if inner is None or inner.ttl == 0 or not may_be_eid(inner.destination):
        return []
    ends = (inner.source.packed, inner.destination.packed)
    if ends[0] != corpus.ENDS[inner.version][0] or ends[0] == ends[1]:
        return []
    whole = packet[: inner.length]
    if inner.length > room and not inner.dont_fragment:
        return [oracle.encapsulate(fragment, 0) for fragment in binding.fragments(whole, room)]
    return [oracle.encapsulate(whole, 0)] if inner.length <= room else []


def delivered_of(payload: bytes, ttl: int, tos: int, *, copy_dscp: bool) -> list[bytes]:
    """The packets that a's host has to get for a datagram from b."""
    verdict, _, inner = oracle.read_data(payload)
    if verdict is not oracle.DataVerdict.OK or inner is None or not may_be_eid(inner.source):
        return []
    own = corpus.ENDS[inner.version][0]
    if inner.destination.packed != own or inner.source.packed == own or any(inner.source in net for net in OURS):
        return []
    if inner.protocol == 17 and inner.ports and inner.ports[1] in LISP_PORTS:
        return []
    stripped = oracle.strip(payload[8:], ttl, tos, copy_dscp)
    return [] if isinstance(stripped, str) else [stripped]


def payload_seen(packet: str) -> bytes | None:
    """The payload of an outer packet to the data port; its checksum must be correct, absent, or open as on a veth."""
    octets = bytes.fromhex(packet)
    header = 20 if octets[0] >> 4 == 4 else 40
    if (
        len(octets) < header + 8
        or octets[9 if header == 20 else 6] != 17
        or octets[header + 2 : header + 4] != b"\x10\xf5"
    ):
        return None
    ends = octets[12:20] if header == 20 else octets[8:40]
    datagram = octets[header:]
    if datagram[6:8] != b"\0\0":
        pseudo = ends + struct.pack("!II", len(datagram), 17)
        assert oracle.checksum(pseudo + datagram) == 0 or oracle.checksum(pseudo) ^ 0xFFFF == int.from_bytes(
            datagram[6:8], "big"
        )
    return datagram[8:]


def named(found: Counter[bytes], wanted: dict[bytes, str]) -> dict[str, int]:
    """The counts by the names of the corpus."""
    return {wanted.get(payload, payload.hex()): count for payload, count in found.items()}


def emit(both: Lab, wish: str, packets: list[bytes], heads: list[bytes] | None = None) -> Counter[bytes]:
    """The payloads that a's engine sends for these packets."""
    assert both.a("tier", wish=wish)[0] == wish
    for _ in range(TRIES):  # until the neighbour is resolved
        both.a("emit", interface="lmt0", packets=[corpus.ipv4(corpus.udp()).hex()])
        if any(map(payload_seen, both.b("heard_on", name="wire"))):
            break
    texts = None if heads is None else [head.hex() for head in heads]
    both.a("emit", interface="lmt0", packets=[packet.hex() for packet in packets], heads=texts)
    seen = [payload for packet in both.b("heard_on", name="wire") if (payload := payload_seen(packet)) is not None]
    return Counter(seen)


@pytest.mark.parametrize("outer", [4, 6])
@pytest.mark.parametrize("inner", [4, 6])
def test_each_packet_of_the_corpus_leaves_as_the_oracle_says(inner: int, outer: int) -> None:
    room = MTU - ADDED[outer]
    packets = dict(corpus.packets(inner, room))
    expected: Counter[bytes] = Counter()
    wanted: dict[bytes, str] = {}
    for name, packet in packets.items():
        payloads = payloads_of(packet, room)
        expected.update(payloads)
        wanted |= dict.fromkeys(payloads, name)
    with lab(tun_mtu_bytes=MTU) as both:
        install_both(both, outer)
        for everything in ("0.0.0.0/0", "::/0"):  # of every class of addresses
            both.a("install", prefix=everything, locators=[both.links[0].rloc("b", outer)])
        both.a.run("ethtool -K up0 tx-udp-segmentation off")  # otherwise a veth keeps a run in one frame
        both.b("sniff", name="wire", interface="up0")
        seen = {wish: emit(both, wish, list(packets.values())) for wish in ("tun", "ebpf")}
        shortcut = both.a("counters")["kernel_out_packets"]

    assert len(packets) > 200
    assert len(expected) / 4 < shortcut < len(expected)
    for found in seen.values():
        assert named(expected - found, wanted) == {}
        assert named(found - expected, wanted) == {}


def deliver(
    both: Lab, family: int, payloads: list[bytes], ttl: int, tos: int, *, has_checksum: bool, count: int
) -> Counter[bytes]:
    """What a's host gets for datagrams from b, once nothing more comes. Waits some seconds for `count`."""
    link = both.links[0]
    both.a("heard_on", name="host")
    source, to = link.rloc("b", family), link.rloc("a", family)
    texts = [payload.hex() for payload in payloads]
    both.b("inject", source=source, to=to, payloads=texts, ttl=ttl, tos=tos, has_checksum=has_checksum)
    destinations = [ends[0] for ends in corpus.ENDS.values()]
    found: Counter[bytes] = Counter()
    deadline = time.monotonic() + 5.0
    while True:
        packets = map(bytes.fromhex, both.a("heard_on", name="host"))
        found.update(
            packet for packet in packets if (packet[16:20] if packet[0] >> 4 == 4 else packet[24:40]) in destinations
        )
        if found.total() >= count or time.monotonic() > deadline:
            return found


def check_arrivals(wish: str, outer: int, payloads: dict[str, bytes], ttl: int, tos: int, **options: bool) -> None:
    has_checksum = options.pop("has_checksum")
    expected: Counter[bytes] = Counter()
    wanted: dict[bytes, str] = {}
    for name, payload in payloads.items():
        delivered = delivered_of(payload, ttl, tos, copy_dscp=True)
        expected.update(delivered)
        wanted |= dict.fromkeys(delivered, name)
    with lab(offload=False, tier=wish) as both:
        both.a("sniff", name="host", interface="lmt0")
        count = expected.total()
        found = deliver(both, outer, list(payloads.values()), ttl, tos, has_checksum=has_checksum, count=count)
    assert expected
    assert named(expected - found, wanted) == {}
    assert named(found - expected, wanted) == {}


@pytest.mark.parametrize("wish", ["tun", "ebpf"])
@pytest.mark.parametrize("outer", [4, 6])
@pytest.mark.parametrize("inner", [4, 6])
@pytest.mark.parametrize("has_checksum", [True, False])
def test_each_packet_of_the_corpus_arrives_as_the_oracle_says(
    has_checksum: bool, inner: int, outer: int, wish: str
) -> None:
    room = MTU - ADDED[outer]
    packets = {name: turned(packet) for name, packet in corpus.packets(inner, room) if len(packet) <= room}
    payloads = {name: oracle.encapsulate(packet, 0) for name, packet in packets.items()}

    check_arrivals(wish, outer, payloads, 64, 0, has_checksum=has_checksum)


@pytest.mark.parametrize("wish", ["tun", "ebpf"])
@pytest.mark.parametrize("outer", [4, 6])
def test_every_pair_of_ecn_fields_time_to_live_and_dscp_arrives_as_the_oracle_says(outer: int, wish: str) -> None:
    kinds = ("TTL", "TOS", "hop limit", "traffic class")
    with lab(offload=False, tier=wish) as both:
        both.a("sniff", name="host", interface="lmt0")
        for ttl, tos in product((1, 64, 255), (0, 1, 2, 3, 0xB8, 0xBB)):
            payloads = [
                oracle.encapsulate(turned(packet), 0)
                for version in (4, 6)
                for name, packet in corpus.packets(version, MTU)
                if name.startswith(kinds)
            ]
            expected = Counter(
                datagram for payload in payloads for datagram in delivered_of(payload, ttl, tos, copy_dscp=True)
            )

            count = expected.total()
            assert deliver(both, outer, payloads, ttl, tos, has_checksum=False, count=count) == expected


def vnet(head: VnetHeader) -> bytes:
    return struct.pack(
        "=BBHHHH", head.flags, head.gso_type, head.hdr_len, head.gso_size, head.csum_start, head.csum_offset
    )


@pytest.mark.parametrize("outer", [4, 6])
@pytest.mark.parametrize("inner", [4, 6])
def test_super_packets_of_every_size_leave_as_the_segments_that_they_stand_for(inner: int, outer: int) -> None:
    supers = {name: (head, packet) for name, head, packet in corpus.super_packets(inner)}
    expected: Counter[bytes] = Counter()
    wanted: dict[bytes, str] = {}
    for name, (head, packet) in supers.items():
        payloads = [oracle.encapsulate(datagram, 0) for datagram in segment(head, packet) or []]
        assert payloads
        expected.update(payloads)
        wanted |= dict.fromkeys(payloads, name)
    with lab(tun_mtu_bytes=MTU) as both:
        install_both(both, outer)
        for feature in SOFTWARE:
            both.a.run(f"ethtool -K up0 {feature} off")
        both.b("sniff", name="wire", interface="up0")
        heads, packets = [vnet(head) for head, _ in supers.values()], [packet for _, packet in supers.values()]
        seen = {"tun": emit(both, "tun", packets, heads)}
        both.a.run("ethtool -K up0 tx-checksum-ip-generic off")  # otherwise the inner checksum stays partial, too
        seen["ebpf"] = emit(both, "ebpf", packets, heads)
        shortcut = both.a("counters")["kernel_out_packets"]

    assert shortcut > sum(expected.values()) / 4
    for found in seen.values():
        found.pop(oracle.encapsulate(corpus.ipv4(corpus.udp()), 0), None)
        assert named(expected - found, wanted) == {}
        assert named(found - expected, wanted) == {}


def test_the_corpus_names_each_packet_once() -> None:
    for version in (4, 6):
        names = [name for name, _ in corpus.packets(version, 1464)]
        assert [name for name, count in Counter(names).items() if count > 1] == []
        names = [name for name, _, _ in corpus.super_packets(version)]
        assert len(set(names)) == len(names)
    assert ip_address("10.1.0.1").packed == corpus.ENDS[4][0]

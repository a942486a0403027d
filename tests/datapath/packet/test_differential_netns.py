"""The same random packets, awkward ones among them, through the oracle and both tiers: every octet is the same."""

from __future__ import annotations

import random
from collections import Counter
from ipaddress import ip_address

import pytest

from lispmob.datapath import tier
from tests.datapath.netlab import EID_A4, EID_A6, EID_B4, EID_B6, Lab, install_both, lab
from tests.datapath.oracle import packet as oracle
from tests.datapath.packets import awkward, datagram

pytestmark = [
    pytest.mark.netns,
    pytest.mark.skipif(not tier.OBJECT.exists(), reason="built without clang or libbpf's headers"),
]

PACKETS = 400
TRIES = 50
OWN = {
    4: (ip_address(EID_A4).packed, ip_address(EID_B4).packed),
    6: (ip_address(EID_A6).packed, ip_address(EID_B6).packed),
}


def ordinary(seed: int) -> bytes:
    """A complete TCP, UDP or ICMP packet."""
    chance = random.Random(seed)
    body = chance.randbytes(chance.choice([20, 21, 64, 500, 1300]))
    protocol, ttl, tos = chance.choice([6, 17, 1, 132, 47]), chance.choice([1, 2, 64, 255]), chance.randrange(256)
    if chance.random() < 0.5:
        head = (
            bytes([0x45, tos])
            + (20 + len(body)).to_bytes(2, "big")
            + b"\0\7\x40\0"
            + bytes([ttl, protocol])
            + bytes(10)
        )
        return head + body
    return (
        (0x60000000 | tos << 20).to_bytes(4, "big")
        + len(body).to_bytes(2, "big")
        + bytes([protocol, ttl])
        + bytes(32)
        + body
    )


def addressed(packet: bytes, *, outbound: bool) -> bytes:
    """The same packet between the two EIDs, with a correct IPv4 checksum if it had one or can have one."""
    changed = bytearray(packet)
    version = changed[0] >> 4 if changed else 0
    if version not in OWN or len(changed) < (20 if version == 4 else 40):
        return packet
    source, destination = OWN[version] if outbound else OWN[version][::-1]
    if version == 6:
        changed[8:40] = source + destination
        return bytes(changed)
    changed[12:20] = source + destination
    changed[10:12] = b"\0\0"
    changed[10:12] = oracle.checksum(bytes(changed[: (changed[0] & 15) * 4])).to_bytes(2, "big")
    return bytes(changed)


def outer(packet: str) -> tuple[bytes, bytes] | None:
    """Outer headers without what may differ (the flow label of IPv6), and payload."""
    octets = bytearray.fromhex(packet)
    is_v4 = octets[0] >> 4 == 4
    header = 28 if is_v4 else 48
    if len(octets) < header or octets[9 if is_v4 else 6] != 17 or octets[header - 6 : header - 4] != b"\x10\xf5":
        return None
    if not is_v4:
        octets[1:4] = bytes([octets[1] & 0xF0, 0, 0])
    return bytes(octets[:header]), bytes(octets[header:])


def counted(both: Lab, before: Counter[str], *kinds: str) -> Counter[str]:
    """How much a's counters of these kinds grew; how many ICMP errors it may send depends on the clock."""
    after = Counter(both.a("counters"))
    return Counter({name: after[name] - before[name] for name in after if name.startswith(kinds)}) - Counter()


def sent_by(both: Lab, wish: str, packets: list[bytes]) -> tuple[Counter[tuple[bytes, bytes]], Counter[str]]:
    """What a's engine sends for these packets, and what it counts."""
    assert both.a("tier", wish=wish)[0] == wish
    for _ in range(TRIES):  # until the neighbour is resolved
        both.a("emit", interface="lmt0", packets=[addressed(ordinary(3), outbound=True).hex()])
        if any(map(outer, both.b("heard_on", name="wire"))):
            break
    before = Counter(both.a("counters"))
    both.a("emit", interface="lmt0", packets=[packet.hex() for packet in packets])
    seen = [one for packet in both.b("heard_on", name="wire") if (one := outer(packet))]
    return Counter(seen), counted(both, before, "out_", "kernel_out_")


@pytest.mark.parametrize("family", [4, 6])
def test_what_leaves_is_the_same_in_both_tiers_and_what_the_oracle_makes_of_it(family: int) -> None:
    packets = [addressed(awkward(seed), outbound=True) for seed in range(PACKETS)]
    packets += [addressed(ordinary(seed), outbound=True) for seed in range(PACKETS)]
    packets = [packet for packet in packets if len(packet) >= 20]
    random.Random(7).shuffle(packets)
    with lab(tun_mtu_bytes=1500) as both:
        install_both(both, family)
        both.b("sniff", name="wire", interface="up0")

        by_tun, tun_counts = sent_by(both, "tun", packets)
        by_ebpf, ebpf_counts = sent_by(both, "ebpf", packets)

    assert by_ebpf == by_tun
    shortcut = ebpf_counts.pop("kernel_out_packets")
    assert shortcut > PACKETS / 2
    assert ebpf_counts == tun_counts
    whole = {inner.length: inner for packet in packets if (inner := oracle.parse(packet))}
    made = {oracle.encapsulate(packet[: inner.length], 0) for packet in packets if (inner := oracle.parse(packet))}
    assert whole
    assert {payload for _, payload in by_tun} <= made


def delivered_by(both: Lab, wish: str, payloads: list[str], ttl: int, tos: int) -> tuple[Counter[str], Counter[str]]:
    """What a's engine hands to its host for datagrams from b, and what it counts."""
    assert both.a("tier", wish=wish)[0] == wish
    link = both.links[0]
    both.a("heard_on", name="host")
    before = Counter(both.a("counters"))
    both.b(
        "inject",
        source=link.rloc("b", 4),
        to=link.rloc("a", 4),
        payloads=payloads,
        ttl=ttl,
        tos=tos,
        has_checksum=False,
    )
    seen = Counter(both.a("heard_on", name="host"))
    return seen, counted(both, before, "data_", "in_", "kernel_data_")


@pytest.mark.parametrize(("ttl", "tos"), [(64, 0), (2, 3), (255, 1), (1, 0xBA)])
def test_what_arrives_is_the_same_in_both_tiers_and_what_the_oracle_makes_of_it(ttl: int, tos: int) -> None:
    datagrams = [(one := datagram(seed))[:8] + addressed(one[8:], outbound=False) for seed in range(PACKETS)]
    datagrams += [bytes(8) + addressed(ordinary(seed), outbound=False) for seed in range(PACKETS)]
    datagrams = [one for one in datagrams if len(one) < 1400]
    random.Random(9).shuffle(datagrams)
    payloads = [one.hex() for one in datagrams]
    with lab(offload=False) as both:
        both.a("sniff", name="host", interface="lmt0")
        by_tun, tun_counts = delivered_by(both, "tun", payloads, ttl, tos)
        by_ebpf, ebpf_counts = delivered_by(both, "ebpf", payloads, ttl, tos)

    shortcut = ebpf_counts.pop("kernel_data_packets", 0)
    assert shortcut > PACKETS / 4
    assert by_ebpf == by_tun
    assert ebpf_counts == tun_counts
    made = {
        stripped.hex()
        for one in datagrams
        if oracle.read_data(one)[0] is oracle.DataVerdict.OK
        and isinstance(stripped := oracle.strip(one[8:], ttl, tos, copy_dscp=True), bytes)
    }
    assert {packet for packet in by_tun if bytes.fromhex(packet)[12:16] == OWN[4][1]} <= made

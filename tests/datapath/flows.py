"""Super-packets, and runs of packets of one flow that are correct, nearly correct, or only look like it."""

from __future__ import annotations

import random
import struct

from hypothesis import strategies as st

from tests.datapath.oracle import packet as oracle
from tests.datapath.oracle.segments import (
    GSO_ECN,
    GSO_TCPV4,
    GSO_TCPV6,
    GSO_UDP_L4,
    NEEDS_CSUM,
    VnetHeader,
    partial_checksum,
    segment,
)

V4 = b"\x0a\x01\0\1\x0a\x02\0\1"
V6 = bytes.fromhex("20010db800010000000000000000000120010db8000200000000000000000001")
HOP_BY_HOP = b"\x06\0\1\4\0\0\0\0"
OPTIONS = [b"", b"", b"\1\1\x08\x0a\0\0\0\1\0\0\0\2", b"\1" * 40]


def super_packet(seed: int) -> tuple[VnetHeader, bytes]:
    """A TCP or UDP super-packet as a kernel hands it out."""
    chance = random.Random(seed)
    is_v4, is_tcp = chance.random() < 0.5, chance.random() < 0.6
    size = chance.choice([1, 7, 64, 500, 1388])
    payload = chance.randbytes(min(60000, size * chance.choice([1, 2, 3, 20, 64]) - chance.choice([0, 0, size // 2])))
    if chance.random() < 0.1:
        payload = bytes(len(payload))
    if is_tcp:
        options = chance.choice(OPTIONS)
        flags = 0x10 | chance.choice([0, 0, 8, 1, 9, 0x40, 0x80, 0xC0])
        sequence = chance.choice([5, (1 << 32) - 700])
        transport = struct.pack("!HHIIBBHHH", 80, 81, sequence, 7, (20 + len(options)) * 4, flags, 99, 0, 0) + options
    else:
        transport = struct.pack("!HHHH", 53, 54, 8 + len(payload), 0)
    protocol = 6 if is_tcp else 17
    body = transport + payload
    if is_v4:
        identification, fragment = chance.choice([0, 65530, 77]), chance.choice([0x4000, 0x4000, 0])
        tos, ttl = chance.choice([0, 2]), chance.choice([1, 64])
        start = (0x45, tos, 20 + len(body), identification, fragment, ttl, protocol, 0)
        head = struct.pack("!BBHHHBBH", *start) + V4
        head = head[:10] + oracle.checksum(head).to_bytes(2, "big") + head[12:]
    else:
        extension = HOP_BY_HOP if is_tcp and chance.random() < 0.2 else b""
        head = (
            struct.pack("!IHBB", 0x60000123, len(extension + body), 0 if extension else protocol, 64) + V6 + extension
        )
    kind = (GSO_TCPV4 if is_v4 else GSO_TCPV6) | (GSO_ECN if body[13] & 0x80 else 0) if is_tcp else GSO_UDP_L4
    vnet = VnetHeader(NEEDS_CSUM, kind, len(head + transport), size, len(head), 16 if is_tcp else 6)
    return vnet, partial_checksum(head + body)


def stream(seed: int) -> list[bytes]:
    """Packets of a few flows in order, some of them changed, lost, doubled or swapped."""
    chance = random.Random(seed)
    made: list[bytes] = []
    for _ in range(chance.randrange(1, 4)):
        vnet, packet = super_packet(chance.randrange(12))
        packets = segment(vnet, packet)
        assert packets is not None
        made += packets[:70]
    for _ in range(chance.choice([0, 0, 1, 5])):
        at = chance.randrange(len(made))
        match chance.randrange(5):
            case 0:
                changed = bytearray(made[at])
                changed[chance.randrange(min(len(changed), 80))] ^= 1 << chance.randrange(8)
                if changed[0] >> 4 == 4 and len(changed) >= 20:  # otherwise only the header checksum shows the change
                    changed[10:12] = b"\0\0"
                    changed[10:12] = oracle.checksum(bytes(changed[: (changed[0] & 15) * 4])).to_bytes(2, "big")
                made[at] = bytes(changed)
            case 1:
                del made[at]
            case 2:
                made.insert(at, made[at])
            case 3:
                made[at], made[at - 1] = made[at - 1], made[at]
            case _:
                made[at] = _with_checksum(made[at], chance)
        if not made:
            break
    return [packet[: inner.length] for packet in made if (inner := oracle.parse(packet))]


def _with_checksum(packet: bytes, chance: random.Random) -> bytes:
    """The packet with another value in the transport header, and the matching checksum."""
    inner = oracle.parse(packet)
    if inner is None or inner.protocol != 6 or inner.length < inner.header + 20:
        return packet
    changed = bytearray(partial_checksum(packet))
    at = inner.header + chance.choice([4, 8, 13, 14, 18, 19])
    changed[at] ^= 1 << chance.randrange(8)
    total = oracle.checksum(bytes(changed[inner.header : inner.length])) or 0xFFFF
    changed[inner.header + 16 : inner.header + 18] = total.to_bytes(2, "big")
    return bytes(changed)


def super_packets() -> st.SearchStrategy[tuple[VnetHeader, bytes]]:
    return st.integers(0, 1 << 40).map(super_packet)


def streams() -> st.SearchStrategy[list[bytes]]:
    return st.integers(0, 1 << 40).map(stream)

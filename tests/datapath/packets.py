"""Awkward IP packets: strategies for the property tests, and a fixed corpus for the sanitizers."""

from __future__ import annotations

import random
import struct

from hypothesis import strategies as st

from tests.datapath.oracle import packet as oracle

PROTOCOLS = [0, 1, 6, 17, 43, 44, 50, 51, 58, 59, 60, 132, 135, 136, 139, 140, 255]
PORTS = [0, 53, 4341, 4342, 65535]
V4 = [bytes(each) for each in ((10, 1, 0, 1), (10, 2, 0, 1), (127, 0, 0, 1), (224, 0, 0, 1), (169, 254, 1, 1))] + [
    b"\0\0\0\0",
    b"\xff\xff\xff\xff",
    b"\xf0\0\0\1",
]
V6 = [
    bytes.fromhex(each)
    for each in (
        "20010db8000100000000000000000001",
        "20010db8000200000000000000000001",
        "fe800000000000000000000000000001",
        "ff020000000000000000000000000001",
        "00000000000000000000000000000001",
        "00000000000000000000000000000000",
    )
]


def transport(chance: random.Random, protocol: int) -> bytes:
    size = chance.choice([0, 1, 3, 4, 7, 8, 20, 40, 600])
    body = bytearray(chance.randbytes(size))
    if size >= 8 and protocol == 17:
        length = chance.choice([size, size, 8, 7, 0, size + 1])
        struct.pack_into("!HHHH", body, 0, chance.choice(PORTS), chance.choice(PORTS), length, chance.choice([0, 0, 1]))
    if size >= 1 and protocol in (1, 58):
        body[0] = chance.choice([0, 3, 5, 8, 11, 1, 2, 127, 128, 137])
    return bytes(body)


def ipv4(chance: random.Random) -> bytes:
    protocol = chance.choice(PROTOCOLS)
    options = chance.choice([b"", b"", b"\1" * 4, b"\x94\4\0\0", b"\7\4\0\0", b"\7\x28\4\0", chance.randbytes(40)])
    body = transport(chance, protocol)
    header = bytearray(20 + len(options))
    header[20:] = options
    total = len(header) + len(body) + chance.choice([0] * 6 + [1, -1, 9])
    flags = chance.choice([0, 0x4000, 0x2000, 1, 0x2001, 0x1FFF, 0x8000])
    ttl, tos = chance.choice([0, 1, 2, 64, 255]), chance.randrange(256)
    struct.pack_into("!BBHHHBBH", header, 0, 0x40 | len(header) // 4, tos, total % 65536, 7, flags, ttl, protocol, 0)
    header[12:20] = chance.choice(V4) + chance.choice(V4)
    if chance.random() < 0.95:
        struct.pack_into("!H", header, 10, oracle.checksum(bytes(header)))
    return bytes(header) + body


def ipv6(chance: random.Random) -> bytes:
    chain = [chance.choice([0, 43, 44, 51, 60, 135]) for _ in range(chance.choice([0, 0, 0, 1, 2, 3, 14]))]
    protocol = chance.choice(PROTOCOLS)
    body = b""
    for number, kind in enumerate(chain):
        following = chain[number + 1] if number + 1 < len(chain) else protocol
        size = chance.choice([0, 0, 0, 1, 2, 200]) if chance.random() < 0.3 else 0
        octets = {44: 8, 51: (size + 2) * 4}.get(kind, (size + 1) * 8)
        extension = bytearray(octets if size < 200 else 8)
        extension[0], extension[1] = following, size
        if kind == 44:
            struct.pack_into("!H", extension, 2, chance.choice([0, 1, 8, 9, 0xFFF9]))
        body += bytes(extension)
    body += transport(chance, protocol)
    length = max(0, len(body) + chance.choice([0] * 6 + [1, -1]))
    first = 0x60000000 | chance.randrange(1 << 28)
    head = struct.pack("!IHBB", first, length, chain[0] if chain else protocol, chance.choice([0, 1, 64, 255]))
    return head + chance.choice(V6) + chance.choice(V6) + body


def awkward(seed: int) -> bytes:
    """A packet that is correct, nearly correct, cut short, or random."""
    chance = random.Random(seed)
    packet = bytearray(chance.choice([ipv4, ipv6])(chance))
    kind = chance.random()
    if kind < 0.1:
        packet = packet[: chance.randrange(len(packet) + 1)]
    elif kind < 0.2:
        packet += chance.randbytes(chance.randrange(20))
    elif kind < 0.3 and packet:
        packet[chance.randrange(len(packet))] ^= 1 << chance.randrange(8)
    elif kind < 0.32:
        packet = bytearray(chance.randbytes(chance.randrange(100)))
    return bytes(packet)


def datagram(seed: int) -> bytes:
    """A datagram that may arrive on UDP port 4341."""
    chance = random.Random(seed)
    flags = chance.choice([0, 8, 8, 0x80, 0xC0, 0x10, 0x48, 0xA0, 1, 3, 0xFF])
    second = chance.choice([0, 0x123400, 0xFFFFFF00, 0xFFFFFFFF, 0x123401, 3])
    return struct.pack("!BBHI", flags, 0, chance.randrange(65536), second) + awkward(seed + 1)


def whole_packets() -> st.SearchStrategy[bytes]:
    """Packets that both parsers accept."""
    return packets().filter(lambda packet: oracle.parse(packet) is not None)


def packets() -> st.SearchStrategy[bytes]:
    return st.integers(0, 1 << 40).map(awkward)


def datagrams() -> st.SearchStrategy[bytes]:
    return st.integers(0, 1 << 40).map(datagram)

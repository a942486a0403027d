"""Awkward packets by name, as new, faulty or hostile hosts may send them. The list is always the same.

A packet is what travels between two EIDs, as octets of an IP packet; every fault in it is on purpose.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address, ip_address
from itertools import product

from lispmob.wire.address import IpAddress
from lispmob.wire.address_class import CLASSES
from tests.datapath.netlab import EID_A4, EID_A6, EID_B4, EID_B6
from tests.datapath.oracle import packet as oracle
from tests.datapath.oracle.segments import (
    GSO_ECN,
    GSO_TCPV4,
    GSO_TCPV6,
    GSO_UDP_L4,
    NEEDS_CSUM,
    VnetHeader,
    partial_checksum,
)

Named = tuple[str, bytes]

ICMP, TCP, UDP, ICMPV6, ESP, AH, NO_NEXT = 1, 6, 17, 58, 50, 51, 59
HOP_BY_HOP, ROUTING, FRAGMENT, DESTINATION, MOBILITY, HIP, SHIM6 = 0, 43, 44, 60, 135, 139, 140
DF, MF = 0x4000, 0x2000
ENDS = {
    4: (ip_address(EID_A4).packed, ip_address(EID_B4).packed),
    6: (ip_address(EID_A6).packed, ip_address(EID_B6).packed),
}
SECOND_HEADERS = (0, 1, 2, 4, 33, 41, 46, 47, 50, 51, 58, 59, 89, 94, 103, 108, 132, 136, 137, 143, 253, 254, 255)


def ipv4(
    body: bytes = b"",
    protocol: int = UDP,
    *,
    options: bytes = b"",
    fragment: int = DF,
    tos: int = 0,
    ttl: int = 64,
    total: int | None = None,
    ends: tuple[bytes, bytes] = ENDS[4],
    first: int | None = None,
    sum_off_by: int = 0,
) -> bytes:
    """`total` is the length in the header, `first` its first octet; None: the correct value."""
    length = 20 + len(options) + len(body)
    first = 0x45 + len(options) // 4 if first is None else first
    said = length if total is None else total
    head = struct.pack("!BBHHHBBH", first, tos, said, 0x1234, fragment, ttl, protocol, 0) + b"".join(ends) + options
    summed = (oracle.checksum(head) + sum_off_by) % 0x10000
    return head[:10] + summed.to_bytes(2, "big") + head[12:] + body


def ipv6(
    body: bytes = b"",
    protocol: int = UDP,
    *,
    tos: int = 0,
    label: int = 0,
    hops: int = 64,
    length: int | None = None,
    ends: tuple[bytes, bytes] = ENDS[6],
) -> bytes:
    said = len(body) if length is None else length
    return struct.pack("!IHBB", 6 << 28 | tos << 20 | label, said, protocol, hops) + b"".join(ends) + body


def chain(*headers: tuple[int, bytes], last: tuple[int, bytes]) -> tuple[bytes, int]:
    """Extension headers, each without its first octet, and what follows them: the octets, and the first Next Header."""
    kinds = [kind for kind, _ in headers] + [last[0]]
    body = b"".join(bytes([kinds[i + 1]]) + rest for i, (_, rest) in enumerate(headers)) + last[1]
    return body, kinds[0]


def udp(
    size: int = 32, *, length: int | None = None, checksum: int = 0, ports: tuple[int, int] = (5001, 5002)
) -> bytes:
    return struct.pack("!HHHH", *ports, 8 + size if length is None else length, checksum) + bytes(range(256))[:size]


def tcp(
    flags: int = 0x10, *, offset: int = 5, options: bytes = b"", urgent: int = 0, payload: bytes = b"data"
) -> bytes:
    start = (80, 5003, 1, 2, offset << 4 | flags >> 8, flags & 0xFF, 512, 0xBEEF, urgent)
    return struct.pack("!HHIIBBHHH", *start) + options + payload


def _tcp_bodies() -> Iterator[Named]:
    flags = {"null": 0, "xmas": 0x29, "all": 0x1FF, "syn fin": 3, "reset": 4, "accurate ECN": 0x1D0, "CWR": 0x90}
    for name, value in flags.items():
        yield f"TCP with flags {name}", tcp(value)
    yield "TCP with urgent data", tcp(0x30, urgent=3)
    yield "TCP urgent beyond its end", tcp(0x30, urgent=0xFFFF)
    yield "TCP with 40 octets of options", tcp(offset=15, options=b"\1" * 40)
    yield "TCP with an option of length 0", tcp(offset=6, options=b"\x08\0\0\0")
    yield "TCP with MD5 and SACK", tcp(offset=13, options=b"\x13\x12" + bytes(16) + b"\x05\x0a" + bytes(8) + b"\1" * 4)
    yield "TCP whose header is said to be shorter than one", tcp(offset=4)
    yield "TCP whose header is said to be empty", tcp(offset=0)
    yield "TCP whose header ends beyond the packet", tcp(offset=15)
    for size in (0, 1, 3, 4, 13, 19, 20):
        yield f"TCP cut after {size} octets", tcp()[:size]


def _udp_bodies() -> Iterator[Named]:
    yield "UDP without a checksum", udp()
    yield "UDP with a wrong checksum", udp(checksum=0xBEEF)
    yield "UDP without data", udp(0)
    yield "UDP-Lite said to cover nothing", udp(length=0)
    for length in (0, 7, 8, 39, 41, 0xFFFF):
        yield f"UDP that says {length} octets", udp(length=length)
    for port in (0, 53, 4341, 4342, 0xFFFF):
        yield f"UDP to port {port}", udp(ports=(5001, port))
        yield f"UDP from port {port}", udp(ports=(port, 5002))
    for size in (0, 1, 3, 4, 7, 8):
        yield f"UDP cut after {size} octets", udp()[:size]


def _bodies(version: int) -> Iterator[tuple[str, bytes, int]]:
    for name, body in _tcp_bodies():
        yield name, body, TCP
    for name, body in _udp_bodies():
        yield name, body, UDP
    for protocol in SECOND_HEADERS:
        yield f"protocol {protocol}", bytes(range(40)), protocol
        yield f"protocol {protocol} without data", b"", protocol
    quoted = ipv4(udp()) if version == 4 else ipv6(udp())
    icmp = ICMP if version == 4 else ICMPV6
    for kind in (0, 1, 2, 3, 4, 5, 8, 11, 12, 127, 128, 129, 133, 134, 135, 136, 137, 255):
        yield f"ICMP type {kind} about a packet", struct.pack("!BBHI", kind, 4, 0, 1280) + quoted, icmp
        yield f"ICMP type {kind} about a cut packet", struct.pack("!BBHI", kind, 4, 0, 1280) + quoted[:11], icmp
    for size in (0, 1, 4, 7):
        yield f"ICMP cut after {size} octets", bytes([3, 4, 0, 0, 0, 0, 5])[:size], icmp


def _sizes(room: int) -> tuple[int, ...]:
    """Lengths of packets, around the largest that travels in one piece."""
    return (room - 1, room, room + 1, 1500)


def _ipv4_headers(room: int) -> Iterator[Named]:
    options = {
        "no operation": b"\1" * 4,
        "end of list": b"\0" * 4,
        "end of list, then more": b"\0\x44\xff\xff",
        "record route": b"\7\x0b\4" + bytes(8) + b"\0",
        "record route that is full": b"\7\7\x08\x0a\2\0\1\0",
        "time stamps": b"\x44\x0c\5\0" + bytes(8),
        "loose source route": b"\x83\7\4\x0a\2\0\1\0",
        "strict source route": b"\x89\7\4\x0a\2\0\1\0",
        "router alert": b"\x94\4\0\0",
        "length 0": b"\x94\0\0\0",
        "length beyond the header": b"\x07\xff\4\0",
        "40 octets": b"\1" * 40,
    }
    for name, value in options.items():
        yield f"option {name}", ipv4(udp(), options=value)
        yield f"option {name}, TCP", ipv4(tcp(), TCP, options=value)
    fragments = {"first": MF, "middle": MF | 3, "last": 6, "tiny": MF, "beyond 65535": 0x1FFF, "reserved bit": 0x8000}
    for name, place in fragments.items():
        body = udp(8 if name == "tiny" else 24)
        yield f"fragment {name}", ipv4(body, fragment=place)
        yield f"fragment {name}, DF", ipv4(body, fragment=place | DF)
        yield f"fragment {name}, TCP", ipv4(tcp(), TCP, fragment=place)
    yield "fragment that overlaps the first", ipv4(udp(24), fragment=MF | 1)
    yield "fragment within the transport header", ipv4(tcp()[8:], TCP, fragment=1)
    yield "fragment whose length is no multiple of 8", ipv4(udp(13), fragment=MF)
    yield "fragment without data", ipv4(b"", fragment=MF | 2)
    for size in _sizes(room):
        for name, flags in {"DF": DF, "may be cut": 0, "first fragment": MF, "last fragment": 100}.items():
            yield f"{size} octets, {name}", ipv4(bytes(size - 20), 253, fragment=flags)
        copied = b"\x94\4\0\0" + b"\7\7\4" + bytes(4) + b"\0"
        yield f"{size} octets, may be cut, options", ipv4(bytes(size - 32), 253, fragment=0, options=copied)
    for total in (0, 19, 20, 28, 59, 61, 0xFFFF):
        yield f"total length {total} of 60", ipv4(udp(), total=total)
    for first in (0x05, 0x40, 0x44, 0x46, 0x4F, 0x55, 0x65, 0xF5):
        yield f"first octet {first:#x}", ipv4(udp(), first=first)
    for off_by in (1, 0x100, 0xFFFF):
        yield f"checksum wrong by {off_by}", ipv4(udp(), sum_off_by=off_by)
    for ttl, tos in product((0, 1, 2, 255), range(4)):
        yield f"TTL {ttl}, ECN {tos}", ipv4(udp(), ttl=ttl, tos=tos)
    for tos in range(0, 256, 5):
        yield f"TOS {tos}", ipv4(udp(), tos=tos)
    own, other = ENDS[4]
    for name, address in edges(4):
        yield f"to {name}", ipv4(udp(), ends=(own, address.packed))
        yield f"from {name}", ipv4(udp(), ends=(address.packed, other))
    yield "to itself", ipv4(udp(), ends=(own, own))
    yield "backwards", ipv4(udp(), ends=(other, own))


def edges(version: int) -> Iterator[tuple[str, IpAddress]]:
    """The first and last address of every class, one between them, and its neighbours, by name."""
    found: dict[int, str] = {}
    for row in CLASSES:
        first, last = int(row.network.network_address), int(row.network.broadcast_address)
        if row.network.version == version:
            for place in (first - 1, first, first + 1, (first + last) // 2, last - 1, last, last + 1):
                found.setdefault(place, f"{row.name}, {place - first:+d}")
    kind = IPv4Address if version == 4 else IPv6Address
    return ((name, kind(place)) for place, name in found.items() if 0 <= place < 1 << kind(0).max_prefixlen)


def _ipv6_chains() -> Iterator[tuple[str, tuple[bytes, int]]]:
    pad, data = b"\0\1\4\0\0\0\0", (UDP, udp())
    hop, routing = (HOP_BY_HOP, pad), (ROUTING, b"\2\0\1" + bytes(4) + ENDS[6][1])
    options = (DESTINATION, pad)
    named: dict[str, tuple[tuple[int, bytes], ...]] = {
        "hop by hop": (hop,),
        "router alert": ((HOP_BY_HOP, b"\0\5\2\0\0\1\0"),),
        "jumbo payload": ((HOP_BY_HOP, b"\0\xc2\4\0\1\0\0"),),
        "an unknown option that must be known": ((HOP_BY_HOP, b"\0\xde\4\0\0\0\0"),),
        "destination options": (options,),
        "routing type 0": ((ROUTING, b"\2\0\1" + bytes(4) + ENDS[6][1]),),
        "routing type 2": ((ROUTING, b"\2\2\1" + bytes(4) + ENDS[6][1]),),
        "segment routing": ((ROUTING, b"\2\4\0\0\0\0\0" + ENDS[6][1]),),
        "segments left over": ((ROUTING, b"\2\4\xff\0\0\0\0" + ENDS[6][1]),),
        "authentication": ((AH, b"\4\0\0" + bytes(20)),),
        "mobility": ((MOBILITY, b"\0\5\0\0\0\0\0"),),
        "HIP": ((HIP, b"\0" + bytes(6)),),
        "shim6": ((SHIM6, b"\0" + bytes(6)),),
        "all of them": (hop, options, routing, (AH, b"\4\0\0" + bytes(20)), options),
        "out of order": (options, routing, hop),
        "hop by hop twice": (hop, hop),
        "13 of them": (options,) * 13,
        "12 of them": (options,) * 12,
        "more than the packet": ((DESTINATION, b"\xff" + bytes(6)),),
        "authentication beyond the packet": ((AH, b"\xff" + bytes(10)),),
    }
    parts = {
        "first": b"\0\0\1",
        "middle": b"\0\0\x19",
        "last": b"\0\0\x20",
        "atomic": b"\0\0\0",
        "reserved bits": b"\xff\0\6",
    }
    for name, place in parts.items():
        named[f"{name} fragment"] = ((FRAGMENT, place + b"\0\0\0\7"),)
        named[f"{name} fragment behind hop by hop"] = (hop, (FRAGMENT, place + b"\0\0\0\7"))
        named[f"{name} fragment before options"] = ((FRAGMENT, place + b"\0\0\0\7"), options)
    for name, headers in named.items():
        yield name, chain(*headers, last=data)
        yield f"{name}, TCP", chain(*headers, last=(TCP, tcp()))
        yield f"{name}, nothing behind", chain(*headers, last=(NO_NEXT, b""))
    body, kind = chain(hop, routing, last=data)
    for size in (0, 1, 2, 7, 8, 9, 31, 32, 35):
        yield f"chain cut after {size} octets", (body[:size], kind)


def _ipv6_headers(room: int) -> Iterator[Named]:
    for name, (body, kind) in _ipv6_chains():
        yield name, ipv6(body, kind)
    for size in _sizes(room):
        yield f"{size} octets", ipv6(bytes(size - 40), 253)
        yield f"{size} octets, fragment", ipv6(bytes([253, 0, 0, 1]) + bytes(size - 44), FRAGMENT)
    for length in (0, 1, 8, 39, 41, 0xFFFF):
        yield f"payload length {length} of 40", ipv6(udp(), length=length)
    for hops, tos in product((0, 1, 2, 255), range(4)):
        yield f"hop limit {hops}, ECN {tos}", ipv6(udp(), hops=hops, tos=tos)
    for tos in range(0, 256, 5):
        yield f"traffic class {tos}", ipv6(udp(), tos=tos, label=0xFFFFF - tos)
    own, other = ENDS[6]
    for name, address in edges(6):
        yield f"to {name}", ipv6(udp(), ends=(own, address.packed))
        yield f"from {name}", ipv6(udp(), ends=(address.packed, other))
    yield "to itself", ipv6(udp(), ends=(own, own))


def packets(version: int, room: int) -> Iterator[Named]:
    """All packets from one EID to the other. `room` is the largest length that fits the tunnel in one piece."""
    for name, body, protocol in _bodies(version):
        yield name, ipv4(body, protocol) if version == 4 else ipv6(body, protocol)
        padded = ipv4(body, protocol) if version == 4 else ipv6(body, protocol)
        yield f"{name}, padded", padded + b"\xa5" * 11
    yield from (_ipv4_headers if version == 4 else _ipv6_headers)(room)


def super_packets(version: int) -> Iterator[tuple[str, VnetHeader, bytes]]:
    """TCP and UDP super-packets of odd sizes, with partial checksums as a kernel hands them out."""
    for (protocol, size), count, short in product(((TCP, 1), (TCP, 536), (UDP, 1), (UDP, 700)), (1, 2, 3, 40), (0, 1)):
        if size == 1 and short:
            continue
        length = max(1, size * count - (size - 1) * short)
        yield (
            f"{protocol}: {length} octets by {size}",
            *_super(version, protocol, size, bytes(i % 251 for i in range(length))),
        )
    for name, flags in {"push": 0x18, "fin": 0x11, "CWR": 0x90, "CWR fin": 0x99, "urgent": 0x30}.items():
        yield f"TCP {name}", *_super(version, TCP, 500, bytes(1501), flags=flags)
    yield "TCP with options", *_super(version, TCP, 900, bytes(2701), options=b"\1\1\x08\x0a" + bytes(8))
    # Not of zeros: a sum of 0 may also be written as 0xffff, and kernels differ.
    yield "TCP of 64 segments", *_super(version, TCP, 1000, bytes(i % 251 for i in range(63001)))


def _super(
    version: int, protocol: int, size: int, payload: bytes, *, flags: int = 0x10, options: bytes = b""
) -> tuple[VnetHeader, bytes]:
    field, header = (16, 20 + len(options)) if protocol == TCP else (6, 8)
    head = (
        tcp(flags, offset=header // 4, options=options, payload=b"")
        if protocol == TCP
        else udp(0, length=8 + len(payload))
    )
    whole = ipv4(head + payload, protocol) if version == 4 else ipv6(head + payload, protocol)
    start = 20 if version == 4 else 40
    kind = GSO_UDP_L4 if protocol == UDP else GSO_TCPV4 if version == 4 else GSO_TCPV6
    if protocol == TCP and flags & 0x80:
        kind |= GSO_ECN
    return VnetHeader(NEEDS_CSUM, kind, start + header, size, start, field), partial_checksum(whole)

"""A slow, plain reference of what the C datapath decides per packet: the oracle of the property tests.

It is written from the RFCs, not from the C: where the two differ, one of them is wrong.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from enum import IntEnum
from ipaddress import IPv4Address, IPv6Address
from typing import Final, TypeAlias

import msgspec

from lispmob.wire.address import EidPrefix, IpAddress
from lispmob.wire.address_class import may_be_eid

CONTROL_INSTANCE_ID: Final = 0xFFFFFF
CONTROL_PORT: Final = 4342

_M64: Final = (1 << 64) - 1
_WITH_PORTS: Final = {6, 17, 33, 132, 136}  # TCP, UDP, DCCP, SCTP, UDP-Lite
_EXTENSIONS_BY_8: Final = {0, 43, 60, 135, 139, 140}
_AUTHENTICATION: Final = 51
_FRAGMENT: Final = 44
_EXTENSION_HEADERS_MAX: Final = 12  # the C has the same bound

Key: TypeAlias = tuple[int, int]


class Inner(msgspec.Struct, frozen=True):
    """The header fields of an inner packet; `header` and `length` are octets from its start."""

    version: int
    source: IpAddress
    destination: IpAddress
    tos: int
    ttl: int
    protocol: int
    is_fragment: bool
    is_later_fragment: bool
    dont_fragment: bool
    ports: tuple[int, int] | None
    header: int
    length: int


class DataVerdict(IntEnum):
    """What to do with a datagram on UDP port 4341; the numbers are those of enum lm_data_verdict."""

    OK = 0
    CONTROL = 1
    SHORT = 2
    KEY = 3
    INNER = 4


class IcmpKind(IntEnum):
    """The kinds of ICMP errors; the numbers are those of enum lm_icmp_kind."""

    TOO_BIG = 0
    UNREACHABLE = 1
    PROHIBITED = 2


def checksum(data: bytes) -> int:
    """The Internet checksum (RFC 1071)."""
    padded = data + b"\0" * (len(data) % 2)
    total: int = sum(struct.unpack(f"!{len(padded) // 2}H", padded))
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def parse(packet: bytes) -> Inner | None:
    """Read the headers of an IPv4 or IPv6 packet; None if it is not one."""
    if len(packet) < 20:
        return None
    version = packet[0] >> 4
    return _parse_v4(packet) if version == 4 else _parse_v6(packet) if version == 6 else None


def _parse_v4(packet: bytes) -> Inner | None:
    header, total = (packet[0] & 15) * 4, int.from_bytes(packet[2:4], "big")
    if header < 20 or not header <= total <= len(packet) or checksum(packet[:header]) != 0:
        return None
    fragment = int.from_bytes(packet[6:8], "big")
    is_later = bool(fragment & 0x1FFF)
    return Inner(
        version=4,
        source=IPv4Address(packet[12:16]),
        destination=IPv4Address(packet[16:20]),
        tos=packet[1],
        ttl=packet[8],
        protocol=packet[9],
        is_fragment=is_later or bool(fragment & 0x2000),
        is_later_fragment=is_later,
        dont_fragment=bool(fragment & 0x4000),
        ports=None if is_later else _ports(packet[header:total], packet[9]),
        header=header,
        length=total,
    )


def _parse_v6(packet: bytes) -> Inner | None:
    if len(packet) < 40 or (total := 40 + int.from_bytes(packet[4:6], "big")) > len(packet):
        return None
    protocol, rest, is_fragment, is_later = packet[6], packet[40:total], False, False
    for _ in range(_EXTENSION_HEADERS_MAX):
        if len(rest) < 8:
            break
        if protocol in _EXTENSIONS_BY_8:
            size = (rest[1] + 1) * 8
        elif protocol == _AUTHENTICATION:
            size = (rest[1] + 2) * 4
        elif protocol == _FRAGMENT:
            size, is_fragment, is_later = 8, True, bool(int.from_bytes(rest[2:4], "big") >> 3)
        else:
            break
        if size > len(rest):
            break
        protocol, rest = rest[0], rest[size:]
        if is_fragment:
            break
    (word,) = struct.unpack_from("!I", packet)
    return Inner(
        version=6,
        source=IPv6Address(packet[8:24]),
        destination=IPv6Address(packet[24:40]),
        tos=word >> 20 & 0xFF,
        ttl=packet[7],
        protocol=protocol,
        is_fragment=is_fragment,
        is_later_fragment=is_later,
        dont_fragment=True,
        ports=None if is_later else _ports(rest, protocol),
        header=total - len(rest),
        length=total,
    )


def _ports(transport: bytes, protocol: int) -> tuple[int, int] | None:
    if protocol not in _WITH_PORTS or len(transport) < 4:
        return None
    source, destination = struct.unpack_from("!HH", transport)
    return source, destination


def keyed_hash(key: Key, words: Sequence[int]) -> int:
    """SipHash-1-3 of 64-bit words (as little-endian octets)."""
    k0, k1 = key
    v = [k0 ^ 0x736F6D6570736575, k1 ^ 0x646F72616E646F6D, k0 ^ 0x6C7967656E657261, k1 ^ 0x7465646279746573]
    for word in (*words, (len(words) * 8 & 0xFF) << 56):
        v[3] ^= word
        _sip_round(v)
        v[0] ^= word
    v[2] ^= 0xFF
    for _ in range(3):
        _sip_round(v)
    return v[0] ^ v[1] ^ v[2] ^ v[3]


def _rotate(value: int, bits: int) -> int:
    return (value << bits | value >> (64 - bits)) & _M64


def _sip_round(v: list[int]) -> None:
    for left, right, bits, turn in ((0, 1, 13, True), (2, 3, 16, False), (0, 3, 21, False), (2, 1, 17, True)):
        v[left] = (v[left] + v[right]) & _M64
        v[right] = _rotate(v[right], bits) ^ v[left]
        if turn:
            v[left] = _rotate(v[left], 32)


def flow_hash(key: Key, inner: Inner) -> int:
    """Equal for packets of one flow: from addresses, protocol, and the ports of packets that are not fragments."""
    source_port, destination_port = inner.ports if inner.ports and not inner.is_fragment else (0, 0)
    first = inner.version | inner.protocol << 8 | source_port << 16 | destination_port << 32
    both = inner.source.packed + inner.destination.packed
    return keyed_hash(key, (first, *struct.unpack(f"!{len(both) // 8}Q", both)))


def encapsulate(packet: bytes, instance_id: int) -> bytes:
    """The payload of the outer UDP datagram: data header and packet (RFC 9300 section 5.3)."""
    header = struct.pack("!II", 0x08000000, instance_id << 8) if instance_id else bytes(8)
    return header + packet


def read_data(datagram: bytes) -> tuple[DataVerdict, int, Inner | None]:
    """Verdict, Instance-ID and inner packet of a datagram of port 4341."""
    if len(datagram) < 28:
        return DataVerdict.SHORT, 0, None
    flags, second = datagram[0], int.from_bytes(datagram[4:8], "big")
    if flags & 3:
        return DataVerdict.KEY, 0, None
    instance_id = second >> 8 if flags & 8 else 0
    inner = parse(datagram[8:])
    if inner is None:
        return DataVerdict.INNER, instance_id, None
    if instance_id != CONTROL_INSTANCE_ID:
        return DataVerdict.OK, instance_id, inner
    is_control = _holds_control(datagram[8 : 8 + inner.length], inner)
    return DataVerdict.CONTROL if is_control else DataVerdict.INNER, instance_id, inner


def _holds_control(packet: bytes, inner: Inner) -> bool:
    udp = packet[inner.header :]
    if inner.protocol != 17 or inner.is_fragment or len(udp) < 8 or CONTROL_PORT not in (inner.ports or ()):
        return False
    length, given = struct.unpack_from("!HH", udp, 4)
    if not 8 <= length <= len(udp):
        return False
    return given == 0 or checksum(_pseudo_header(inner.source, inner.destination, 17, length) + udp[:length]) == 0


def _pseudo_header(source: IpAddress, destination: IpAddress, protocol: int, length: int) -> bytes:
    return source.packed + destination.packed + struct.pack("!II", length, protocol)


def strip(packet: bytes, outer_ttl: int, outer_tos: int, copy_dscp: bool) -> bytes | str:
    """The inner packet as it is delivered, or why it is dropped: "ecn" or "ttl" (RFC 6040 section 4.2)."""
    inner = parse(packet)
    assert inner is not None
    inside, outside = inner.tos & 3, outer_tos & 3
    if outside == 3 and inside == 0:
        return "ecn"
    if outside == 3 and inside:
        ecn = 3
    elif outside == 1 and inside == 2:
        ecn = 1
    else:
        ecn = inside
    ttl = min(inner.ttl, outer_ttl)
    if ttl == 0:
        return "ttl"
    tos = (outer_tos if copy_dscp else inner.tos) & 0xFC | ecn
    if inner.version == 4:
        header = bytearray(packet[: inner.header])
        header[1], header[8], header[10:12] = tos, ttl, b"\0\0"
        if (inner.tos, inner.ttl) == (tos, ttl):
            return packet[: inner.length]
        header[10:12] = checksum(bytes(header)).to_bytes(2, "big")
        return bytes(header) + packet[inner.header : inner.length]
    (word,) = struct.unpack_from("!I", packet)
    first = struct.pack("!I", word & 0xF00FFFFF | tos << 20)
    return first + packet[4:7] + bytes([ttl]) + packet[8 : inner.length]


def icmp_error(kind: IcmpKind, mtu_bytes: int, source: IpAddress, packet: bytes) -> bytes | None:
    """The ICMP error about an inner packet; None where there must be none (RFC 1122 3.2.2, RFC 4443 2.4)."""
    inner = parse(packet)
    assert inner is not None
    if inner.is_later_fragment or _is_icmp_error(packet, inner) or not _may_be_told(inner):
        return None
    packet = packet[: inner.length]
    if inner.version == 4:
        code, mtu = {IcmpKind.TOO_BIG: (4, min(mtu_bytes, 0xFFFF))}.get(kind, (1, 0))
        code = 13 if kind is IcmpKind.PROHIBITED else code
        quote = packet[:548]
        body = struct.pack("!BBHHH", 3, code, 0, 0, mtu) + quote
        body = body[:2] + checksum(body).to_bytes(2, "big") + body[4:]
        ip = struct.pack("!BBHHHBBH", 0x45, 0xC0, 20 + len(body), 0, 0, 64, 1, 0) + source.packed + inner.source.packed
        return ip[:10] + checksum(ip).to_bytes(2, "big") + ip[12:] + body
    kinds = {IcmpKind.TOO_BIG: (2, 0, mtu_bytes), IcmpKind.UNREACHABLE: (1, 3, 0), IcmpKind.PROHIBITED: (1, 1, 0)}
    body = struct.pack("!BBHI", *kinds[kind][:2], 0, kinds[kind][2]) + packet[:1232]
    total = checksum(_pseudo_header(source, inner.source, 58, len(body)) + body)
    body = body[:2] + total.to_bytes(2, "big") + body[4:]
    return struct.pack("!IHBB", 0x60000000, len(body), 58, 64) + source.packed + inner.source.packed + body


def _is_icmp_error(packet: bytes, inner: Inner) -> bool:
    if inner.protocol != (1 if inner.version == 4 else 58):
        return False
    if inner.length == inner.header:
        return True
    kind = packet[inner.header]
    return kind in (3, 4, 5, 11, 12) if inner.version == 4 else kind < 128 or kind == 137


def _may_be_told(inner: Inner) -> bool:
    is_broadcast = inner.destination == IPv4Address(0xFFFFFFFF)
    return may_be_eid(inner.source) and not inner.destination.is_multicast and not is_broadcast


class Table:
    """Longest-prefix match by trying every length."""

    def __init__(self) -> None:
        self.prefixes: set[EidPrefix] = set()

    def lookup(self, instance_id: int, address: IpAddress) -> EidPrefix | None:
        for length in range(address.max_prefixlen, -1, -1):
            prefix = EidPrefix.make(address, length, instance_id)
            if prefix in self.prefixes:
                return prefix
        return None

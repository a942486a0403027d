"""The reference for super-packets: the packets for which one stands. Written from the RFCs, not from the C."""

from __future__ import annotations

import struct
from typing import Final

import msgspec

from tests.datapath.oracle.packet import Inner, checksum, parse

NEEDS_CSUM: Final = 1
GSO_NONE, GSO_TCPV4, GSO_TCPV6, GSO_UDP_L4, GSO_ECN = 0, 1, 4, 5, 0x80
_TCP: Final = 6
_UDP: Final = 17
_FIN_PSH: Final = 0x09
_CWR: Final = 0x80


class VnetHeader(msgspec.Struct, frozen=True):
    """struct virtio_net_hdr."""

    flags: int = 0
    gso_type: int = GSO_NONE
    hdr_len: int = 0
    gso_size: int = 0
    csum_start: int = 0
    csum_offset: int = 0


def complete(vnet: VnetHeader, packet: bytes) -> bytes | None:
    """The packet with its partial checksum completed; None when the checksum's place is not inside."""
    if not vnet.flags & NEEDS_CSUM or vnet.gso_type != GSO_NONE:
        return packet
    at = vnet.csum_start + vnet.csum_offset
    if at + 2 > len(packet):
        return None
    total = checksum(packet[vnet.csum_start :]) or 0xFFFF
    return packet[:at] + total.to_bytes(2, "big") + packet[at + 2 :]


def segment(vnet: VnetHeader, packet: bytes) -> list[bytes] | None:
    """The packets for which a super-packet stands, every field correct; None when it is not a valid super-packet."""
    inner = parse(packet)
    if inner is None or vnet.gso_size == 0 or inner.is_fragment:
        return None
    kind = vnet.gso_type & ~GSO_ECN
    expected = {GSO_TCPV4: (4, _TCP), GSO_TCPV6: (6, _TCP), GSO_UDP_L4: (inner.version, _UDP)}
    transport = packet[inner.header : inner.length]
    if expected.get(kind) != (inner.version, inner.protocol) or len(transport) < (8 if inner.protocol == _UDP else 20):
        return None
    size = 8 if inner.protocol == _UDP else (transport[12] >> 4) * 4
    if size < (8 if inner.protocol == _UDP else 20) or len(transport) <= size:
        return None
    payload = transport[size:]
    starts = range(0, len(payload), vnet.gso_size)
    return [
        _segment(packet, inner, size, payload[at : at + vnet.gso_size], at, number, len(starts))
        for number, at in enumerate(starts)
    ]


def _segment(packet: bytes, inner: Inner, size: int, payload: bytes, start: int, number: int, count: int) -> bytes:
    head = bytearray(packet[: inner.header])
    transport = bytearray(packet[inner.header : inner.header + size])
    length = size + len(payload)
    if inner.version == 4:
        struct.pack_into("!H", head, 2, len(head) + length)
        struct.pack_into("!H", head, 4, (int.from_bytes(head[4:6], "big") + number) % 65536)
        struct.pack_into("!H", head, 10, 0)
        struct.pack_into("!H", head, 10, checksum(bytes(head)))
    else:
        struct.pack_into("!H", head, 4, len(head) - 40 + length)
    if inner.protocol == _TCP:
        field = 16
        struct.pack_into("!I", transport, 4, (int.from_bytes(transport[4:8], "big") + start) % (1 << 32))
        if number < count - 1:
            transport[13] &= ~_FIN_PSH
        if number > 0:
            transport[13] &= ~_CWR
    else:
        field = 6
        struct.pack_into("!H", transport, 4, length)
    struct.pack_into("!H", transport, field, 0)
    pseudo = pseudo_header(inner, length)
    struct.pack_into("!H", transport, field, checksum(pseudo + bytes(transport) + payload) or 0xFFFF)
    return bytes(head + transport) + payload


def pseudo_header(inner: Inner, length: int) -> bytes:
    """What TCP and UDP checksums cover besides the packet; routing headers are not considered."""
    return inner.source.packed + inner.destination.packed + struct.pack("!II", length, inner.protocol)


def partial_checksum(packet: bytes) -> bytes:
    """The packet with a partial checksum, as a kernel hands it out: the sum of the pseudo header alone."""
    inner = parse(packet)
    assert inner is not None
    at = inner.header + (16 if inner.protocol == _TCP else 6)
    total = ~checksum(pseudo_header(inner, inner.length - inner.header)) & 0xFFFF
    return packet[:at] + total.to_bytes(2, "big") + packet[at + 2 :]

"""ICMP errors as routers and forgers send them: "fragmentation needed" and "packet too big" about a given packet."""

from __future__ import annotations

import struct
import sys
from ipaddress import ip_address
from typing import Final

from lispmob.lab.namespace import Namespace

_SEND: Final = """
import socket, sys
family, to = int(sys.argv[1]), sys.argv[2]
kind = socket.IPPROTO_ICMP if family == 4 else socket.getprotobyname("ipv6-icmp")
one = socket.socket(socket.AF_INET if family == 4 else socket.AF_INET6, socket.SOCK_RAW, kind)
for error in sys.argv[3:]:
    one.sendto(bytes.fromhex(error), (to, 0))
"""


def quoted(source: str, source_port: int, destination: str, port: int, behind: bytes, length: int) -> bytes:
    """The beginning of an outer packet: IP and UDP headers, and what follows; `length`: of the whole packet."""
    udp = struct.pack("!4H", source_port, port, length - (20 if ":" not in source else 40), 0)
    if ":" in source:
        head = struct.pack("!IHBB", 0x60000000, length - 40, 17, 64)
        return head + ip_address(source).packed + ip_address(destination).packed + udp + behind
    head = struct.pack("!BBHHHBBH", 0x45, 0, length, 0, 0x4000, 64, 17, 0)
    return head + ip_address(source).packed + ip_address(destination).packed + udp + behind


def send(namespace: Namespace, to: str, *errors: tuple[bytes, int]) -> None:
    """Send errors, each a quote and an MTU, from a namespace; the kernel adds one of its addresses."""
    family = 6 if ":" in to else 4
    messages = [_message(family, quote, mtu_bytes).hex() for quote, mtu_bytes in errors]
    namespace.run(sys.executable, "-c", _SEND, str(family), to, *messages, timeout_s=20)


def _message(family: int, quote: bytes, mtu_bytes: int) -> bytes:
    body = struct.pack("!BBHI" if family == 6 else "!BBHHH", *_head(family, mtu_bytes)) + quote
    return body if family == 6 else body[:2] + struct.pack("!H", _checksum(body)) + body[4:]


def _head(family: int, mtu_bytes: int) -> tuple[int, ...]:
    return (2, 0, 0, mtu_bytes) if family == 6 else (3, 4, 0, 0, mtu_bytes)


def _checksum(octets: bytes) -> int:
    octets += b"\0" * (len(octets) % 2)
    total: int = sum(struct.unpack(f"!{len(octets) // 2}H", octets))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return int(~total & 0xFFFF)

"""Process: a stateful translator from IPv6 to IPv4 (NAT64, RFC 6146) with a DNS64 server, on a TUN device.

    host with IPv6 alone -- router -- TUN | bindings | TUN -- router -- IPv4 Internet
    2001:db8:a6::2 : 4341 -> prefix + 198.18.0.10 : 4342   becomes   203.0.113.64 : 4341 -> 198.18.0.10 : 4342

`python -m lispmob.lab.nat64 PLAN` (JSON: the fields of `Plan`) makes the device and its routes, prints "ready", and
ends with its standard input. It answers a line of input with its packet counters.

It models a mobile provider's translator, as far as a node depends on it. It translates UDP, whole packets, and drops
the rest. Bindings are endpoint-independent and keep their port while it is free, the filter is address- and
port-dependent. A datagram over IPv6 without a UDP checksum is dropped, and one over IPv4 gets a checksum (RFC 7915,
4.5). A packet that the longer header makes too large for the inside is refused with ICMP.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import random
import select
import socket
import struct
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address, IPv6Network
from typing import Final

from msgspec.structs import replace

from lispmob.errors import MalformedMessage
from lispmob.lab import dns64
from lispmob.wire.address import IpAddress
from lispmob.wire.checksum import internet_checksum
from lispmob.wire.embedded_ipv4 import embed, extract
from lispmob.wire.ip_udp import UdpPacket, parse_ip_udp

_TUNSETIFF: Final = 0x400454CA
_IFF_TUN, _IFF_NO_PI = 0x0001, 0x1000
_DEVICE: Final = "nat64"
_DNS_PORT: Final = 53
_LARGEST: Final = 65_535
_HEADERS_DIFFER: Final = 20  # octets by which an IPv6 header is longer
_LONGEST_WAIT_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class Plan:
    """`public`: the IPv4 address outside of `prefix`; `dns`: the DNS server's address, if any; `mtu`: of the inside."""

    prefix: str
    public: str
    dns: str = ""
    timeout_s: float = 120.0
    mtu: int = 1500


@dataclass(slots=True)
class _Binding:
    inside: tuple[IpAddress, int]
    port: int
    used_at: float
    peers: dict[tuple[IpAddress, int], float] = field(default_factory=dict)


class Translator:
    """The bindings, and the translation of packets. Pure, except that it draws ports at random."""

    def __init__(self, plan: Plan) -> None:
        self.counters: Counter[str] = Counter()
        self._plan = plan
        self._prefix, self._public = IPv6Network(plan.prefix), IPv4Address(plan.public)
        self._by_inside: dict[tuple[IpAddress, int], _Binding] = {}
        self._by_port: dict[int, _Binding] = {}

    def take(self, octets: bytes, now: float) -> bytes | None:
        """The packet to send instead of `octets`; None: dropped, and counted."""
        if octets[:1] and octets[0] >> 4 == 4 and self._is_too_large(octets):
            self.counters["too-large"] += 1
            return self._too_large(octets)
        try:
            packet = parse_ip_udp(octets)
        except MalformedMessage:
            self.counters["not-translated"] += 1
            return None
        translated = self._outward(packet, now) if packet.source.version == 6 else self._inward(packet, now)
        self.counters["dropped" if translated is None else "translated"] += 1
        return None if translated is None else translated.encode()

    def forget(self) -> None:
        """Forget every binding, as after a restart."""
        self._by_inside.clear()
        self._by_port.clear()

    def _outward(self, packet: UdpPacket, now: float) -> UdpPacket | None:
        destination = extract(self._prefix, packet.destination)
        if destination is None or not packet.has_checksum or packet.ttl <= 1:
            return None
        binding = self._by_inside.get((packet.source, packet.source_port))
        if binding is None or now - binding.used_at > self._plan.timeout_s:
            binding = self._bind((packet.source, packet.source_port), now)
        binding.used_at = binding.peers[destination, packet.destination_port] = now
        ttl = packet.ttl - 1
        return replace(
            packet, source=self._public, source_port=binding.port, destination=destination, flow_label=0, ttl=ttl
        )

    def _inward(self, packet: UdpPacket, now: float) -> UdpPacket | None:
        binding = self._by_port.get(packet.destination_port)
        if binding is None or packet.destination != self._public or packet.ttl <= 1:
            return None
        heard_at = binding.peers.get((packet.source, packet.source_port))
        if heard_at is None or now - heard_at > self._plan.timeout_s:
            return None
        binding.used_at = binding.peers[packet.source, packet.source_port] = now
        inside, port = binding.inside
        return UdpPacket(
            self._embedded(packet.source), packet.source_port, inside, port, packet.payload, packet.ttl - 1
        )

    def _bind(self, inside: tuple[IpAddress, int], now: float) -> _Binding:
        port = inside[1]
        while port in self._by_port and self._by_port[port].inside != inside:
            port = random.randrange(1024, 65_536)
        binding = self._by_inside[inside] = self._by_port[port] = _Binding(inside, port, now)
        return binding

    def _embedded(self, address: IpAddress) -> IPv6Address:
        assert isinstance(address, IPv4Address)
        return embed(self._prefix, address)

    def _is_too_large(self, octets: bytes) -> bool:
        has_df = len(octets) > 6 and bool(octets[6] & 0x40)
        return has_df and len(octets) + _HEADERS_DIFFER > self._plan.mtu

    def _too_large(self, octets: bytes) -> bytes:
        """ICMP "fragmentation needed" from the public address to the sender."""
        quoted = octets[:28]
        message = struct.pack("!BBHHH", 3, 4, 0, 0, self._plan.mtu - _HEADERS_DIFFER) + quoted
        message = message[:2] + internet_checksum(message).to_bytes(2) + message[4:]
        header = struct.pack(
            "!BBHHHBBH4s4s", 0x45, 0, 20 + len(message), 0, 0, 64, 1, 0, self._public.packed, octets[12:16]
        )
        return header[:10] + internet_checksum(header).to_bytes(2) + header[12:] + message


def _open_device(plan: Plan) -> int:
    """Make the TUN with its two routes; returns its descriptor. OSError when the kernel refuses."""
    fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(fd, _TUNSETIFF, struct.pack("16sH", _DEVICE.encode(), _IFF_TUN | _IFF_NO_PI))
    lines = (
        f"link set {_DEVICE} mtu {plan.mtu} up",
        f"route add {plan.prefix} dev {_DEVICE}",
        f"route add {plan.public}/32 dev {_DEVICE}",
    )
    subprocess.run(["ip", "-batch", "-"], input="\n".join(lines), text=True, check=True, timeout=10)
    return fd


def _open_dns(address: str) -> socket.socket | None:
    if not address:
        return None
    server = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    server.bind((address, _DNS_PORT))
    server.setblocking(False)
    return server


def main(text: str) -> None:
    """Translate until standard input ends."""
    plan = Plan(**json.loads(text))
    translator, device, server = Translator(plan), _open_device(plan), _open_dns(plan.dns)
    print("ready", flush=True)
    sources = [device, sys.stdin.fileno(), *([server.fileno()] if server is not None else [])]
    while True:
        readable, _, _ = select.select(sources, [], [], _LONGEST_WAIT_S)
        if sys.stdin.fileno() in readable:
            line = sys.stdin.readline()
            if not line:
                break
            if json.loads(line) == "forget":
                translator.forget()
            print(json.dumps(translator.counters), flush=True)
        if device in readable:
            with contextlib.suppress(BlockingIOError):
                while True:
                    translated = translator.take(os.read(device, _LARGEST), time.monotonic())
                    if translated is not None:
                        os.write(device, translated)
        if server is not None and server.fileno() in readable:
            question, asker = server.recvfrom(_LARGEST)
            if (answer := dns64.answer(question, IPv6Network(plan.prefix))) is not None:
                server.sendto(answer, asker)
    os.close(device)


if __name__ == "__main__":
    main(sys.argv[1])

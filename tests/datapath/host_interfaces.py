"""Packets on the interfaces of a host, seen and sent past its engine: each method is a command of engine_process.py."""

from __future__ import annotations

import itertools
import socket
import time
from contextlib import suppress
from ipaddress import ip_network

ETH_P_ALL = 3  # <linux/if_ether.h>
SO_NO_CHECK, SO_RCVBUFFORCE = 11, 33  # <asm-generic/socket.h>
UDP_NO_CHECK6_TX, UDP_SEGMENT = 101, 103  # <linux/udp.h>
SOL_PACKET, PACKET_VNET_HDR = 263, 15  # <linux/if_packet.h>


class Interfaces:
    """Packet sockets by name."""

    def __init__(self) -> None:
        self._sockets: dict[str, socket.socket] = {}

    def sniff(self, *, name: str, interface: str) -> None:
        """Collect the IP packets on an interface, in both directions; sniffed() returns them."""
        sock = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(ETH_P_ALL))
        sock.bind((interface, ETH_P_ALL))
        sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 32 << 20)
        sock.settimeout(0.1)
        self._sockets[name] = sock

    def sniffed(self, *, name: str, count: int, timeout_s: float = 2.0) -> list[str]:
        """The sniffed UDP packets, once there are `count`, or when the time is over."""
        seen: list[str] = []
        deadline = time.monotonic() + timeout_s
        while len(seen) < count and time.monotonic() < deadline:
            with suppress(TimeoutError):
                packet = self._sockets[name].recv(65535)
                if packet[9 if packet[0] >> 4 == 4 else 6] == socket.IPPROTO_UDP:
                    seen.append(packet.hex())
        return seen

    def heard_on(self, *, name: str) -> list[str]:
        """Every IP packet that was sniffed so far, once nothing more has come for a moment."""
        seen: list[str] = []
        with suppress(TimeoutError):
            while len(seen) < 100_000:
                packet, (_, _, kind, *_) = self._sockets[name].recvfrom(65535)
                if kind != socket.PACKET_OUTGOING:
                    seen.append(packet.hex())
        return seen

    def emit(
        self, *, interface: str, packets: list[str], heads: list[str] | None = None, pause_s: float = 5e-4
    ) -> None:
        """Send IP packets out of an interface as they are, without the kernel's checks.

        `heads`: a struct virtio_net_hdr for each, which may make it a super-packet; for a TUN device.
        """
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW if heads else socket.SOCK_DGRAM) as sock:
            if heads:
                sock.setsockopt(SOL_PACKET, PACKET_VNET_HDR, 1)
            for head, text in zip(heads or [""] * len(packets), packets, strict=True):
                packet = bytes.fromhex(text)
                kind = 0x86DD if packet[:1] and packet[0] >> 4 == 6 else 0x0800
                sock.sendto(bytes.fromhex(head) + packet, (interface, kind))
                time.sleep(pause_s)  # packets in quick succession may leave in one piece

    def inject_from_many(self, *, sources: str, count: int, to: str, payload: str) -> None:
        """Send one datagram to UDP port 4341 from each of the first addresses of a network."""
        for source in itertools.islice(ip_network(sources).hosts(), count):
            self.inject(source=str(source), to=to, payloads=[payload])

    def inject(
        self,
        *,
        source: str,
        to: str,
        payloads: list[str],
        ttl: int = 64,
        tos: int = 0,
        has_checksum: bool = True,
        source_port: int = 0,
        run: bool = False,
    ) -> None:
        """Send datagrams to UDP port 4341, past the engine of this host; `run`: in one piece (UDP_SEGMENT)."""
        family = socket.AF_INET6 if ":" in to else socket.AF_INET
        with socket.socket(family, socket.SOCK_DGRAM) as sock:
            sock.bind((source, source_port))
            if family == socket.AF_INET:
                sock.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, ttl)
                sock.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, tos)
                sock.setsockopt(socket.SOL_SOCKET, SO_NO_CHECK, not has_checksum)
            else:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, ttl)
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_TCLASS, tos)
                sock.setsockopt(socket.IPPROTO_UDP, UDP_NO_CHECK6_TX, not has_checksum)
            if run:
                sock.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, len(payloads[0]) // 2)
                payloads = ["".join(payloads)]
            for payload in payloads:
                sock.sendto(bytes.fromhex(payload), (to, 4341))

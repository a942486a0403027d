"""Sends echo requests from a namespace and measures the round trips. Needs no tool on the host."""

from __future__ import annotations

import os
import select
import socket
import statistics
import struct
import time
from dataclasses import dataclass
from typing import Final

from lispmob.lab.link import IpAddress
from lispmob.lab.namespace import Namespace

_ECHO: Final = struct.Struct("!BBHHH")
_TYPES: Final = {4: (8, 0), 6: (128, 129)}  # echo request, echo reply: RFC 792, RFC 4443
_PROTOCOLS: Final = {4: socket.IPPROTO_ICMP, 6: socket.IPPROTO_ICMPV6}
_BODY: Final = b"a packet of the laboratory".ljust(56, b".")


@dataclass(frozen=True, slots=True)
class RoundTrips:
    """The round trip of each answer in seconds, in the order of the requests."""

    sent: int
    rtts_s: tuple[float, ...]

    @property
    def lost(self) -> int:
        return self.sent - len(self.rtts_s)

    @property
    def median_s(self) -> float | None:
        return statistics.median(self.rtts_s) if self.rtts_s else None


def ping(
    namespace: Namespace,
    destination: IpAddress,
    source: IpAddress | None = None,
    *,
    count: int = 3,
    timeout_s: float = 1.0,
) -> RoundTrips:
    """Send `count` echo requests, each after the answer to the one before, or after `timeout_s`."""
    version = destination.version
    family = socket.AF_INET if version == 4 else socket.AF_INET6
    identifier = os.getpid() & 0xFFFF
    rtts = []
    with namespace.socket(family, socket.SOCK_RAW, _PROTOCOLS[version]) as icmp:
        if source is not None:
            icmp.bind((str(source), 0))
        for sequence in range(count):
            sent_at = time.monotonic()
            try:
                icmp.sendto(_request(version, identifier, sequence), (str(destination), 0))
            except OSError:  # no route: count it as lost
                time.sleep(0.05)
                continue
            answered_at = _await_reply(icmp, version, identifier, sequence, sent_at + timeout_s)
            if answered_at is not None:
                rtts.append(answered_at - sent_at)
    return RoundTrips(count, tuple(rtts))


def _request(version: int, identifier: int, sequence: int) -> bytes:
    kind, _ = _TYPES[version]
    bare = _ECHO.pack(kind, 0, 0, identifier, sequence) + _BODY
    # The kernel computes the ICMPv6 checksum, which covers the source address that the kernel chooses.
    checksum = _checksum(bare) if version == 4 else 0
    return _ECHO.pack(kind, 0, checksum, identifier, sequence) + _BODY


def _await_reply(icmp: socket.socket, version: int, identifier: int, sequence: int, deadline: float) -> float | None:
    while (left := deadline - time.monotonic()) > 0:
        ready, _, _ = select.select([icmp], [], [], left)
        if not ready:
            return None
        packet = icmp.recv(65_535)
        now = time.monotonic()
        # An IPv4 raw socket delivers the IP header too.
        body = packet[(packet[0] & 0x0F) * 4 :] if version == 4 else packet
        if len(body) < _ECHO.size:
            continue
        kind, _, _, their_identifier, their_sequence = _ECHO.unpack_from(body)
        if (kind, their_identifier, their_sequence) == (_TYPES[version][1], identifier, sequence):
            return now
    return None


def _checksum(octets: bytes) -> int:
    total: int = sum(struct.unpack(f"!{len(octets) // 2}H", octets))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF

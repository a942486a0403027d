"""Probes of the path MTU: RLOC-probes as long as the packets that they stand for (RFC 8899; RFC 9301, 7.1).

A Map-Request ends where its last record does, so the zeros behind it are padding that no receiver looks at; the answer
is as short as ever. What goes to a node behind a NAT is padded behind the inner packet.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address
from typing import Final, Protocol

import msgspec

from lispmob.protocol.effect import SendControl
from lispmob.wire.address import EidPrefix, IpAddress
from lispmob.wire.data_header import CONTROL_INSTANCE_ID, DataHeader
from lispmob.wire.header import CONTROL_PORT
from lispmob.wire.ip_udp import build_ip_udp
from lispmob.wire.map_request import EidRecord, MapRequest

HEADERS_OCTETS: Final = {4: 20 + 8, 6: 40 + 8}  # IP and UDP
_CONTROL_DATA: Final = DataHeader(instance_id=CONTROL_INSTANCE_ID).encode()


class SizeProbe(Protocol):
    """How the far end of a way is asked."""

    def packet(self, nonce: int, size: int) -> SendControl:
        """A question whose packet has `size` octets, IP header and all, or as few more as it takes."""


class ControlProbe(msgspec.Struct, frozen=True):
    """To the control port of a locator, about an EID-Prefix that it serves; of an RTR, about all of them."""

    eid: EidPrefix
    local: IpAddress
    remote: IpAddress
    ifindex: int = 0

    def packet(self, nonce: int, size: int) -> SendControl:
        """A Map-Request with zeros behind it."""
        message = _question(nonce, self.eid, self.local)
        padded = message.ljust(size - HEADERS_OCTETS[self.remote.version], b"\0")
        return SendControl(padded, self.remote, source=self.local, ifindex=self.ifindex, is_whole=True)


class DataProbe(msgspec.Struct, frozen=True):
    """From an RTR to a node behind a NAT, in a data packet: there is no other way in."""

    eid: EidPrefix
    local: IpAddress
    remote: IpAddress
    port: int

    def packet(self, nonce: int, size: int) -> SendControl:
        """A Map-Request in Instance-ID 0xFFFFFF with zeros behind the inner packet."""
        message = _question(nonce, self.eid, self.local)
        inner = build_ip_udp(self.local, CONTROL_PORT, self.remote, CONTROL_PORT, message)
        padded = (_CONTROL_DATA + inner).ljust(size - HEADERS_OCTETS[self.remote.version], b"\0")
        return SendControl(padded, self.remote, self.port, source=self.local, is_whole=True)


def everything(version: int) -> EidPrefix:
    """The prefix that an RTR is asked about."""
    return EidPrefix.make(IPv4Address(0) if version == 4 else IPv6Address(0), 0)


def _question(nonce: int, eid: EidPrefix, local: IpAddress) -> bytes:
    return MapRequest(nonce, None, (local,), (EidRecord.of(eid),), is_probe=True).encode()

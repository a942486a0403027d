"""Probes of the path MTU: RLOC-probes padded to the size under test (RFC 8899; RFC 9301, 7.1).

A Map-Request ends with its last record, so receivers ignore zeros after it; the answer stays short. A probe to a node
behind a NAT is padded after the inner packet.
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
    """How the far end of a path is probed."""

    def packet(self, nonce: int, size: int) -> SendControl:
        """A request in a packet of `size` octets including the IP header, or the minimum if that is larger."""


class ControlProbe(msgspec.Struct, frozen=True):
    """To the control port of a locator, about an EID-Prefix that it serves; for an RTR, about all EIDs."""

    eid: EidPrefix
    local: IpAddress
    remote: IpAddress
    ifindex: int = 0

    def packet(self, nonce: int, size: int) -> SendControl:
        """A Map-Request followed by zeros."""
        message = _question(nonce, self.eid, self.local)
        padded = message.ljust(size - HEADERS_OCTETS[self.remote.version], b"\0")
        return SendControl(padded, self.remote, source=self.local, ifindex=self.ifindex, is_whole=True)


class DataProbe(msgspec.Struct, frozen=True):
    """From an RTR to a node behind a NAT, in a data packet: no other packet passes the NAT."""

    eid: EidPrefix
    local: IpAddress
    remote: IpAddress
    port: int

    def packet(self, nonce: int, size: int) -> SendControl:
        """A Map-Request in Instance-ID 0xFFFFFF, with zeros after the inner packet."""
        message = _question(nonce, self.eid, self.local)
        inner = build_ip_udp(self.local, CONTROL_PORT, self.remote, CONTROL_PORT, message)
        padded = (_CONTROL_DATA + inner).ljust(size - HEADERS_OCTETS[self.remote.version], b"\0")
        return SendControl(padded, self.remote, self.port, source=self.local, is_whole=True)


def everything(version: int) -> EidPrefix:
    """The prefix that an RTR is probed for."""
    return EidPrefix.make(IPv4Address(0) if version == 4 else IPv6Address(0), 0)


def _question(nonce: int, eid: EidPrefix, local: IpAddress) -> bytes:
    return MapRequest(nonce, None, (local,), (EidRecord.of(eid),), is_probe=True).encode()

"""IPv4 and IPv6 packets with one UDP datagram: the inner packets of ECMs, and of control messages in data packets."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address
from struct import Struct
from typing import Final, NamedTuple

import msgspec

from lispmob.errors import MalformedMessage
from lispmob.wire.address import IpAddress
from lispmob.wire.checksum import internet_checksum

IPV4_OCTETS: Final = 20
IPV6_OCTETS: Final = 40
UDP_OCTETS: Final = 8
DEFAULT_TTL: Final = 64

_UDP_PROTOCOL: Final = 17
_DONT_FRAGMENT: Final = 0x4000
_FRAGMENT: Final = 0xBFFF  # more fragments, fragment offset, and the bit that must be zero

_IPV4: Final = Struct(">BBHHHBBH4s4s")
_IPV6: Final = Struct(">IHBB16s16s")
_UDP: Final = Struct(">HHHH")


class UdpPacket(msgspec.Struct, frozen=True):
    """A UDP datagram in an IP packet. Only IPv4 has `identification` and `dont_fragment`, only IPv6 `flow_label`."""

    source: IpAddress
    source_port: int
    destination: IpAddress
    destination_port: int
    payload: bytes
    ttl: int = DEFAULT_TTL
    traffic_class: int = 0
    identification: int = 0
    dont_fragment: bool = False
    flow_label: int = 0
    has_checksum: bool = True

    def encode(self) -> bytes:
        """The packet's octets, with checksums. ValueError for addresses of two families."""
        source, destination = self.source, self.destination
        udp_length = UDP_OCTETS + len(self.payload)
        udp = _UDP.pack(self.source_port, self.destination_port, udp_length, 0) + self.payload
        pseudo = _pseudo_header(source.packed, destination.packed, udp_length)
        if self.has_checksum:
            # RFC 768: a checksum that is computed as 0 is sent as all ones; 0 means "none".
            udp_checksum = internet_checksum(pseudo + udp) or 0xFFFF
            udp = udp[:6] + udp_checksum.to_bytes(2) + udp[8:]
        if isinstance(source, IPv4Address) and isinstance(destination, IPv4Address):
            header = _IPV4.pack(
                0x45,
                self.traffic_class,
                IPV4_OCTETS + udp_length,
                self.identification,
                self.dont_fragment * _DONT_FRAGMENT,
                self.ttl,
                _UDP_PROTOCOL,
                0,
                source.packed,
                destination.packed,
            )
            return header[:10] + internet_checksum(header).to_bytes(2) + header[12:] + udp
        if isinstance(source, IPv6Address) and isinstance(destination, IPv6Address):
            first = 6 << 28 | self.traffic_class << 20 | self.flow_label
            return _IPV6.pack(first, udp_length, _UDP_PROTOCOL, self.ttl, source.packed, destination.packed) + udp
        raise ValueError(f"{source} and {destination} are not of one family")


def build_ip_udp(
    source: IpAddress,
    source_port: int,
    destination: IpAddress,
    destination_port: int,
    payload: bytes,
    ttl: int = DEFAULT_TTL,
) -> bytes:
    """An IP packet with one UDP datagram and checksums. ValueError for addresses of two families."""
    return UdpPacket(source, source_port, destination, destination_port, payload, ttl).encode()


def parse_ip_udp(packet: bytes, counter: str = "rx_ecm") -> UdpPacket:
    """Read an IP packet with one UDP datagram, and verify both its checksums.

    A UDP checksum of zero means that there is none. It is accepted over IPv6 too (RFC 6936), because lispers.net sends
    such ECMs, and their outer checksum covers these octets. The packet ends where its IP header says, the payload where
    its UDP header says. Raises MalformedMessage with `counter` for anything else: a wrong checksum, a fragment, another
    protocol, IPv6 extension headers, octets beyond the packet.
    """
    if not packet:
        raise MalformedMessage(counter, "no inner packet")
    version = packet[0] >> 4
    if version == 4:
        return _parse_ipv4(packet, counter)
    if version == 6:
        return _parse_ipv6(packet, counter)
    raise MalformedMessage(counter, f"an inner packet of IP version {version}")


#  0                   1                   2                   3
#  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
# +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
# |Version|  IHL  |      TOS      |          Total Length         |
# |        Identification         |0|D|M|     Fragment Offset     |
# |      TTL      |    Protocol   |         Header Checksum       |
# |                         Source Address                        |
# |                      Destination Address                      |
def _parse_ipv4(packet: bytes, counter: str) -> UdpPacket:
    if len(packet) < IPV4_OCTETS:
        raise MalformedMessage(counter, "inner IPv4 header cut")
    (first, tos, total, identification, fragment, ttl, protocol, _, source, destination) = _IPV4.unpack_from(packet)
    header_octets = (first & 0x0F) * 4
    if not IPV4_OCTETS <= header_octets <= total or total != len(packet):
        raise MalformedMessage(counter, f"inner IPv4 header of {header_octets} octets, total length {total}")
    if internet_checksum(packet[:header_octets]):
        raise MalformedMessage(counter, "inner IPv4 header checksum")
    if fragment & _FRAGMENT:
        raise MalformedMessage(counter, "an inner fragment")
    if protocol != _UDP_PROTOCOL:
        raise MalformedMessage(counter, f"inner protocol {protocol}, not UDP")
    udp = _parse_udp(packet[header_octets:], source, destination, counter)
    return UdpPacket(
        IPv4Address(source),
        udp.source_port,
        IPv4Address(destination),
        udp.destination_port,
        udp.payload,
        ttl,
        tos,
        identification,
        bool(fragment & _DONT_FRAGMENT),
        has_checksum=udp.has_checksum,
    )


#  0                   1                   2                   3
#  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
# +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
# |Version| Traffic Class |           Flow Label                  |
# |         Payload Length        |  Next Header  |   Hop Limit   |
# |                      Source Address (128)                     |
# |                   Destination Address (128)                   |
def _parse_ipv6(packet: bytes, counter: str) -> UdpPacket:
    if len(packet) < IPV6_OCTETS:
        raise MalformedMessage(counter, "inner IPv6 header cut")
    first, length, protocol, ttl, source, destination = _IPV6.unpack_from(packet)
    if IPV6_OCTETS + length != len(packet):
        raise MalformedMessage(counter, f"inner IPv6 payload length {length}")
    if protocol != _UDP_PROTOCOL:
        raise MalformedMessage(counter, f"inner next header {protocol}, not UDP")
    udp = _parse_udp(packet[IPV6_OCTETS:], source, destination, counter)
    return UdpPacket(
        IPv6Address(source),
        udp.source_port,
        IPv6Address(destination),
        udp.destination_port,
        udp.payload,
        ttl,
        first >> 20 & 0xFF,
        flow_label=first & 0xFFFFF,
        has_checksum=udp.has_checksum,
    )


class _Udp(NamedTuple):
    source_port: int
    destination_port: int
    payload: bytes
    has_checksum: bool


# |          Source Port          |       Destination Port        |
# |            Length             |           Checksum            |
def _parse_udp(datagram: bytes, source: bytes, destination: bytes, counter: str) -> _Udp:
    if len(datagram) < UDP_OCTETS:
        raise MalformedMessage(counter, "inner UDP header cut")
    source_port, destination_port, length, checksum = _UDP.unpack_from(datagram)
    if not UDP_OCTETS <= length <= len(datagram):
        raise MalformedMessage(counter, f"inner UDP length {length} in {len(datagram)} octets")
    if checksum and internet_checksum(_pseudo_header(source, destination, length) + datagram[:length]):
        raise MalformedMessage(counter, "inner UDP checksum")
    return _Udp(source_port, destination_port, datagram[UDP_OCTETS:length], bool(checksum))


def _pseudo_header(source: bytes, destination: bytes, udp_length: int) -> bytes:
    # The pseudo-headers of IPv4 and IPv6 differ only in the widths of their fields, which do not change the sum.
    return source + destination + _UDP_PROTOCOL.to_bytes(2) + udp_length.to_bytes(2)

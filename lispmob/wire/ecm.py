"""Encapsulated Control Message: a control message inside IP and UDP headers of its own (RFC 9301, 5.8)."""

from __future__ import annotations

from typing import Final

import msgspec

from lispmob.errors import MalformedMessage
from lispmob.wire.address import IpAddress
from lispmob.wire.header import (
    CONTROL_PORT,
    DATA_PORT,
    Flags,
    MessageType,
    flag_word,
    has_bit,
    open_message,
    read_flags,
)
from lispmob.wire.ip_udp import DEFAULT_TTL, IPV4_OCTETS, UDP_OCTETS, UdpPacket, parse_ip_udp
from lispmob.wire.lisp_sec import AD_LISP_SEC, AD_MS_RTR, EcmSecurity
from lispmob.wire.map_notify import RtrAuthentication
from lispmob.wire.reader import Reader

_HAS_AUTHENTICATION: Final = 4
_FLAGS: Final[Flags] = {
    5: "is_ddt",  # D
    6: "to_etr",  # E
    7: "to_map_server",  # M
    9: "to_rtr",  # R, NAT-traversal draft
    10: "relayed_by_rtr",  # N, NAT-traversal draft
}
_SHORTEST_MESSAGE: Final = 4
_INNER_TYPES: Final = (MessageType.MAP_REQUEST, MessageType.MAP_REGISTER, MessageType.MAP_NOTIFY)
_IS_PROBE: Final = 0x02


class EncapsulatedControl(msgspec.Struct, frozen=True):
    """A control message that travels through the mapping system, or through an RTR.

    The inner addresses of a Map-Request are EIDs; its Map-Reply goes to `source_port`. `authentication` (S) is the AD
    as octets, including its type: LISP-SEC's (`lisp_sec.EcmSecurity`), or a Map-Server's for an RTR. The fields from
    `ttl` on are those of the inner headers, as in `ip_udp.UdpPacket`. We always send a UDP checksum (RFC 9301, 5); some
    peers do not.
    """

    source: IpAddress
    source_port: int
    destination: IpAddress
    destination_port: int
    message: bytes
    authentication: bytes | None = None
    is_ddt: bool = False
    to_etr: bool = False
    to_map_server: bool = False
    to_rtr: bool = False
    relayed_by_rtr: bool = False
    ttl: int = DEFAULT_TTL
    traffic_class: int = 0
    identification: int = 0
    dont_fragment: bool = False
    flow_label: int = 0
    has_checksum: bool = True

    @property
    def rtr_authentication(self) -> RtrAuthentication | None:
        """The Map-Server's proof to an RTR (AD type 2), or None."""
        if self.authentication is None or self.authentication[0] != AD_MS_RTR:
            return None
        return RtrAuthentication.take(Reader(self.authentication, start=4))

    def encode(self) -> bytes:
        """The message's octets. ValueError for addresses of two families."""
        word = flag_word(MessageType.ENCAPSULATED_CONTROL, _FLAGS, self)
        word |= (self.authentication is not None) << 31 - _HAS_AUTHENTICATION
        inner = UdpPacket(
            self.source,
            self.source_port,
            self.destination,
            self.destination_port,
            self.message,
            self.ttl,
            self.traffic_class,
            self.identification,
            self.dont_fragment,
            self.flow_label,
            self.has_checksum,
        )
        return word.to_bytes(4) + (self.authentication or b"") + inner.encode()

    #  0                   1                   2                   3
    #  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
    # +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    # |Type=8 |S|D|E|M|-|R|N|              Reserved                   |
    # |                 Authentication data, if S                     |
    # |                    IPv4 or IPv6 header                        |
    # |                         UDP header                            |
    # |                    LISP control message                       |
    @classmethod
    def decode(cls, data: bytes) -> EncapsulatedControl:
        """Read an ECM; only the type of the inner message is checked. Raises MalformedMessage."""
        shortest = 4 + IPV4_OCTETS + UDP_OCTETS + _SHORTEST_MESSAGE
        reader, word = open_message(data, MessageType.ENCAPSULATED_CONTROL, shortest)
        authentication = _take_authentication(reader, data) if has_bit(word, _HAS_AUTHENTICATION) else None
        inner = parse_ip_udp(reader.take_rest())
        _check_inner(inner)
        return cls(
            inner.source,
            inner.source_port,
            inner.destination,
            inner.destination_port,
            inner.payload,
            authentication,
            **read_flags(word, _FLAGS),
            ttl=inner.ttl,
            traffic_class=inner.traffic_class,
            identification=inner.identification,
            dont_fragment=inner.dont_fragment,
            flow_label=inner.flow_label,
            has_checksum=inner.has_checksum,
        )


# |  AD Type = 2  |                   Reserved                    |
# |    Key ID     | Algorithm ID  |  Authentication Data Length   |
# ~                     Authentication Data                       ~
def _take_authentication(reader: Reader, data: bytes) -> bytes:
    """The AD as octets, with its lengths checked. AD type 1 is drawn in `lisp_sec.py`."""
    start = reader.position
    ad_type = data[start]
    if ad_type == AD_LISP_SEC:
        EcmSecurity.take(reader)
    elif ad_type == AD_MS_RTR:
        reader.take_u32()
        RtrAuthentication.take(reader)
    else:
        raise MalformedMessage("rx_policy", f"authentication data of the unknown type {ad_type}")
    return data[start : reader.position]


def _check_inner(inner: UdpPacket) -> None:
    ports = (inner.source_port, inner.destination_port)
    if DATA_PORT in ports or CONTROL_PORT not in ports:
        raise MalformedMessage("rx_ecm", f"inner ports {ports[0]} and {ports[1]}")
    if len(inner.payload) < _SHORTEST_MESSAGE:
        raise MalformedMessage("rx_ecm", f"an inner message of {len(inner.payload)} octets")
    kind = inner.payload[0] >> 4
    if kind == MessageType.ENCAPSULATED_CONTROL:
        raise MalformedMessage("rx_ecm", "an ECM inside an ECM")
    if kind not in _INNER_TYPES:
        raise MalformedMessage("rx_type", f"a message of type {kind} inside an ECM")
    if kind == MessageType.MAP_REQUEST and inner.payload[0] & _IS_PROBE:
        raise MalformedMessage("rx_policy", "an RLOC-probe inside an ECM")

"""The type of a control message that came on the data port."""

from __future__ import annotations

import msgspec

from lispmob.protocol.datagram import Datagram
from lispmob.wire.address import IpAddress
from lispmob.wire.header import DATA_PORT, MessageType


class DataControl(msgspec.Struct, frozen=True):
    """Instance-ID 0xFFFFFF: a UDP datagram in a data packet, or a bare one from a Map-Server to an ephemeral data port.

    The outer addresses are those of the packet as the uplink received it; for a bare one they are repeated as the inner
    ones.
    """

    payload: bytes
    source: IpAddress
    source_port: int
    destination: IpAddress
    destination_port: int
    outer_source: IpAddress
    outer_source_port: int
    outer_destination: IpAddress
    ifindex: int = 0

    @property
    def is_about_ways(self) -> bool:
        """True for an Info message, and for a probe whose inner port requests an answer as data."""
        is_info = bool(self.payload) and self.payload[0] >> 4 == MessageType.INFO
        return is_info or self.source_port == DATA_PORT

    def as_datagram(self) -> Datagram:
        """The same message as a control datagram."""
        return Datagram(self.payload, self.source, self.source_port, self.destination, self.ifindex, in_data=True)

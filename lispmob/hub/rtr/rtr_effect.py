"""The RTR's effects for the datapath, and the datapath's reports. Frozen values."""

from __future__ import annotations

from typing import TypeAlias

import msgspec

from lispmob.hub.rtr.nat_binding import Binding
from lispmob.protocol.effect import DropPending, Event, SendControl
from lispmob.wire.address import EidPrefix, IpAddress
from lispmob.wire.data_header import CONTROL_INSTANCE_ID, DataHeader
from lispmob.wire.header import CONTROL_PORT
from lispmob.wire.ip_udp import build_ip_udp
from lispmob.wire.record import MappingRecord


class InstallRelay(msgspec.Struct, frozen=True):
    """Send packets for this prefix to these translated addresses, each from our port that its NAT knows."""

    prefix: EidPrefix
    bindings: tuple[Binding, ...]


class RemoveRelay(msgspec.Struct, frozen=True):
    """This prefix has no node behind a NAT any more."""

    prefix: EidPrefix


class Learned(msgspec.Struct, frozen=True):
    """Another Map-Server's answer about a prefix; without a record: it has expired."""

    prefix: EidPrefix
    record: MappingRecord | None = None


class SendFromRelayPort(msgspec.Struct, frozen=True):
    """Send one UDP datagram from a port of this local address, the one that the NAT admits answers from: 4341, or 4342
    for a node that sends its data there.
    """

    payload: bytes
    destination: IpAddress
    port: int
    source: IpAddress
    is_from_control_port: bool = False


class InData(msgspec.Struct, frozen=True):
    """A control message in a data packet, Instance-ID 0xFFFFFF, and its path.

    `inner_source` is the node's own address; for a message without inner IP and UDP it repeats the outer one.
    """

    payload: bytes
    address: IpAddress
    port: int
    rtr: IpAddress
    inner_source: IpAddress
    inner_source_port: int
    is_at_control_port: bool = False

    def answer(self, message: bytes) -> SendFromRelayPort:
        """A data packet back on the same path, which the NAT admits."""
        inner_destination = self.inner_source if self.inner_source.version == self.rtr.version else self.address
        inner = build_ip_udp(self.rtr, CONTROL_PORT, inner_destination, self.inner_source_port, message)
        header = DataHeader(instance_id=CONTROL_INSTANCE_ID).encode()
        return SendFromRelayPort(header + inner, self.address, self.port, self.rtr, self.is_at_control_port)


class UnregisteredData(msgspec.Struct, frozen=True):
    """Data whose inner source is not registered from this outer address, or that comes from another port than before.

    With a new port the data is still forwarded; but its NAT has lost the old binding, and perhaps all.
    """

    inner_source: IpAddress
    instance_id: int
    outer_source: IpAddress
    outer_source_port: int
    outer_destination: IpAddress
    is_registered: bool = False  # the outer address is right
    inner_destination: IpAddress | None = None
    is_at_control_port: bool = False


class WayAlive(msgspec.Struct, frozen=True):
    """The node of this prefix is at that address and port: it registered, or answered, from there."""

    prefix: EidPrefix
    address: IpAddress
    port: int


RtrEffect: TypeAlias = (
    SendControl | SendFromRelayPort | Event | InstallRelay | RemoveRelay | Learned | DropPending | WayAlive
)

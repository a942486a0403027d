"""What the RTR asks of the datapath, and what the datapath tells it. Frozen values."""

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
    """Send what is for this prefix to these translated addresses, each from the port of ours that its NAT knows."""

    prefix: EidPrefix
    bindings: tuple[Binding, ...]


class RemoveRelay(msgspec.Struct, frozen=True):
    """Nobody behind a NAT has this prefix any more."""

    prefix: EidPrefix


class Learned(msgspec.Struct, frozen=True):
    """A Map-Server elsewhere says so about a prefix; without a record: what it said is too old now."""

    prefix: EidPrefix
    record: MappingRecord | None = None


class SendFromRelayPort(msgspec.Struct, frozen=True):
    """Send one UDP datagram from port 4341 of this address of ours: the NAT lets in answers from there alone."""

    payload: bytes
    destination: IpAddress
    port: int
    source: IpAddress


class InData(msgspec.Struct, frozen=True):
    """A control message in a data packet, Instance-ID 0xFFFFFF, and how it reached us.

    `inner_source` is the node's own idea of its address; a message without inner IP and UDP repeats the outer one.
    """

    payload: bytes
    address: IpAddress
    port: int
    rtr: IpAddress
    inner_source: IpAddress
    inner_source_port: int

    def answer(self, message: bytes) -> SendFromRelayPort:
        """A data packet back the way that this one came, which the NAT lets in."""
        inner_destination = self.inner_source if self.inner_source.version == self.rtr.version else self.address
        inner = build_ip_udp(self.rtr, CONTROL_PORT, inner_destination, self.inner_source_port, message)
        header = DataHeader(instance_id=CONTROL_INSTANCE_ID).encode()
        return SendFromRelayPort(header + inner, self.address, self.port, self.rtr)


class Stranger(msgspec.Struct, frozen=True):
    """Data whose inner source is not registered from this outer address, or that comes from another port than before.

    The port alone is no crime, and such data is forwarded: but its NAT has lost the old binding, and perhaps all.
    """

    inner_source: IpAddress
    instance_id: int
    outer_source: IpAddress
    outer_source_port: int
    outer_destination: IpAddress
    is_registered: bool = False  # the outer address is right
    inner_destination: IpAddress | None = None


class WayAlive(msgspec.Struct, frozen=True):
    """The node of this prefix is at that address and port: it has registered from there, or answered there."""

    prefix: EidPrefix
    address: IpAddress
    port: int


RtrEffect: TypeAlias = (
    SendControl | SendFromRelayPort | Event | InstallRelay | RemoveRelay | Learned | DropPending | WayAlive
)

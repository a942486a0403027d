"""What the RTR asks of the datapath, and what the datapath tells it. Frozen values."""

from __future__ import annotations

from typing import TypeAlias

from lispmob.control.effect import DropPending, Event, SendControl
from lispmob.hub.nat_binding import Binding
from lispmob.values import dataclass
from lispmob.wire.address import EidPrefix, IpAddress
from lispmob.wire.record import MappingRecord


@dataclass(frozen=True, slots=True)
class InstallRelay:
    """Send what is for this prefix to these translated addresses, each from the port of ours that its NAT knows."""

    prefix: EidPrefix
    bindings: tuple[Binding, ...]


@dataclass(frozen=True, slots=True)
class RemoveRelay:
    """Nobody behind a NAT has this prefix any more."""

    prefix: EidPrefix


@dataclass(frozen=True, slots=True)
class Learned:
    """A Map-Server elsewhere says so about a prefix; without a record: what it said is too old now."""

    prefix: EidPrefix
    record: MappingRecord | None = None


@dataclass(frozen=True, slots=True)
class SendFromRelayPort:
    """Send one UDP datagram from port 4341 of this address of ours: the NAT lets in answers from there alone."""

    payload: bytes
    destination: IpAddress
    port: int
    source: IpAddress


@dataclass(frozen=True, slots=True)
class Stranger:
    """Data whose inner source is not registered from this outer address, or that comes from another port than before.

    The port alone is no crime, and such data is forwarded: but its NAT has lost the old binding, and perhaps all.
    """

    inner_source: IpAddress
    instance_id: int
    outer_source: IpAddress
    outer_source_port: int
    outer_destination: IpAddress
    is_registered: bool = False  # the outer address is right


RtrEffect: TypeAlias = SendControl | SendFromRelayPort | Event | InstallRelay | RemoveRelay | Learned | DropPending

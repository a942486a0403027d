"""The inputs of the hub's machines, and their effects besides sending. Frozen values, as in `protocol/effect.py`."""

from __future__ import annotations

from typing import TypeAlias

import msgspec

from lispmob.protocol.effect import Event, SendControl
from lispmob.wire.address import EidPrefix, IpAddress
from lispmob.wire.record import MappingRecord


class Arrival(msgspec.Struct, frozen=True):
    """One datagram from the control port. `destination` is our address that it was sent to.

    `is_from_wire`: it came over a network; False if the kernel saw that this machine sent it. `relayed_from`: where the
    RTR in this process saw the sender, whose `source` is then an address behind a NAT.
    """

    payload: bytes
    source: IpAddress
    source_port: int
    destination: IpAddress
    is_from_wire: bool = True
    relayed_from: IpAddress | None = None


class RegistrationChanged(msgspec.Struct, frozen=True):
    """The mapping of a prefix is now `record`; None: it is not registered any more.

    `is_refresh`: the mapping has not changed, so forwarding stays. `is_stored`: the state file has it, except for its
    last nonce. `is_announced`: its node moved, and informs its peers itself. When a node came, went, or lost
    its memory, they learn it from the Map-Server.
    """

    prefix: EidPrefix
    record: MappingRecord | None
    is_refresh: bool = False
    is_announced: bool = False
    is_stored: bool = False


HubEffect: TypeAlias = SendControl | Event | RegistrationChanged

"""What enters the hub's machines, and what they ask for beyond sending. Frozen values, as in `protocol/effect.py`."""

from __future__ import annotations

from typing import TypeAlias

import msgspec

from lispmob.protocol.effect import Event, SendControl
from lispmob.wire.address import EidPrefix, IpAddress
from lispmob.wire.record import MappingRecord


class Arrival(msgspec.Struct, frozen=True):
    """One datagram from the control port. `destination` is the address of ours that it was sent to.

    `is_from_wire`: it came by a network; False where the kernel has seen that this machine itself sent it.
    `relayed_from`: where the RTR in this process saw the sender, whose `source` is an address behind a NAT then.
    """

    payload: bytes
    source: IpAddress
    source_port: int
    destination: IpAddress
    is_from_wire: bool = True
    relayed_from: IpAddress | None = None


class RegistrationChanged(msgspec.Struct, frozen=True):
    """The mapping of a prefix is now `record`; None: nobody has it registered any more.

    `is_refresh`: the mapping is the same as before, so forwarding stays as it is. `is_stored`: the state file knows it
    but for its last nonce. `is_told`: its node moved, and tells its peers itself; of one that began, went, or lost its
    memory they hear from the Map-Server.
    """

    prefix: EidPrefix
    record: MappingRecord | None
    is_refresh: bool = False
    is_told: bool = False
    is_stored: bool = False


HubEffect: TypeAlias = SendControl | Event | RegistrationChanged

"""The shape of a control message that arrives."""

from __future__ import annotations

from lispmob.values import dataclass
from lispmob.wire.address import IpAddress


@dataclass(frozen=True, slots=True)
class Datagram:
    """A control datagram as it arrived. `in_data`: it came on the data port in Instance-ID 0xFFFFFF."""

    payload: bytes
    source: IpAddress
    source_port: int
    destination: IpAddress
    ifindex: int = 0
    in_data: bool = False

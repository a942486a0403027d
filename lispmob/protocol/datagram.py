"""The shape of a control message that arrives."""

from __future__ import annotations

import msgspec

from lispmob.wire.address import IpAddress


class Datagram(msgspec.Struct, frozen=True):
    """A control datagram as it arrived. `in_data`: it came on the data port in Instance-ID 0xFFFFFF.

    `other_port`: 0 for port 4342, else the port that it came to (control/source_ports.py).
    """

    payload: bytes
    source: IpAddress
    source_port: int
    destination: IpAddress
    ifindex: int = 0
    in_data: bool = False
    other_port: int = 0

"""The port that data leaves from and comes to, for what is sent from it besides data."""

from __future__ import annotations

from typing import Any

from lispmob.datapath import _lispdp, marshal
from lispmob.datapath.face.handle import Handle
from lispmob.datapath.model import DataPortName
from lispmob.wire.address import IpAddress

ffi: Any = _lispdp.ffi
lib: Any = _lispdp.lib


class DataPort:
    """Its sockets; control messages that a NAT has to see come from there."""

    def __init__(self, handle: Handle) -> None:
        self._handle = handle

    def socket(self, family: int) -> int:
        """The descriptor that data arrives at, for locators whose NAT lets in what comes from there; -1: none."""
        return int(lib.lm_data_port_socket(self._handle.c, family))

    def send_control(
        self,
        payload: bytes,
        destination: IpAddress,
        port: int,
        source: IpAddress,
        *,
        ifindex: int = 0,
        data_port: DataPortName = "fixed",
    ) -> bool:
        """Send one datagram from the port that the data of `source` leaves from; False when it was refused."""
        own, remote = marshal.one_address(source), marshal.one_address(destination)
        chosen = marshal.DATA_PORTS[data_port]
        error = lib.lm_data_port_send_control(self._handle.c, own, ifindex, chosen, remote, port, payload, len(payload))
        return not error

"""The port that sends and receives data, for other messages that must use it."""

from __future__ import annotations

import os
from typing import Any

from lispmob.datapath import _lispdp, marshal
from lispmob.datapath.marshal import Handle
from lispmob.datapath.model import DataPortName
from lispmob.wire.address import IpAddress

ffi: Any = _lispdp.ffi
lib: Any = _lispdp.lib


class DataPort:
    """Its sockets; control messages that must pass a NAT are sent from there."""

    def __init__(self, handle: Handle) -> None:
        self._handle = handle

    def socket(self, family: int) -> int:
        """The socket that receives data, for locators whose NAT lets in packets from there; -1: none."""
        return int(lib.lm_data_port_socket(self._handle.c, family))

    def listen(self, descriptor: int) -> None:
        """Receive data from this socket as well, which is an RTR's control port; before start(). Raises OSError.

        The caller closes it, after stop().
        """
        if error := lib.lm_engine_listen(self._handle.c, descriptor):
            raise OSError(-error, os.strerror(-error))

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
        """Send one datagram from the data port of `source`; False if it was refused."""
        own, remote = marshal.one_address(source), marshal.one_address(destination)
        chosen = marshal.DATA_PORTS[data_port]
        error = lib.lm_data_port_send_control(self._handle.c, own, ifindex, chosen, remote, port, payload, len(payload))
        return not error

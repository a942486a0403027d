"""Names whose program is started by its first flow: lispd connects to a socket that systemd or the program listens on.

Each flow has its own connection there, with one packet, {"call": {...}}, that carries the flow's socket. The flow lives
as long as that connection.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable
from pathlib import Path

from lispmob.config.flows import FlowsSection
from lispmob.flow import packets, sockets
from lispmob.flow.adoption import show
from lispmob.flow.effect import AskProgram, FlowId, FlowOpened
from lispmob.flow.message import Reason
from lispmob.lispd.flows.names import held_name
from lispmob.lispd.flows.service import FlowService

log = logging.getLogger(__name__)


def hold_activated(service: FlowService, flows: FlowsSection) -> None:
    """Accept calls for every name with a socket in the configuration. Raises NameTaken."""
    for section in flows.names:
        if section.socket is not None:
            program = ActivatedProgram(section.socket, service.close)
            held = held_name(
                section.name, str(section.socket), flows, service.is_overlay, asks_program=False, backlog=16
            )
            service.hold(held, program)


class ActivatedProgram:
    """The program that listens at `path`."""

    def __init__(self, path: Path, close: Callable[[FlowId, Reason], None]) -> None:
        self._path, self._close = path, close
        self._connections: dict[FlowId, socket.socket] = {}
        self._loop = asyncio.get_running_loop()
        self.owner = None

    def on_call(self, asked: AskProgram) -> None:
        """Never called: calls to such names are accepted before the program runs."""

    def on_flow(self, opened: FlowOpened, one: socket.socket) -> None:
        """Pass the flow on; if no program accepts it, it ends."""
        fields = {
            "flow": opened.flow,
            "name": opened.name.decode(),
            "peer": str(opened.peer),
            "qos": packets.quality_to_json(opened.granted),
            "lifetime_s": opened.lifetime_s,
            "max_datagram": sockets.max_datagram(one),
            **show(opened, is_ours=False),
        }
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        try:
            connection.connect(str(self._path))
            packets.send(connection, {"call": fields}, (one.fileno(),))
        except OSError as error:
            connection.close()
            log.warning(
                "no service takes the flow %s at %s: %s", ascii(fields["name"])[1:-1], self._path, error.strerror
            )
            self._loop.call_soon(self._close, opened.flow, Reason.NO_ANSWER)
            return
        self._connections[opened.flow] = connection
        self._loop.add_reader(connection.fileno(), self._on_readable, opened.flow)

    def on_ended(self, flow: FlowId, reason_code: int) -> None:
        """The peer has ended the flow."""
        del reason_code
        self._forget(flow)

    def _on_readable(self, flow: FlowId) -> None:
        """The program sends nothing here; the end of its connection ends the flow."""
        try:
            if self._connections[flow].recv(1):
                return
        except BlockingIOError:
            return
        except OSError:
            pass
        self._forget(flow)
        self._close(flow, Reason.PROGRAM_ENDED)

    def _forget(self, flow: FlowId) -> None:
        connection = self._connections.pop(flow, None)
        if connection is not None:
            self._loop.remove_reader(connection.fileno())
            connection.close()

"""Flows to names in lispd, if configured; nothing is loaded otherwise."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Final

from lispmob.config.node import NodeFile
from lispmob.errors import LispError
from lispmob.lispd.flows.name_asking import NameAsking
from lispmob.lispd.tasks.steering import Steering

if TYPE_CHECKING:
    from lispmob.lispd.flows.flow_steering import FlowSteering
    from lispmob.lispd.flows.server import FlowServer
    from lispmob.lispd.flows.service import FlowService
    from lispmob.node.node import Node

SOCKET_NAME: Final = "flow.sock"  # beside the control socket

log = logging.getLogger("lispd")


class Flows:
    """The flow service and its socket, or nothing."""

    def __init__(self, steering: Steering, node: Node, ask_name: Callable[[bytes], None]) -> None:
        self._node = node
        self._steering = steering
        self._flow_steering: FlowSteering | None = None
        self.names = NameAsking(ask_name)
        self._service: FlowService | None = None
        self._server: FlowServer | None = None

    def start(self, file: NodeFile) -> None:
        """Start if `flows` is enabled. A failure is reported, and the node runs without flows."""
        if not file.flows.enabled:
            return
        from lispmob.lispd.flows.activation import hold_activated
        from lispmob.lispd.flows.flow_steering import FlowSteering, is_absent, round_trip_s
        from lispmob.lispd.flows.server import FlowServer
        from lispmob.lispd.flows.service import FlowService

        self._flow_steering = FlowSteering(self._steering, self._node, self.on_uplinks)
        own = {socket.if_nametoindex("lo"), socket.if_nametoindex(file.tun.name)}
        service = FlowService(
            file.flows,
            host=socket.gethostname().partition(".")[0],
            overlay_prefixes=file.routing.overlay_prefixes,
            is_overlay_interface=own.__contains__,
            mark_of=self._flow_steering.mark_of,
            rtt_of=partial(round_trip_s, self._node),
            find_name=self.names.find,
            is_absent=partial(is_absent, self._node),
        )
        server = FlowServer(
            service, file.flows.socket or file.control.socket.with_name(SOCKET_NAME), group=file.control.group
        )
        try:
            server.start()
            service.set_eids(file.eids)
            hold_activated(service, file.flows)
        except LispError as error:
            log.error("no flows: %s", error)
            server.close()
            service.stop()
            return
        self._service, self._server = service, server

    def on_uplinks(self) -> None:
        """The uplinks, the rules, or the measurements have changed."""
        if self._service is not None:
            self._service.on_uplinks()

    def on_config(self, file: NodeFile) -> None:
        """The configuration was reloaded: the EIDs may have changed."""
        if self._service is not None:
            self._service.set_eids(file.eids)

    def stop(self) -> None:
        """Inform the peers that all flows have ended."""
        if self._flow_steering is not None:
            self._flow_steering.stop()
        if self._service is not None and self._server is not None:
            self._service.close_flows()
            self._server.close()
            self._service.stop()
            self._service = self._server = None

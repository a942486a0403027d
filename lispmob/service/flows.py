"""Flows to names in lispd, where the configuration wants them; nothing is loaded where it does not."""

from __future__ import annotations

import contextlib
import logging
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from lispmob.config.node import NodeFile
from lispmob.errors import LispError
from lispmob.mh.policy import Rule, Via
from lispmob.service.name_asking import NameAsking
from lispmob.service.steering import Steering

if TYPE_CHECKING:
    from lispmob.flow.server import FlowServer
    from lispmob.flow.service import FlowService

SOCKET_NAME: Final = "flow.sock"  # beside the control socket

log = logging.getLogger("lispd")


class Flows:
    """The flow service and its socket, or nothing."""

    def __init__(self, steering: Steering, ask_name: Callable[[bytes], None]) -> None:
        self._steering = steering
        self.names = NameAsking(ask_name)
        self._service: FlowService | None = None
        self._server: FlowServer | None = None

    def start(self, file: NodeFile) -> None:
        """Begin, when `flows` is enabled. What cannot be had is said, and the node goes on without flows."""
        if not file.flows.enabled:
            return
        from lispmob.flow.activation import hold_activated
        from lispmob.flow.server import FlowServer
        from lispmob.flow.service import FlowService

        own = {socket.if_nametoindex("lo"), socket.if_nametoindex(file.tun.name)}
        service = FlowService(
            file.flows,
            host=socket.gethostname().partition(".")[0],
            overlay_prefixes=file.routing.overlay_prefixes,
            is_overlay_interface=own.__contains__,
            mark_of=self._mark_of,
            find_name=self.names.find,
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
        """The uplinks have changed."""
        if self._service is not None:
            self._service.on_uplinks()

    def on_config(self, file: NodeFile) -> None:
        """A reload: the EIDs may be others."""
        if self._service is not None:
            self._service.set_eids(file.eids)

    def stop(self) -> None:
        """Tell the peers that all flows are over."""
        if self._service is not None and self._server is not None:
            self._service.farewell()
            self._server.close()
            self._service.stop()
            self._service = self._server = None

    def _mark_of(self, via: tuple[str, ...]) -> int:
        """The mark of the uplink that these patterns name now; 0 when none of them is there."""
        with contextlib.suppress(ValueError):
            rule = Rule("flow", via=tuple(Via(pattern) for pattern in via))
            found = rule.candidates(self._steering.compiled.uplinks) if via else ()
            return self._steering.policy.mask.mark(found[0][0].ifindex) if found else 0
        return 0

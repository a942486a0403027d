"""The flows of hosts on loopback addresses, which stand for EIDs: real sockets, no namespaces, one event loop."""

from __future__ import annotations

import socket
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

from lispmob.config.flows import FlowsSection
from lispmob.lispd.flows.server import FlowServer
from lispmob.lispd.flows.service import FlowService
from lispmob.wire.address import EidPrefix

LO = socket.if_nametoindex("lo")


def free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


class LocalFlows:
    """The flows of one host at `eid`; needs a running loop."""

    def __init__(self, eid: str, path: Path, port: int, *, wishes: dict[str, Any] | None = None, **flows: Any) -> None:
        section = FlowsSection(enabled=True, port=port, **flows)
        self.path = path
        self.service = FlowService(
            section,
            host="here",
            overlay_prefixes=[ip_network("127.0.0.0/8")],
            is_overlay_interface=LO.__eq__,
            **(wishes or {}),
        )
        self.server = FlowServer(self.service, path)
        self.server.start()
        self.service.set_eids([EidPrefix.host(ip_address(eid))])

    def stop(self) -> None:
        """Stop as lispd does."""
        self.service.close_flows()
        self.server.close()
        self.service.stop()

"""What a user waits for: start to registered, the first packet to a new destination. A hub and two nodes, no delay."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path
from typing import Final

from lispmob.api.client import Client
from lispmob.errors import LispError
from lispmob.lab.bench.traffic import Figures
from lispmob.lab.build import Lab
from lispmob.lab.demo.service import Hub, Node, hub_configuration, node_configuration
from lispmob.lab.demo.stage import OVERLAY, A, B
from lispmob.lab.ping import ping
from lispmob.lab.process import ProcessFailed
from lispmob.lab.topology import roaming

_PATIENCE_S: Final = 20.0


class Overlay:
    """The hub and node b, which stay; node a starts anew for each sample."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._open = contextlib.ExitStack()
        self._lab = self._open.enter_context(Lab(roaming(0.0)))
        try:
            addresses = [address.ip for address in self._lab.topology.addresses("hub", "eth0")]
            text = hub_configuration((A, B), addresses, directory / "hub")
            hub = Hub(self._lab["hub"], text, directory / "hub")
            self._open.callback(hub.daemon.stop)
            hub.wait_until_listening(_PATIENCE_S)
            self._wait(self._start("b"))
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Overlay:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._open.close()

    def sample(self, number: int) -> Figures:
        """Start node a, wait until it is registered, send its first packet, stop it. Raises ProcessFailed."""
        with contextlib.ExitStack() as stack:
            node = self._start("a", number, stack)
            registered_s = self._wait(node)
            first_s = self._first_packet(node)
        return {
            "start-to-registered": (registered_s * 1e3, "ms"),
            "first-packet": (first_s * 1e3, "ms"),
        }

    def _first_packet(self, node: Node) -> float:
        """Seconds until the first packet, whose mapping nobody knows yet, is answered."""
        deadline = time.monotonic() + _PATIENCE_S
        while time.monotonic() < deadline:
            try:
                answer = ping(self._lab["a"], B.eid4, A.eid4, count=1, timeout_s=3.0)
            except OSError:  # registered, and its device has no address yet
                time.sleep(0.005)
                continue
            if answer.median_s is not None:
                return answer.median_s
        raise ProcessFailed(f"the first packet did not come back\n{node.daemon.log_tail()}")

    def _start(self, name: str, number: int = 0, stack: contextlib.ExitStack | None = None) -> Node:
        directory = self._directory / f"{name}{number}"
        identity = A if name == "a" else B
        map_server = self._lab.topology.address("hub", "eth0")
        text = node_configuration(identity, map_server, OVERLAY, directory)
        node = Node(identity, self._lab[name], text, directory)
        (stack or self._open).callback(node.daemon.stop)
        return node

    def _wait(self, node: Node) -> float:
        """Seconds from the start of the process until it says that it is registered."""
        socket = str(self._directory / node.daemon.log.parent.name / "lispd.sock")
        deadline = node.daemon.started_at + _PATIENCE_S
        while time.monotonic() < deadline:
            node.daemon.check()
            with contextlib.suppress(LispError), Client(socket) as client:
                while time.monotonic() < deadline:
                    if client.call("status").get("state") == "registered":
                        return time.monotonic() - node.daemon.started_at
                    time.sleep(0.002)
            time.sleep(0.002)
        raise ProcessFailed(f"{node.identity.name} is not registered\n{node.daemon.log_tail()}")

"""Two nodes that reach each other only through an RTR: the cost of relaying, compared with the tier's direct path.

    a -- 198.18.1.0/24 -- r (lisphub: Map-Server and RTR) -- 198.18.2.0/24 -- b

The nodes prefer the RTR (`natt: {prefer-rtr: yes}`), so their data takes the path that it takes between two NATs. It is
in clear, as on the direct paths, so that the ratio is the cost of relaying alone; `sealed.py` measures sealing.
"""

from __future__ import annotations

import contextlib
import socket
import struct
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Final

from lispmob.lab import link
from lispmob.lab.bench import tiers
from lispmob.lab.bench.pair import ETH_P_ALL, Pair
from lispmob.lab.bench.paths import RTR
from lispmob.lab.bench.wire import CABLE, TUNNEL_MTU, Way
from lispmob.lab.demo_service import Hub, Identity, Node, hub_configuration, node_configuration
from lispmob.lab.namespace import Namespace
from lispmob.lab.process import ProcessFailed

_NODES: Final = (
    Identity("a", IPv4Address("10.1.0.1"), IPv6Address("2001:db8:e1d::1")),
    Identity("b", IPv4Address("10.1.0.2"), IPv6Address("2001:db8:e1d::2")),
)
_OVERLAY: Final = ("10.1.0.0/16", "2001:db8:e1d::/48")
_PATIENCE_S: Final = 30.0
_DATA_PORT: Final = 4341


class Relayed(Pair):
    """The three hosts. Leaving the `with` block removes them."""

    def __init__(self, directory: Path, tier: str) -> None:
        """Return when packets pass in both directions. Raises KernelRefused, ProcessFailed, TierUnavailable."""
        self.nodes: list[Node] = []
        self._tier = tier
        super().__init__(directory, Way(f"{tier}{RTR}", _NODES[0].eid4, _NODES[1].eid4), f"{tier}-rtr-", ("r",))

    def check(self, count: int = 10) -> int:
        """How many of `count` pings reach b in packets from the RTR. Raises ProcessFailed when not all do."""
        return self._count(count, self._is_relayed, "came from the RTR", ETH_P_ALL)

    @property
    def _router(self) -> Namespace:
        return self._between[0]

    def _build(self) -> None:
        self._lay_cables()
        self._start_hub()
        for number in (0, 1):
            self._start_node(number)
        self._wait_until(self._is_through, "no way through the RTR", _PATIENCE_S)
        for node in self.nodes:
            tiers.require(node, self._tier)

    def _is_through(self) -> bool:
        with contextlib.suppress(OSError, ProcessFailed):  # no address yet, or still another path
            return self._is_answered() and self.check() > 0
        return False

    def _is_relayed(self, packet: bytes) -> bool:
        header = (packet[0] & 15) * 4
        inner = packet[header + 16 :]
        return (
            packet[9] == socket.IPPROTO_UDP
            and struct.unpack_from("!H", packet, header + 2) == (_DATA_PORT,)
            and packet[12:16] in (_router_address(0).packed, _router_address(1).packed)
            and inner[12:20] == self.way.near.packed + self.way.far.packed
        )

    def _lay_cables(self) -> None:
        for number, space in enumerate(self._hosts):
            far = f"to-{_NODES[number].name}"
            link.apply(space, [link.veth(CABLE, self._router, far)])
            link.apply(self._router, [f"link set {far} up", f"addr add {_router_address(number)}/24 dev {far}"])
            link.apply(
                space,
                [
                    f"link set {CABLE} up",
                    f"addr add {_node_address(number)}/24 dev {CABLE}",
                    f"route add default via {_router_address(number)} dev {CABLE}",
                ],
            )
        self._router.sysctl("ipv4/ip_forward", "1")

    def _start_hub(self) -> None:
        directory = self._directory / "r"
        addresses = [_router_address(number) for number in (0, 1)]
        text = (
            hub_configuration(_NODES, addresses, directory) + f"rtr: {{enabled: yes}}\nproxy: {{mtu: {TUNNEL_MTU}}}\n"
        )
        hub = Hub(self._router, text, directory)
        self._open.callback(hub.daemon.stop)
        hub.wait_until_listening(_PATIENCE_S)

    def _start_node(self, number: int) -> None:
        directory = self._directory / _NODES[number].name
        text = node_configuration(_NODES[number], _router_address(number), _OVERLAY, directory)
        text += f"natt: {{prefer-rtr: yes}}\ntun: {{mtu: {TUNNEL_MTU}}}\nsecurity: {{seal: off}}\n" + tiers.chosen(
            self._tier
        )
        node = Node(_NODES[number], self._hosts[number], text, directory)
        self._run(node.daemon)
        self.nodes.append(node)


def _router_address(number: int) -> IPv4Address:
    return IPv4Address(f"198.18.{number + 1}.1")


def _node_address(number: int) -> IPv4Address:
    return IPv4Address(f"198.18.{number + 1}.10")

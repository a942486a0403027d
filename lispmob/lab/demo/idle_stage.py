"""Two idle nodes, in the background: one behind a NAT with short timeouts, one without NAT.

    sleeper -- 192.168.31.0/24 -- NAT, 10 s ══╗
    open    -- 198.18.41.0/24                ══╬══ core ══ rack: hub (Map-Server, RTR)

The node takes a minute to measure its NAT's timeout, and hardly any processor time.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, ip_address
from pathlib import Path
from typing import Any, Final

from lispmob.closing import Closing
from lispmob.lab.build import Lab
from lispmob.lab.control_watch import ControlWatch
from lispmob.lab.demo_service import Hub, Identity, Node, hub_configuration, node_configuration
from lispmob.lab.line import Impairment
from lispmob.lab.link import IpAddress
from lispmob.lab.nat import Nat, NatGateway
from lispmob.lab.ping import ping
from lispmob.lab.process import ProcessFailed
from lispmob.lab.topology import AccessNetwork, Host, Topology, Uplink

FORGETS_S: Final = 10
DELAY_S: Final = 0.005
ROUND_TRIP_S: Final = 4 * DELAY_S
FINE_S: Final = 5.0  # the node measures a short timeout to within this

_SLEEPER: Final = Identity("sleeper", ip_address("10.1.0.41"), ip_address("2001:db8:e1d::41"))
_OPEN: Final = Identity("open", ip_address("10.1.0.42"), ip_address("2001:db8:e1d::42"))
_OVERLAY: Final = ("10.1.0.0/16", "2001:db8:e1d::/48")
_PUBLIC: Final = IPv4Address("203.0.113.41")
_OTHER_PUBLIC: Final = IPv4Address("203.0.113.42")
_KEEPALIVE: Final = "encapsulated map-register"
_PATIENCE_S: Final = 15.0
_LOOK_S: Final = 2.0
_PORT: Final = 47_010
_RATE_HZ: Final = 50.0


@dataclass(frozen=True, slots=True)
class Keepalives:
    """The sleeper's messages after it measured its NAT: only `count` keepalives in `window_s` seconds."""

    at_least_s: float
    below_s: float
    interval_s: float
    count: int
    window_s: float

    @property
    def allowed(self) -> int:
        """At most one per interval, wherever the window begins."""
        return int(self.window_s / (0.75 * self.at_least_s)) + 1


class IdleStage(Closing):
    """Leaving the `with` block, or `close`, ends it. Raises KernelRefused or ProcessFailed."""

    def __init__(self, directory: Path, forgets_s: int = FORGETS_S) -> None:
        """Start everything and return when both nodes are registered."""
        self._open = contextlib.ExitStack()
        self._is_over = threading.Event()
        try:
            self.lab = self._open.enter_context(Lab(_topology(), "idle-"))
            self.nat = NatGateway(self.lab, "flat", Nat(_PUBLIC, new_s=forgets_s, stream_s=forgets_s))
            names = ("sleeper", "open")
            self.watch = self._open.enter_context(ControlWatch({name: self.lab[name] for name in names}))
            self.began_at = time.monotonic()
            address = self.lab.topology.address("hub", "eth0")
            text = hub_configuration((_SLEEPER, _OPEN), [address], directory / "hub") + "rtr: {enabled: yes}\n"
            hub = Hub(self.lab["hub"], text, directory / "hub")
            self._open.callback(hub.daemon.stop)
            hub.wait_until_listening(timeout_s=_PATIENCE_S)
            self.nodes = {
                identity.name: self._start(identity, address, directory / identity.name)
                for identity in (_SLEEPER, _OPEN)
            }
            self._wait_until_registered()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """End everything. Idempotent; a thread that waits in `rest` gets ProcessFailed."""
        self._is_over.set()
        self._open.close()

    def rest(self, seconds: float) -> None:
        """Wait. Raises ProcessFailed when the stage is closed meanwhile."""
        if self._is_over.wait(seconds):
            raise ProcessFailed("closed before it was measured")

    def keepalives(self, intervals: int = 3, within_s: float = 85.0) -> Keepalives | None:
        """The count, when the timeout is measured and some intervals have passed; None after `within_s`."""
        deadline = time.monotonic() + within_s
        while True:
            seen = self.netcheck("sleeper")
            at_least, below, interval = (seen[k] for k in ("lifetime_at_least_s", "lifetime_below_s", "keepalive_s"))
            if at_least and below and below - at_least <= FINE_S:
                since, until = self._measured_at(), time.monotonic()
                if until - since >= intervals * interval:
                    count = len(self._sent("sleeper", since, until, _KEEPALIVE))
                    return Keepalives(at_least, below, interval, count, until - since)
            if time.monotonic() > deadline:
                return None
            self.rest(_LOOK_S)

    def sent_without_nat(self) -> int:
        """Messages by which the node without NAT would keep a binding: registers through an RTR."""
        return len(self._sent("open", self.began_at, time.monotonic(), _KEEPALIVE))

    def lost_towards_sleeper(self) -> int:
        """Pings from the node without NAT that are not answered."""
        return ping(self.lab["open"], _SLEEPER.eid4, _OPEN.eid4, count=3).lost

    def renumbered_recovery_s(self, within_s: float) -> float | None:
        """The NAT's public address changes while the sleeper is idle: returns how long until it is reachable again."""
        with (
            self.lab["sleeper"].socket(socket.AF_INET, socket.SOCK_DGRAM) as listening,
            self.lab["open"].socket(socket.AF_INET, socket.SOCK_DGRAM) as sending,
        ):
            listening.bind((str(_SLEEPER.eid4), _PORT))  # it does not answer: only a keepalive renews the binding
            listening.settimeout(1 / _RATE_HZ)
            sending.bind((str(_OPEN.eid4), 0))
            self.nat.renumber(_OTHER_PUBLIC)
            began = time.monotonic()
            while time.monotonic() < began + within_s and not self._is_over.is_set():
                sending.sendto(b"%f" % time.monotonic(), (str(_SLEEPER.eid4), _PORT))
                with contextlib.suppress(TimeoutError):
                    if float(listening.recv(64)) >= began:
                        return time.monotonic() - began
        return None

    def netcheck(self, name: str) -> dict[str, Any]:
        """What the node reports about its uplink. Raises ProcessFailed."""
        answer = self.nodes[name].lispctl("netcheck")
        if answer is None:
            raise ProcessFailed(f"{name} does not answer\n{self.nodes[name].daemon.log_tail()}")
        return dict(answer["entries"][0])

    def _measured_at(self) -> float:
        """Since when the sleeper has sent nothing but keepalives."""
        sent = self.watch.messages(self.began_at, time.monotonic())
        return max(
            message.at
            for message in sent
            if message.host == "sleeper" and message.kind != _KEEPALIVE and message.is_out
        )

    def _sent(self, host: str, since: float, until: float, kind: str) -> list[float]:
        sent = self.watch.messages(since, until)
        return [message.at for message in sent if (message.host, message.kind, message.is_out) == (host, kind, True)]

    def _start(self, identity: Identity, map_server: IpAddress, directory: Path) -> Node:
        text = node_configuration(identity, map_server, _OVERLAY, directory)
        node = Node(identity, self.lab[identity.name], text, directory)
        self._open.callback(node.daemon.stop)
        return node

    def _wait_until_registered(self) -> None:
        deadline = time.monotonic() + _PATIENCE_S
        for node in self.nodes.values():
            while " registered eid=" not in node.daemon.log_text():
                node.daemon.check()
                if time.monotonic() > deadline:
                    raise ProcessFailed(f"{node.identity.name} does not register\n{node.daemon.log_tail()}")
                time.sleep(0.05)


def _topology() -> Topology:
    line = Impairment(delay_s=DELAY_S)
    return Topology(
        networks=(
            AccessNetwork("flat", IPv4Network("192.168.31.0/24"), line=line),
            AccessNetwork("street", IPv4Network("198.18.41.0/24"), line=line),
            AccessNetwork("rack", IPv4Network("198.51.100.0/24"), line=line),
        ),
        hosts=(
            Host("sleeper", (Uplink("eth0", "flat"),)),
            Host("open", (Uplink("eth0", "street"),)),
            Host("hub", (Uplink("eth0", "rack"),)),
        ),
    )

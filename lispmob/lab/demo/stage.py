"""What the chapters share: the laboratory, its services, the streams, the report."""

from __future__ import annotations

import contextlib
import shutil
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final, TypeVar

from lispmob.lab import move as moves
from lispmob.lab.build import Lab
from lispmob.lab.charts import Picture, Span
from lispmob.lab.control_watch import ControlWatch
from lispmob.lab.demo.screen import Screen, View
from lispmob.lab.demo_service import Hub, Identity, Node, hub_configuration, node_configuration
from lispmob.lab.handover import Handover
from lispmob.lab.probe import Party, ProbeStream
from lispmob.lab.process import ProcessFailed
from lispmob.lab.report import Report
from lispmob.lab.tcp_stream import TcpStream
from lispmob.lab.uplink_watch import Sent

A: Final = Identity("a", ip_address("10.1.0.1"), ip_address("2001:db8:e1d::1"))
B: Final = Identity("b", ip_address("10.1.0.2"), ip_address("2001:db8:e1d::2"))
OVERLAY: Final = ("10.1.0.0/16", "2001:db8:e1d::/48")

_T = TypeVar("_T")

_QUIET_AFTER_S: Final = 0.8  # ours: how long after a move the nodes are not queried


class Stage:
    """The running demonstration. `close` ends everything except the laboratory."""

    def __init__(self, lab: Lab, report: Report, screen: Screen, directory: Path, output: Path) -> None:
        """`directory` is for sockets, state and configuration, `output` for what is kept."""
        self.lab = lab
        self.report = report
        self.screen = screen
        self.handovers: list[Handover] = []
        self.more_configuration = ""  # for nodes that are started afterwards
        self._directory = directory
        self._output = output
        self._open = contextlib.ExitStack()
        self.watch = self._open.enter_context(ControlWatch({name: lab[name] for name in ("a", "b", "hub")}))
        self.nodes: dict[str, Node] = {}
        self.hub: Hub | None = None
        self.idle: Future[Any] | None = None  # the measurement in the background
        self.losses: Future[list[str]] | None = None
        self.tcp: TcpStream | None = None
        self.sent: list[Sent] = []  # by which uplink, in the chapter that shows it
        self._views: list[View] = []
        self._is_measuring = threading.Event()
        self._is_over = threading.Event()
        self._spans: list[Span] = []
        self._places: dict[str, tuple[str, float]] = {}
        for uplink in lab.topology.host("a").uplinks:
            self._places[uplink.interface] = uplink.network, report.began_at

    def close(self) -> None:
        """End everything and keep the logs."""
        self._is_over.set()
        self.screen.unwatch()
        self._open.close()
        self._output.mkdir(parents=True, exist_ok=True)
        for log in self._directory.glob("*/*.log"):
            shutil.copyfile(log, self._output / f"{log.parent.name}-{log.name}")

    @property
    def is_over(self) -> bool:
        """True while it is being closed."""
        return self._is_over.is_set()

    def rest(self, seconds: float) -> None:
        """Wait, in a background thread. Raises ProcessFailed when the stage is closed meanwhile."""
        if self._is_over.wait(max(0.0, seconds)):
            raise ProcessFailed("closed before it was measured")

    def enter(self, context: contextlib.AbstractContextManager[_T]) -> _T:
        """Enter a context that is closed with the stage."""
        return self._open.enter_context(context)

    # --- services ---

    def start_hub(self) -> Hub:
        """Start lisphub and wait until it listens. Raises ProcessFailed."""
        topology = self.lab.topology
        addresses = [address.ip for address in topology.addresses("hub", "eth0")]
        directory = self._directory / "hub"
        hub = self.hub = Hub(self.lab["hub"], hub_configuration((A, B), addresses, directory), directory)
        self._open.callback(hub.daemon.stop)
        hub.wait_until_listening(timeout_s=10.0)
        return hub

    def start_node(self, identity: Identity) -> Node:
        """Start lispd in the namespace with the identity's name."""
        directory = self._directory / identity.name
        map_server = self.lab.topology.address("hub", "eth0")
        configuration = node_configuration(identity, map_server, OVERLAY, directory) + self.more_configuration
        node = self.nodes[identity.name] = Node(identity, self.lab[identity.name], configuration, directory)
        self._open.callback(node.daemon.stop)
        return node

    def reconfigure(self, identity: Identity, extra: str) -> None:
        """Give a node its usual configuration and `extra`. Raises ProcessFailed."""
        map_server = self.lab.topology.address("hub", "eth0")
        usual = node_configuration(identity, map_server, OVERLAY, self._directory / identity.name)
        self.nodes[identity.name].reconfigure(usual + extra)

    def check_services(self) -> None:
        """Raise ProcessFailed, with the log, when a daemon has ended."""
        if self.hub is not None:
            self.hub.daemon.check()
        for node in self.nodes.values():
            node.daemon.check()

    def look(self) -> list[View]:
        """The state of the nodes; while a move is measured, their last known state."""
        # Four processes of lispctl would disturb the measurement.
        if not self._is_measuring.is_set():
            self._views = [
                View(name, node.lispctl("status"), node.lispctl("map-cache"), node.daemon.is_running)
                for name, node in self.nodes.items()
            ]
        return self._views

    # --- traffic ---

    def party(self, identity: Identity) -> Party:
        """The end of a stream at the EID of a node."""
        return Party(self.lab[identity.name], identity.eid4)

    def start_tcp(self) -> None:
        """Open the TCP stream that runs during all moves. Idempotent."""
        if self.tcp is None:
            self.tcp = self._open.enter_context(TcpStream(self.party(A), self.party(B)))

    # --- moves ---

    def observe(
        self, name: str, move: moves.Move, *, rate_hz: float = 100.0, before_s: float = 1.0, after_s: float = 3.0
    ) -> Handover:
        """Perform a move of node a during a probe stream. Raises ProcessFailed when no packets arrived before it."""
        self._is_measuring.set()
        with ProbeStream(self.party(A), self.party(B), rate_hz=rate_hz) as probes:
            time.sleep(before_s)
            moment = moves.perform(self.lab, move)
            self._note_place(move, moment.began_at)
            time.sleep(_QUIET_AFTER_S)
            self._is_measuring.clear()
            time.sleep(max(0.0, after_s - _QUIET_AFTER_S))
            seen_until = time.monotonic()
            out, back = probes.finish()
        handover = Handover(
            name,
            move.title,
            moment.began_at,
            moment.ended_at,
            seen_until,
            rate_hz,
            out,
            back,
            messages=tuple(self.watch.messages(moment.began_at, seen_until)),
            is_break=move.kind is not moves.Kind.RESTORED,
        )
        self.check_services()
        if not handover.has_baseline():
            raise ProcessFailed(f"{name}: no packets flowed before the move\n{self._logs()}")
        self._tell(handover)
        return handover

    def pictured(self) -> Picture:
        """What can be drawn so far."""
        now = time.monotonic()
        current = [Span(interface, network, start, now) for interface, (network, start) in self._places.items()]
        spans = (*self._spans, *current)
        return Picture(self.report.began_at, now, spans, tuple(self.handovers), tuple(self.sent))

    def network_of(self, interface: str) -> str | None:
        """The current network of an uplink of node a."""
        place = self._places.get(interface)
        return None if place is None else place[0]

    def note_network(self, interface: str, network: str) -> None:
        """Record that an uplink of node a has moved to this network without being observed."""
        self._note_place(moves.Move(moves.Kind.NETWORK_CHANGED, "a", interface, network=network), time.monotonic())

    def _note_place(self, move: moves.Move, at: float) -> None:
        if move.interface in self._places:
            network, start = self._places.pop(move.interface)
            self._spans.append(Span(move.interface, network, start, at))
        if move.kind in (moves.Kind.RESTORED, moves.Kind.NETWORK_CHANGED):
            network = move.network or self.lab.topology.host(move.host).uplink(move.interface).network
            self._places[move.interface] = network, at

    def _tell(self, handover: Handover) -> None:
        self.handovers.append(handover)
        self.report.event("move", handover.began_at, **handover.fields())
        for line in timeline(handover):
            self.screen.say(line)
        for distance_s, message in handover.steps():
            self.report.event(
                "control-message",
                message.at,
                move=handover.name,
                host=message.host,
                message=message.kind,
                direction="out" if message.is_out else "in",
                peer=message.peer,
                after_loss_ms=round(distance_s * 1000, 2),
            )
        for direction, log in (("out", handover.out), ("in", handover.back)):
            for packet in log.between(float("-inf"), handover.seen_until):
                if packet.arrived_at is None:
                    self.report.event("probe-lost", packet.sent_at, move=handover.name, direction=direction)

    def _logs(self) -> str:
        return "\n".join(node.daemon.log_tail() for node in self.nodes.values())


def timeline(handover: Handover) -> Iterator[str]:
    """A move as text: the losses, and the control messages with their times."""
    out, back = handover.ways()
    yield (
        f"  {handover.title}: lost {out.lost} out and {back.lost} in; "
        f"open again after {_ms(out.gap_s)} out, {_ms(back.gap_s)} in"
    )
    for distance_s, message in handover.steps():
        if message.host != "hub":
            way = "to" if message.is_out else "from"
            yield f"    {distance_s * 1000:+8.1f} ms  {message.host}: {message.kind} {way} {message.peer}"


def _ms(seconds: float | None) -> str:
    return "never" if seconds is None else f"{seconds * 1000:.0f} ms"

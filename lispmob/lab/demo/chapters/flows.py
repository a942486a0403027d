"""Flows to names: how long an allocation takes, also with lost answers, and what an open flow loses in a move."""

from __future__ import annotations

import contextlib
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from lispmob import flow
from lispmob.lab import move as moves
from lispmob.lab.build import Lab
from lispmob.lab.demo.stage import OVERLAY, A, B, Stage
from lispmob.lab.demo_service import Hub, Node, hub_configuration, node_configuration
from lispmob.lab.move import Kind, Move
from lispmob.lab.ping import ping
from lispmob.lab.process import ProcessFailed
from lispmob.lab.report import fact, figure
from lispmob.lab.topology import roaming

CLAIMS: Final = (
    "flow.allocated.rtts",
    "flow.lost-echo.allocated",
    "flow.move.lost",
    "flow.firewalls.both-ways",
)
_ENABLED: Final = "flows: {enabled: yes}\n"
_PATIENCE_S: Final = 10.0
_OURS_S: Final = 0.010  # ours: two daemons, two programs, and the sockets between them
_RATE_HZ: Final = 100
_FIREWALL: Final = (
    "table ip fw {{ chain in {{ type filter hook input priority 0; iifname lmn0 ct state new {what} drop; }}; }}"
)


class _FlowStage:
    """A hub and two nodes with flows, in a laboratory of their own."""

    def __init__(self, directory: Path) -> None:
        self._open = contextlib.ExitStack()
        self._directory = directory
        try:
            self.lab = self._open.enter_context(Lab(roaming(), "flow-"))
            address = self.lab.topology.address("hub", "eth0")
            hub = Hub(self.lab["hub"], hub_configuration((A, B), [address], directory / "hub"), directory / "hub")
            self._open.callback(hub.daemon.stop)
            hub.wait_until_listening(_PATIENCE_S)
            self.nodes = [self._start(identity.name) for identity in (A, B)]
            self._wait()
        except BaseException:
            self._open.close()
            raise

    def close(self) -> None:
        self._open.close()

    def path(self, name: str) -> Path:
        """The socket on which a node's programs ask for flows."""
        return self._directory / name / "flow.sock"

    def _start(self, name: str) -> Node:
        identity = A if name == "a" else B
        address = self.lab.topology.address("hub", "eth0")
        text = node_configuration(identity, address, OVERLAY, self._directory / name) + _ENABLED
        node = Node(identity, self.lab[name], text, self._directory / name)
        self._open.callback(node.daemon.stop)
        return node

    def _wait(self) -> None:
        deadline = time.monotonic() + _PATIENCE_S
        for node in self.nodes:
            while not (node.is_registered() and self.path(node.identity.name).exists()):
                node.daemon.check()
                if time.monotonic() > deadline:
                    raise ProcessFailed(f"no flows after {_PATIENCE_S} s\n{node.daemon.log_tail()}")
                time.sleep(0.05)


def play(stage: Stage) -> None:
    """Play in a separate laboratory, so that the nodes of the other chapters have no flows."""
    with tempfile.TemporaryDirectory(prefix="lispmob-flow-") as directory:
        flows = _FlowStage(Path(directory))
        try:
            with _echo(flows.path("b")):
                _allocate(stage, flows)
                _lose_the_echo(stage, flows)
                _move(stage, flows)
                _firewalls(stage, flows)
        finally:
            flows.close()


@contextlib.contextmanager
def _echo(path: Path) -> Iterator[None]:
    """A program that holds the name `demo` and echoes what it receives."""
    name = flow.register("demo", path=path)

    def serve() -> None:
        with contextlib.suppress(flow.FlowError, OSError, ValueError):  # ValueError: closed meanwhile
            for call in name:
                threading.Thread(target=answer, args=(call,), daemon=True).start()

    def answer(call: flow.Flow) -> None:
        with contextlib.suppress(OSError):
            while True:
                call.socket.send(call.socket.recv(2048))

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield
    finally:
        name.close()


def _call(flows: _FlowStage, timeout: float = _PATIENCE_S) -> flow.Flow:
    return flow.allocate(f"demo@{B.eid4}", path=flows.path("a"), timeout=timeout)


def _allocate(stage: Stage, flows: _FlowStage) -> None:
    round_trip_s = ping(flows.lab["a"], B.eid4, A.eid4, count=5, timeout_s=2).median_s
    if round_trip_s is None:
        raise ProcessFailed("the overlay does not answer a ping")
    times = []
    for _ in range(5):
        began = time.monotonic()
        _call(flows).close()
        times.append(time.monotonic() - began)
    took = sorted(times)[2] / round_trip_s
    stage.report.check(figure("flow.allocated.rtts", took, "RTT", 1 + _OURS_S / round_trip_s))
    stage.screen.say(f"  a flow is allocated in {took:.2f} round trips of {round_trip_s * 1000:.0f} ms")


def _lose_the_echo(stage: Stage, flows: _FlowStage) -> None:
    """Drop every answer for half a second: the caller repeats its request."""
    a = flows.lab["a"]
    a.run("nft", f"table ip lost {{ chain in {{ type filter hook input priority 0; ip saddr {B.eid4} drop; }}; }}")
    timer = threading.Timer(0.5, lambda: a.run("nft", "delete table ip lost"))
    timer.start()
    began = time.monotonic()
    try:
        _call(flows).close()
        took: float | None = time.monotonic() - began
    except flow.FlowError:
        took = None
    timer.join()
    check = fact("flow.lost-echo.allocated", ok=took is not None, value=took and round(took, 3), unit="s")
    stage.report.check(check)
    stage.screen.say(f"  with its first answers lost: {'never' if took is None else f'{took:.2f} s'}")


def _move(stage: Stage, flows: _FlowStage) -> None:
    """Remove the uplink's address while 100 datagrams a second are echoed."""
    with _call(flows) as call:
        sent, heard = 0, set()
        moved, until = False, time.monotonic() + 3
        while (now := time.monotonic()) < until + 0.5:
            if not moved and now > until - 2:
                moved = True
                moves.perform(flows.lab, Move(Kind.ADDRESS_REMOVED, "a", "wlan0"))
            if now < until:
                call.send(b"%d" % sent)
                sent += 1
            with contextlib.suppress(flow.TimedOut):
                while True:
                    heard.add(call.recv(timeout=0))
            time.sleep(1 / _RATE_HZ)
    lost = sent - len(heard)
    stage.report.check(figure("flow.move.lost", float(lost), "datagrams", 0))
    stage.screen.say(f"  an address is removed: {lost} of {sent} datagrams lost")


def _firewalls(stage: Stage, flows: _FlowStage) -> None:
    """Each end's firewall admits only answers, and at the holder the control port."""
    flows.lab["a"].run("nft", _FIREWALL.format(what=""))
    flows.lab["b"].run("nft", _FIREWALL.format(what="udp dport != 3359"))
    try:
        with _call(flows) as call:
            call.send(b"through")
            is_through = call.recv(timeout=5) == b"through"
    except flow.FlowError:
        is_through = False
    stage.report.check(fact("flow.firewalls.both-ways", ok=is_through))
    stage.screen.say(f"  through two firewalls: {'both ways' if is_through else 'NOT'}")

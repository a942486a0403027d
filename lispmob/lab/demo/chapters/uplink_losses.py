"""A loss affects only its own flows: a silent locator, an uplink lost under load, an uplink that flaps.

It needs little processor time, and so it runs in a thread during the chapters that follow.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

from lispmob.lab import move as moves
from lispmob.lab.demo.stage import A, B, Stage
from lispmob.lab.move import Kind, Move
from lispmob.lab.probe import ProbeStream
from lispmob.lab.report import fact, figure
from lispmob.lab.uplink_watch import Sent, UplinkWatch

CLAIMS: Final = (
    "multihoming.unmoved-flows.lost",
    "multihoming.flap-leaks",
    "multihoming.dead-locator.timeouts",
)
UPLINKS: Final = ("wlan0", "lte0")
PORT: Final = 47_100
_STREAMS: Final = 40
_STREAM_RATE_HZ: Final = 10.0
_FLAPS: Final = 20
_FLAP_S: Final = 0.3  # 200 a minute
_PROBE_TIMEOUT_S: Final = 1.0  # lispd's default

Say = Callable[[str], None]


def play_losses(stage: Stage, say: Say) -> list[Sent]:
    """Play all three; returns the packets with their uplinks. Raises ProcessFailed when the stage closes."""
    with UplinkWatch(stage.lab["a"], UPLINKS) as watch, _sink(stage) as sink:
        began_at = time.monotonic()
        _dead_locator(stage, watch, say)
        _unmoved(stage, watch, sink, say)
        _flaps(stage, say)
        return watch.since(began_at)


def flow_socket(stage: Stage, port: int = 0) -> socket.socket:
    """A UDP socket at the EID of node a; its port identifies the flow."""
    sending = stage.lab["a"].socket(socket.AF_INET, socket.SOCK_DGRAM)
    sending.bind((str(A.eid4), port))
    return sending


class _Sink:
    """Counts what the other node receives, by source port and number."""

    def __init__(self, receiving: socket.socket) -> None:
        self._socket = receiving
        self._is_over = threading.Event()
        self.got: defaultdict[int, set[int]] = defaultdict(set)

    def run(self) -> None:
        while not self._is_over.is_set():
            with contextlib.suppress(TimeoutError):
                payload, sender = self._socket.recvfrom(2048)
                self.got[sender[1]].add(int.from_bytes(payload[:4], "big"))

    def end(self) -> None:
        self._is_over.set()


@contextlib.contextmanager
def _sink(stage: Stage) -> Iterator[_Sink]:
    with stage.lab["b"].socket(socket.AF_INET, socket.SOCK_DGRAM) as receiving:
        receiving.bind((str(B.eid4), PORT))
        receiving.settimeout(0.05)
        sink = _Sink(receiving)
        thread = threading.Thread(target=sink.run, daemon=True)
        thread.start()
        try:
            yield sink
        finally:
            sink.end()
            thread.join()


def _unmoved(stage: Stage, watch: UplinkWatch, sink: _Sink, say: Say) -> None:
    """Flows of wlan0 while lte0 is lost and restored."""
    sink.got.clear()
    began_at = time.monotonic()
    senders = [flow_socket(stage) for _ in range(_STREAMS)]
    last = 0
    try:
        for last in range(int(3 * _STREAM_RATE_HZ)):
            for sending in senders:
                sending.sendto(last.to_bytes(4, "big"), (str(B.eid4), PORT))
            if last == int(_STREAM_RATE_HZ):
                moves.perform(stage.lab, Move(Kind.ROUTE_REMOVED, "a", "lte0"))
            if last == int(2 * _STREAM_RATE_HZ):
                moves.perform(stage.lab, Move(Kind.RESTORED, "a", "lte0"))
            stage.rest(1 / _STREAM_RATE_HZ)
        ports = [sending.getsockname()[1] for sending in senders]
        sent = watch.since(began_at)
        stage.rest(0.2)
    finally:
        for sending in senders:
            sending.close()
    unmoved = [
        port for port in ports if all(sending.interface == UPLINKS[0] for sending in sent if sending.port == port)
    ]
    lost = sum(last + 1 - len(sink.got[port]) for port in unmoved)
    stage.report.event("uplink-lost", began_at, flows=_STREAMS, unmoved=len(unmoved), lost=lost)
    stage.report.check(fact(CLAIMS[0], ok=lost == 0 < len(unmoved), value=lost, unit="packets", goal=0))
    say(f"  lte0 lost and back: {len(unmoved)} of {_STREAMS} flows never left wlan0, {lost} packets lost")


def _flaps(stage: Stage, say: Say) -> None:
    """Compare what the node and its kernel hold before and after."""
    before = _holdings(stage)
    for _ in range(_FLAPS):
        for kind in (Kind.ROUTE_REMOVED, Kind.RESTORED):
            next_at = time.monotonic() + _FLAP_S / 2
            moves.perform(stage.lab, Move(kind, "a", "lte0"))
            stage.rest(max(0.0, next_at - time.monotonic()))
    deadline = time.monotonic() + 5.0  # an address lingers for two seconds
    while (leaks := _more(before, _holdings(stage))) and time.monotonic() < deadline:
        stage.rest(0.25)
    stage.report.event("flaps", time.monotonic(), count=_FLAPS, leaks=leaks)
    count = sum(leaks.values())
    stage.report.check(fact(CLAIMS[1], ok=count == 0, value=count, unit="things left over", goal=0))
    say(f"  {_FLAPS} flaps of lte0, {60 / _FLAP_S:.0f} a minute: left over {leaks or 'nothing'}")


def _dead_locator(stage: Stage, watch: UplinkWatch, say: Say) -> None:
    """The preferred locator of the other node dies silently while packets go in both directions."""
    dead = [str(own.ip) for own in stage.lab.topology.addresses("b", "wlan0")]
    with ProbeStream(stage.party(A), stage.party(B)) as probes:
        stage.rest(2.5)  # until the round trip is measured
        began_at = time.monotonic()
        _blackhole(stage, dead, "add")
        try:
            stage.rest(2.5 * _PROBE_TIMEOUT_S)
            sent = watch.since(began_at)  # before it is restored, and packets go to it again
        finally:
            _blackhole(stage, dead, "del")
        probes.finish()
    left_s = _left_after(sent, dead, began_at)
    value = 2.5 if left_s is None else left_s / _PROBE_TIMEOUT_S  # if flows never left: at least the time of the wait
    stage.report.check(figure(CLAIMS[2], value, "timeouts", 2.0))
    left = "never left" if left_s is None else f"left after {left_s * 1000:.0f} ms"
    say(f"  {' and '.join(dead)} fell silent: {left}")


def _blackhole(stage: Stage, addresses: Sequence[str], verb: str) -> None:
    """Make the gateway drop packets to and from these addresses, without an ICMP error."""
    for address in addresses:
        family = "-6" if ":" in address else "-4"
        for way in ("to", "from"):
            stage.lab["gw-office"].run("ip", family, "rule", verb, way, address, "blackhole")


def _left_after(sent: Sequence[Sent], dead: Sequence[str], began_at: float) -> float | None:
    """When the last packet went to the dead locator; None if no other locator was used afterwards."""
    last = max((sending.at for sending in sent if str(sending.rloc) in dead), default=began_at)
    return last - began_at if any(sending.at > last and str(sending.rloc) not in dead for sending in sent) else None


def _holdings(stage: Stage) -> dict[str, int]:
    """The numbers of rules, routes, iptables lines, descriptors and threads."""
    host, process = stage.lab["a"], Path("/proc", str(stage.nodes["a"].daemon.pid))
    return {
        "rules": len((host.run("ip", "rule") + host.run("ip", "-6", "rule")).splitlines()),
        "routes": len(host.run("ip", "route", "show", "table", "all").splitlines()),
        "iptables": len(host.run("iptables-save").splitlines()),
        "descriptors": len(list((process / "fd").iterdir())),
        "threads": len(list((process / "task").iterdir())),
    }


def _more(before: dict[str, int], after: dict[str, int]) -> dict[str, int]:
    return {name: after[name] - count for name, count in before.items() if after[name] > count}

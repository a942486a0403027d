"""Multihoming: two uplinks at once, shared 3:1; marks choose, and what dies takes only its own flows with it."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from lispmob.lab import move as moves
from lispmob.lab.demo.stage import A, B, Stage
from lispmob.lab.move import Kind, Move
from lispmob.lab.ping import ping
from lispmob.lab.probe import ProbeStream
from lispmob.lab.report import fact, figure
from lispmob.lab.uplink_watch import Sent, UplinkWatch

CLAIMS: Final = (
    "multihoming.split-error",
    "multihoming.mark",
    "multihoming.iptables-rule",
    "multihoming.unmoved-flows.lost",
    "multihoming.flap-leaks",
    "multihoming.dead-locator.timeouts",
)
_CONFIGURATION: Final = """\
uplinks:
  - {name: "wlan*", priority: 1, weight: 75}
  - {name: "lte*", priority: 1, weight: 25}
"""
_UPLINKS: Final = ("wlan0", "lte0")
_PORT: Final = 47_100
_FLOWS: Final = 10_000
_FIRST_PORT: Final = 20_000  # of their source ports: below those that the kernel gives out
_SHARE: Final = 0.75
_SPLIT_GOAL_PERCENT: Final = 2.0
_STREAMS: Final = 40
_STREAM_RATE_HZ: Final = 10.0
_FLAPS: Final = 20
_FLAP_S: Final = 0.3  # 200 in a minute
_PROBE_TIMEOUT_S: Final = 1.0  # the default of lispd


def play(stage: Stage) -> None:
    """The configuration of node a is changed for this chapter, and put back after it."""
    stage.reconfigure(A, _CONFIGURATION)
    ping(stage.lab["a"], B.eid4, A.eid4)  # each has the mapping of the other
    time.sleep(1.5)  # and hears of the weights
    try:
        with UplinkWatch(stage.lab["a"], _UPLINKS) as watch, _sink(stage) as sink:
            began_at = time.monotonic()
            _split(stage, watch)
            _mark(stage, watch)
            _rule(stage, watch)
            _dead_locator(stage, watch)
            _unmoved(stage, watch, sink)
            _flaps(stage)
            stage.sent = watch.since(began_at)
    finally:
        stage.reconfigure(A, "")
        time.sleep(1.0)


class _Sink:
    """Counts what arrives at the other node, by source port and number."""

    def __init__(self, ear: socket.socket) -> None:
        self._ear = ear
        self._is_over = threading.Event()
        self.got: defaultdict[int, set[int]] = defaultdict(set)

    def run(self) -> None:
        while not self._is_over.is_set():
            with contextlib.suppress(TimeoutError):
                payload, sender = self._ear.recvfrom(2048)
                self.got[sender[1]].add(int.from_bytes(payload[:4], "big"))

    def end(self) -> None:
        self._is_over.set()


@contextlib.contextmanager
def _sink(stage: Stage) -> Iterator[_Sink]:
    with stage.lab["b"].socket(socket.AF_INET, socket.SOCK_DGRAM) as ear:
        ear.bind((str(B.eid4), _PORT))
        ear.settimeout(0.05)
        sink = _Sink(ear)
        thread = threading.Thread(target=sink.run, daemon=True)
        thread.start()
        try:
            yield sink
        finally:
            sink.end()
            thread.join()


def _split(stage: Stage, watch: UplinkWatch) -> None:
    """Each flow sends twice; a flow that is seen on two uplinks spoils the figure."""
    began_at = time.monotonic()
    for first in range(_FIRST_PORT, _FIRST_PORT + _FLOWS, 500):  # not more sockets at once than a process may have
        mouths = [_mouth(stage, port) for port in range(first, first + 500)]
        for _ in range(2):
            for number, mouth in enumerate(mouths):
                mouth.sendto(b"hello", (str(B.eid4), _PORT))
                if number % 50 == 0:
                    time.sleep(0.001)
            time.sleep(0.005)
        for mouth in mouths:
            mouth.close()
    places: defaultdict[int, set[str]] = defaultdict(set)
    for one in watch.since(began_at):
        if one.port >= _FIRST_PORT + _FLOWS:
            continue
        places[one.port].add(one.interface)
    on_two = sum(len(seen) > 1 for seen in places.values())
    share = sum(seen == {_UPLINKS[0]} for seen in places.values()) / max(1, len(places))
    error = None if len(places) < _FLOWS else abs(share - _SHARE) * 100 + 100 * on_two / len(places)
    stage.report.event("split", began_at, flows=len(places), share=round(share, 4), flows_on_two_uplinks=on_two)
    stage.report.check(figure(CLAIMS[0], error, "percent", _SPLIT_GOAL_PERCENT))
    stage.screen.say(f"  {len(places)} flows, {share * 100:.1f} percent by wlan0, {on_two} seen on both uplinks")


def _mark(stage: Stage, watch: UplinkWatch) -> None:
    """One socket changes its mark with every packet."""
    wanted = []
    began_at = time.monotonic()
    with _mouth(stage) as mouth:
        for number in range(100):
            interface = _UPLINKS[number % 2]
            mouth.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, _ifindex(stage, interface))
            mouth.sendto(number.to_bytes(4, "big"), (str(B.eid4), _PORT))
            wanted.append(interface)
            time.sleep(0.002)
        port = mouth.getsockname()[1]
    seen = [one.interface for one in watch.since(began_at) if one.port == port]
    by_place = {name: seen.count(name) for name in _UPLINKS}
    strays = sum(abs(wanted.count(name) - by_place[name]) for name in _UPLINKS)
    stage.report.check(fact(CLAIMS[1], ok=strays == 0, value=strays, unit="packets astray", goal=0))
    stage.screen.say(f"  100 packets with marks in turn: {by_place}")


def _rule(stage: Stage, watch: UplinkWatch) -> None:
    """The rule is LISPmob's own example."""
    mark = _ifindex(stage, "lte0")
    host = stage.lab["a"]
    rule = ["OUTPUT", "-d", str(B.eid4), "-p", "udp", "-j", "MARK", "--set-mark", str(mark)]
    host.run("iptables", "-t", "mangle", "-I", *rule)
    try:
        began_at = time.monotonic()
        for _ in range(50):
            with _mouth(stage) as mouth:
                mouth.sendto(b"hello", (str(B.eid4), _PORT))
        seen = [one.interface for one in watch.since(began_at)]
    finally:
        host.run("iptables", "-t", "mangle", "-D", *rule)
    right = seen.count("lte0")
    stage.report.check(fact(CLAIMS[2], ok=right == 50 == len(seen), value=right, unit="of 50 packets", goal=50))
    stage.screen.say(f"  iptables -t mangle -I {' '.join(rule)}: {right} of 50 packets by lte0")


def _unmoved(stage: Stage, watch: UplinkWatch, sink: _Sink) -> None:
    """Flows of wlan0 while lte0 is lost and comes back."""
    sink.got.clear()
    began_at = time.monotonic()
    mouths = [_mouth(stage) for _ in range(_STREAMS)]
    last = 0
    try:
        for last in range(int(3 * _STREAM_RATE_HZ)):
            for mouth in mouths:
                mouth.sendto(last.to_bytes(4, "big"), (str(B.eid4), _PORT))
            if last == int(_STREAM_RATE_HZ):
                moves.perform(stage.lab, Move(Kind.ROUTE_REMOVED, "a", "lte0"))
            if last == int(2 * _STREAM_RATE_HZ):
                moves.perform(stage.lab, Move(Kind.RESTORED, "a", "lte0"))
            time.sleep(1 / _STREAM_RATE_HZ)
        ports = [mouth.getsockname()[1] for mouth in mouths]
        sent = watch.since(began_at)
        time.sleep(0.2)
    finally:
        for mouth in mouths:
            mouth.close()
    unmoved = [port for port in ports if all(one.interface == "wlan0" for one in sent if one.port == port)]
    lost = sum(last + 1 - len(sink.got[port]) for port in unmoved)
    stage.report.event("uplink-lost", began_at, flows=_STREAMS, unmoved=len(unmoved), lost=lost)
    stage.report.check(fact(CLAIMS[3], ok=lost == 0 < len(unmoved), value=lost, unit="packets", goal=0))
    stage.screen.say(f"  lte0 lost and back: {len(unmoved)} of {_STREAMS} flows never left wlan0, {lost} packets lost")


def _flaps(stage: Stage) -> None:
    """What the node and its kernel hold before and after."""
    before = _holdings(stage)
    for _ in range(_FLAPS):
        for kind in (Kind.ROUTE_REMOVED, Kind.RESTORED):
            next_at = time.monotonic() + _FLAP_S / 2
            moves.perform(stage.lab, Move(kind, "a", "lte0"))
            time.sleep(max(0.0, next_at - time.monotonic()))
    deadline = time.monotonic() + 5.0  # the last of it lingers for two seconds
    while (leaks := _more(before, _holdings(stage))) and time.monotonic() < deadline:
        time.sleep(0.25)
    stage.report.event("flaps", time.monotonic(), count=_FLAPS, leaks=leaks)
    count = sum(leaks.values())
    stage.report.check(fact(CLAIMS[4], ok=count == 0, value=count, unit="things left over", goal=0))
    stage.screen.say(f"  {_FLAPS} flaps of lte0, {60 / _FLAP_S:.0f} a minute: left over {leaks or 'nothing'}")


def _dead_locator(stage: Stage, watch: UplinkWatch) -> None:
    """The preferred locator of the other node dies without a word while packets go both ways."""
    dead = [str(own.ip) for own in stage.lab.topology.addresses("b", "wlan0")]
    with ProbeStream(stage.party(A), stage.party(B)) as probes:
        time.sleep(2.5)  # until the round trip is known
        began_at = time.monotonic()
        _blackhole(stage, dead, "add")
        try:
            time.sleep(2.5 * _PROBE_TIMEOUT_S)
            sent = watch.since(began_at)  # before it lives again, and packets go back to it
        finally:
            _blackhole(stage, dead, "del")
        probes.finish()
    left_s = _left_after(sent, dead, began_at)
    value = 2.5 if left_s is None else left_s / _PROBE_TIMEOUT_S  # not left: at least as long as was waited
    stage.report.check(figure(CLAIMS[5], value, "timeouts", 2.0))
    left = "never left" if left_s is None else f"left after {left_s * 1000:.0f} ms"
    stage.screen.say(f"  {' and '.join(dead)} fell silent: {left}")


def _blackhole(stage: Stage, addresses: Sequence[str], verb: str) -> None:
    """What goes to these addresses, and what comes from them, is lost at their gateway: no error tells of it."""
    for address in addresses:
        family = "-6" if ":" in address else "-4"
        for way in ("to", "from"):
            stage.lab["gw-office"].run("ip", family, "rule", verb, way, address, "blackhole")


def _left_after(sent: Sequence[Sent], dead: Sequence[str], began_at: float) -> float | None:
    """When the last packet went to the dead locator; None when there is no other that was used afterwards."""
    last = max((one.at for one in sent if str(one.rloc) in dead), default=began_at)
    return last - began_at if any(one.at > last and str(one.rloc) not in dead for one in sent) else None


def _mouth(stage: Stage, port: int = 0) -> socket.socket:
    mouth = stage.lab["a"].socket(socket.AF_INET, socket.SOCK_DGRAM)
    mouth.bind((str(A.eid4), port))
    return mouth


def _ifindex(stage: Stage, interface: str) -> int:
    with stage.lab["a"].entered():
        return socket.if_nametoindex(interface)


def _holdings(stage: Stage) -> dict[str, int]:
    """How many rules, routes, lines of iptables, descriptors and threads there are."""
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

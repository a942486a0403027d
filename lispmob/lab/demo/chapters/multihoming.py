"""Multihoming: two uplinks at once, shared 3:1; marks choose an uplink; a dead uplink affects only its own flows."""

from __future__ import annotations

import socket
import time
from collections import defaultdict
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final

from lispmob.lab import move as moves
from lispmob.lab.demo.chapters import uplink_losses
from lispmob.lab.demo.chapters.uplink_losses import PORT, UPLINKS, flow_socket, play_losses
from lispmob.lab.demo.stage import A, B, Stage
from lispmob.lab.move import Kind, Move
from lispmob.lab.ping import ping
from lispmob.lab.process import ProcessFailed
from lispmob.lab.report import fact, figure
from lispmob.lab.uplink_watch import UplinkWatch

CLAIMS: Final = (
    "multihoming.split-error",
    "multihoming.mark",
    "multihoming.iptables-rule",
    *uplink_losses.CLAIMS,
)
_IN_CLEAR: Final = "security: {seal: off}\n"
_CONFIGURATION: Final = """\
uplinks:
  - {name: "wlan*", priority: 1, weight: 75}
  - {name: "lte*", priority: 1, weight: 25}
"""
_FLOWS: Final = 10_000
_FIRST_PORT: Final = 20_000  # of their source ports: below the kernel's ephemeral ports
_PATIENCE_S: Final = 40.0
_SETTLE_S: Final = 1.0
_SHARE: Final = 0.75
_SPLIT_GOAL_PERCENT: Final = 2.0


def play(stage: Stage) -> None:
    """Change the configuration of node a for this chapter, and restore it afterwards.

    The losses run in the background during the following chapters; `end` waits for them.
    """
    # An earlier chapter may have left it without a route.
    moves.perform(stage.lab, Move(Kind.RESTORED, "a", UPLINKS[1]))
    # In clear, because the watch reads flows from the packets on the cable.
    stage.reconfigure(B, _IN_CLEAR)
    stage.reconfigure(A, _IN_CLEAR + _CONFIGURATION)
    ping(stage.lab["a"], B.eid4, A.eid4)  # so that each node has the mapping of the other
    time.sleep(1.5)  # and the new weights
    with UplinkWatch(stage.lab["a"], UPLINKS) as watch:
        began_at = time.monotonic()
        _split(stage, watch)
        _mark(stage, watch)
        _rule(stage, watch)
        stage.sent = watch.since(began_at)
    stage.screen.say("  what happens when locators and uplinks die is measured beside the chapters that follow")
    stage.losses = stage.enter(ThreadPoolExecutor(1)).submit(_play_losses, stage)


def _play_losses(stage: Stage) -> list[str]:
    """Play the losses; returns the lines to print after the other chapters."""
    said: list[str] = []
    try:
        stage.sent.extend(play_losses(stage, said.append))
    finally:
        if not stage.is_over:
            stage.reconfigure(B, "")
            stage.reconfigure(A, "")
    return said


def end(stage: Stage) -> None:
    """Wait for the losses, and print them. Raises ProcessFailed when they could not be played."""
    future: Future[list[str]] | None = stage.losses
    if future is None:
        raise ProcessFailed("the chapter did not come as far as the losses")
    for line in future.result(timeout=_PATIENCE_S):
        stage.screen.say(line)
    time.sleep(_SETTLE_S)  # until node a has its usual configuration again


def _split(stage: Stage, watch: UplinkWatch) -> None:
    """Each flow sends twice; a flow that is seen on two uplinks counts against the claim."""
    began_at = time.monotonic()
    for first in range(_FIRST_PORT, _FIRST_PORT + _FLOWS, 500):  # in groups, because of the limit of open sockets
        senders = [flow_socket(stage, port) for port in range(first, first + 500)]
        for _ in range(2):
            for number, sending in enumerate(senders):
                sending.sendto(b"hello", (str(B.eid4), PORT))
                if number % 50 == 0:
                    time.sleep(0.001)
            time.sleep(0.005)
        for sending in senders:
            sending.close()
    places: defaultdict[int, set[str]] = defaultdict(set)
    for sent in watch.since(began_at):
        if sent.port >= _FIRST_PORT + _FLOWS:
            continue
        places[sent.port].add(sent.interface)
    on_two = sum(len(seen) > 1 for seen in places.values())
    share = sum(seen == {UPLINKS[0]} for seen in places.values()) / max(1, len(places))
    error = None if len(places) < _FLOWS else abs(share - _SHARE) * 100 + 100 * on_two / len(places)
    stage.report.event("split", began_at, flows=len(places), share=round(share, 4), flows_on_two_uplinks=on_two)
    stage.report.check(figure(CLAIMS[0], error, "percent", _SPLIT_GOAL_PERCENT))
    stage.screen.say(f"  {len(places)} flows, {share * 100:.1f} percent by wlan0, {on_two} seen on both uplinks")


def _mark(stage: Stage, watch: UplinkWatch) -> None:
    """A socket changes its mark with every packet."""
    wanted = []
    began_at = time.monotonic()
    with flow_socket(stage) as sending:
        for number in range(100):
            interface = UPLINKS[number % 2]
            sending.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, _ifindex(stage, interface))
            sending.sendto(number.to_bytes(4, "big"), (str(B.eid4), PORT))
            wanted.append(interface)
            time.sleep(0.002)
        port = sending.getsockname()[1]
    seen = [sent.interface for sent in watch.since(began_at) if sent.port == port]
    by_place = {name: seen.count(name) for name in UPLINKS}
    strays = sum(abs(wanted.count(name) - by_place[name]) for name in UPLINKS)
    stage.report.check(fact(CLAIMS[1], ok=strays == 0, value=strays, unit="packets astray", goal=0))
    stage.screen.say(f"  100 packets with marks in turn: {by_place}")


def _rule(stage: Stage, watch: UplinkWatch) -> None:
    """Test with LISPmob's own example of a rule."""
    mark = _ifindex(stage, "lte0")
    host = stage.lab["a"]
    rule = ["OUTPUT", "-d", str(B.eid4), "-p", "udp", "-j", "MARK", "--set-mark", str(mark)]
    host.run("iptables", "-t", "mangle", "-I", *rule)
    try:
        began_at = time.monotonic()
        for _ in range(50):
            with flow_socket(stage) as sending:
                sending.sendto(b"hello", (str(B.eid4), PORT))
        seen = [sent.interface for sent in watch.since(began_at)]
    finally:
        host.run("iptables", "-t", "mangle", "-D", *rule)
    right = seen.count("lte0")
    stage.report.check(fact(CLAIMS[2], ok=right == 50 == len(seen), value=right, unit="of 50 packets", goal=50))
    stage.screen.say(f"  iptables -t mangle -I {' '.join(rule)}: {right} of 50 packets by lte0")


def _ifindex(stage: Stage, interface: str) -> int:
    with stage.lab["a"].entered():
        return socket.if_nametoindex(interface)

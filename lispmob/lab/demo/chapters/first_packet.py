"""The first packet: sent to an EID without a mapping in the cache, and not lost."""

from __future__ import annotations

import select
import socket
import time
from typing import Final

from lispmob.lab.demo.stage import A, B, Stage
from lispmob.lab.namespace import Namespace
from lispmob.lab.ping import ping
from lispmob.lab.process import ProcessFailed
from lispmob.lab.report import figure

CLAIMS: Final = ("first-packet.delivered",)
_PORT: Final = 47_002
_PATIENCE_S: Final = 3.0
_PROCESSING_MS: Final = 10.0  # ours: the punt, two control planes and the release of the packet


def play(stage: Stage) -> None:
    """The goal is the sum of a measured round trip to the Map-Resolver and the one-way delay to the other node."""
    topology = stage.lab.topology
    to_resolver = ping(stage.lab["a"], topology.address("hub", "eth0")).median_s
    to_other = ping(stage.lab["a"], topology.address("b", "wlan0")).median_s
    if to_resolver is None or to_other is None:
        raise ProcessFailed("the underlay does not answer a ping")
    if any(str(B.eid4) in prefix for prefix in stage.nodes["a"].cached_prefixes()):
        raise ProcessFailed("the EID is in the map-cache already: its first packet cannot be seen any more")
    delay_s = _send_one(stage.lab["a"], stage.lab["b"])
    goal_ms = (to_resolver + to_other / 2) * 1000 + _PROCESSING_MS
    stage.report.check(figure("first-packet.delivered", None if delay_s is None else delay_s * 1000, "ms", goal_ms))
    stage.screen.say(
        "  the first packet was lost"
        if delay_s is None
        else f"  delivered after {delay_s * 1000:.1f} ms, lookup included: {delay_s / to_resolver:.2f} round trips"
    )


def _send_one(sender: Namespace, receiver: Namespace) -> float | None:
    """Send a datagram from EID to EID; returns the seconds until it arrived, None if it did not."""
    kind = socket.AF_INET, socket.SOCK_DGRAM
    with receiver.socket(*kind) as receiving, sender.socket(*kind) as sending:
        receiving.bind((str(B.eid4), _PORT))
        sending.bind((str(A.eid4), _PORT))
        sent_at = time.monotonic()
        sending.sendto(b"hello, stranger", (str(B.eid4), _PORT))
        ready, _, _ = select.select([receiving], [], [], _PATIENCE_S)
        return time.monotonic() - sent_at if ready else None

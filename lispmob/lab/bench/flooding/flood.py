"""A node under a flood: the latency of its loop, the gap of a move, and the share of lost registrations.

An attacker sends from one address to both addresses that node a has before and after its move. The flood is junk
without a nonce of ours, 60,000 messages a second, or the most expensive question, 1,000 a second. The same is measured
without a flood.
"""

from __future__ import annotations

import contextlib
import re
import statistics
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from lispmob.api.client import Client
from lispmob.lab.bench.overlay import Overlay
from lispmob.lab.bench.traffic import Figures
from lispmob.lab.demo_service import Node
from lispmob.lab.process import ProcessFailed
from lispmob.wire.address import EidPrefix
from lispmob.wire.header import CONTROL_PORT
from lispmob.wire.lcaf_types import AfiList
from lispmob.wire.map_reply import MapReply
from lispmob.wire.map_request import EidRecord, MapRequest
from lispmob.wire.record import MappingRecord

JUNK_HZ: Final = 60_000
WORST_HZ: Final = 1_000
ASKS: Final = 60
ASK_EVERY_S: Final = 0.02
MOVES: Final = 3
FLOOD_S: Final = 40.0  # ours: longer than a sample takes
KINDS: Final = ("quiet", "junk", "worst")


def junk() -> bytes:
    """A short unsolicited Map-Reply."""
    return MapReply(1, (MappingRecord.of(EidPrefix.parse("10.9.0.0/16")),)).encode()


def worst() -> bytes:
    """The most expensive message that a node decodes: nested lists of addresses, as many as fit."""
    eid = EidRecord.of(EidPrefix.parse("10.1.0.1/32"))
    deep = AfiList(tuple(EidPrefix.parse(f"203.0.113.{number}/32").address for number in range(8)))
    made = b""
    for count in range(1, 32):
        request = MapRequest(1, None, (AfiList((deep,) * 2),) * count, (eid,), is_probe=True).encode()
        if len(request) > 1400:
            break
        made = request
    return made


class Flood:
    """Compiles the flooding program, and runs it during a sample of the overlay."""

    def __init__(self, directory: Path) -> None:
        self._program = directory / "flood"
        directory.mkdir(parents=True, exist_ok=True)
        source = Path(__file__).with_name("flood.c")
        command = ["gcc", "-O2", "-o", str(self._program), str(source)]
        built = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        if built.returncode:
            raise ProcessFailed(f"the flood does not compile: {built.stderr.strip()}")

    @contextlib.contextmanager
    def running(self, overlay: Overlay, kind: str) -> Iterator[None]:
        """The attacker sends inside the block; for "quiet" it sends nothing."""
        if kind == "quiet":
            yield
            return
        rate, payload = (JUNK_HZ, junk()) if kind == "junk" else (WORST_HZ, worst())
        words = [str(self._program), str(rate), str(FLOOD_S), str(CONTROL_PORT), *overlay.places]
        with overlay.ignoring_stranger():
            process = subprocess.Popen(overlay.stranger.argv(*words), stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
            try:
                assert process.stdin
                process.stdin.write(payload)
                process.stdin.close()
                yield
            finally:
                process.kill()
                process.wait(10)


def loop_latency_s(node: Node) -> float:
    """The median seconds from a question on the local socket to its answer, which needs a turn of the loop."""
    found = []
    with Client(str(node.socket)) as client:
        for _ in range(ASKS):
            began_at = time.monotonic()
            client.call("version")
            found.append(time.monotonic() - began_at)
            time.sleep(ASK_EVERY_S)
    return statistics.median(found)


def lost_registers(node: Node) -> float:
    """The share of this node's Map-Registers that had to be repeated, by its log."""
    tries = [int(found) for found in re.findall(r"registered eid=.* tries=(\d+)", node.daemon.log.read_text())]
    return 1.0 - len(tries) / sum(tries) if tries else 0.0


def sample(overlay: Overlay, flood: Flood, number: int) -> Figures:
    """For each kind of flood, and without: start both nodes, and move some times; gaps are medians."""
    figures: Figures = {}
    for kind in KINDS:
        with overlay.pair(f"{kind}{number}") as node, flood.running(overlay, kind):
            figures[f"loop-{kind}"] = (loop_latency_s(node) * 1e3, "ms")
            ways = [overlay.move().ways() for _ in range(MOVES)]
            for number_of_way, way in enumerate(("out", "in")):
                gap_s = statistics.median(both[number_of_way].gap_s or 0.0 for both in ways)
                figures[f"gap-{way}-{kind}"] = (gap_s * 1e3, "ms")
            figures[f"lost-registers-{kind}"] = (lost_registers(node) * 100.0, "%")
    return figures

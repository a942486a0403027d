"""`python -m lispmob.hub.bench.measure CONFIG`: a hub that measures how late its timers are. For the laboratory's
bench.

It is lisphub with one more timer, due every few milliseconds. On SIGUSR2 it writes a line of JSON to standard output:
how late that timer was since the last such line, in milliseconds (median, worst), and all counters. Ends on SIGTERM.
"""

from __future__ import annotations

import asyncio
import json
import signal
import statistics
import sys
from pathlib import Path
from typing import Final

from lispmob.hub.config import load_hub
from lispmob.hub.daemon import Hub
from lispmob.logs import configure

EVERY_S: Final = 0.005


class Lateness:
    """A periodic timer that measures by how much it is late."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._late_ms: list[float] = []

    def start(self) -> None:
        """Begin."""
        self._loop.call_at(self._loop.time() + EVERY_S, self._on_time, self._loop.time() + EVERY_S)

    def take(self) -> dict[str, float]:
        """The figures since the last call."""
        late_ms, self._late_ms = self._late_ms or [0.0], []
        return {"median": statistics.median(late_ms), "worst": max(late_ms), "samples": len(late_ms)}

    def _on_time(self, due: float) -> None:
        now = self._loop.time()
        self._late_ms.append(1000 * (now - due))
        self._loop.call_at(now + EVERY_S, self._on_time, now + EVERY_S)


async def run(path: Path) -> None:
    """Run a hub until SIGTERM."""
    file = load_hub(path)
    configure(file.log.level)
    loop = asyncio.get_running_loop()
    hub, lateness = Hub(path, file), Lateness(loop)

    def tell() -> None:
        sys.stdout.write(json.dumps({"late-ms": lateness.take(), "counters": hub.counters()}) + "\n")
        sys.stdout.flush()

    loop.add_signal_handler(signal.SIGUSR2, tell)
    lateness.start()
    await hub.run()


if __name__ == "__main__":
    asyncio.run(run(Path(sys.argv[1])))

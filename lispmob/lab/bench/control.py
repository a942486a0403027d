"""The cost of clients of the control socket for a node with a map-cache of 100,000 mappings.

For each command it measures the time until the first line and until the end. Meanwhile another connection repeats the
smallest question; its longest wait for an answer shows how long a client can block the daemon's loop.
"""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

from lispmob import mapping
from lispmob.api.client import Client
from lispmob.closing import Closing
from lispmob.lab.bench.traffic import Figures
from lispmob.lab.process import ProcessFailed, module
from lispmob.lab.real.world import HUB_V4, A, World

ENTRIES: Final = 100_000
READERS: Final = 4  # at the same time, in the last phase
_ASK_EVERY_S: Final = 0.002
_REST_S: Final = 2.0
_COMMANDS: Final = {
    "map-cache": ("map-cache",),
    "map-cache-json": ("map-cache", "--json"),
    "mapstat": ("mapstat", "-n"),
}


def samples(directory: Path, rounds: Iterable[int]) -> Iterator[Figures]:
    """Figures of filling the map-cache, and of each round. Raises ProcessFailed, KernelRefused."""
    directory.mkdir(parents=True, exist_ok=True)
    with World(directory, tier="tun", label="c") as world:
        world.attach("a", "eth0", ["198.51.100.2/24"], metric=100)
        world.start_hub((HUB_V4,))
        extra = f"map-cache: {{limit: {ENTRIES * 2}, program: yes}}\nnatt: {{mode: 'off'}}\n"
        world.start_node(A, extra=extra)
        world.wait_registered()
        path = str(directory / "a" / "lispd.sock")
        figures: Figures = {}
        began = time.monotonic()
        fill(path)
        figures["control-fill"] = time.monotonic() - began, "s"
        yield figures
        for number in rounds:
            print(f"control, round {number + 1}: readers of {ENTRIES} mappings", flush=True)
            yield _round(path)


def fill(path: str) -> None:
    """Install the mappings as a program does (docs/mappings.md)."""
    locator = mapping.Locator("203.0.113.5")
    with mapping.connect(path, timeout_s=60.0) as mappings:
        for number in range(ENTRIES):
            mappings.put(f"10.{64 + number // 65536}.{number // 256 % 256}.{number % 256}/32", [locator], ttl_s=86400)


def _round(path: str) -> Figures:
    figures: Figures = {}
    with _Waits(path) as waits:
        time.sleep(_REST_S)
        figures["control-wait"] = waits.longest_s() * 1000, "ms"
    for name, words in _COMMANDS.items():
        with _Waits(path) as waits:
            first_s, whole_s = _read(path, words)
            figures[f"{name}-first-line"] = first_s * 1000, "ms"
            figures[f"{name}-whole"] = whole_s, "s"
            figures[f"{name}-wait"] = waits.longest_s() * 1000, "ms"
    figures |= _follow(path)
    with _Waits(path) as waits:
        threads = [threading.Thread(target=_read, args=(path, _COMMANDS["map-cache-json"])) for _ in range(READERS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        figures["readers-wait"] = waits.longest_s() * 1000, "ms"
    return figures


def _read(path: str, words: Sequence[str]) -> tuple[float, float]:
    """Seconds until the first line and until the end of a command of lispctl. Raises ProcessFailed."""
    began = time.monotonic()
    command = [*module("lispmob.lispctl.main", "--socket", path), *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        first = process.stdout.readline()
        first_s = time.monotonic() - began
        while os.read(process.stdout.fileno(), 1 << 20):
            pass
        _, said = process.communicate()
    if not first:
        raise ProcessFailed(f"lispctl {' '.join(words)} said nothing: {said.decode(errors='replace')[-300:]}")
    return first_s, time.monotonic() - began


def _follow(path: str) -> Figures:
    """A program takes a dump and follows changes: how long the dump takes, and the delay of a change."""
    with mapping.connect(path, timeout_s=120.0) as follower, mapping.connect(path) as other:
        began = time.monotonic()
        follower.follow(dump=True)
        dumped = time.monotonic()
        other.put("10.200.0.1/32", [mapping.Locator("203.0.113.6")], ttl_s=600)
        changed = time.monotonic()
        for event in follower:
            if event.mapping is not None and event.mapping.prefix == "10.200.0.1/32":
                break
        heard = time.monotonic()
        other.delete("10.200.0.1/32")
    return {"mapping-dump": (dumped - began, "s"), "mapping-event": ((heard - changed) * 1000, "ms")}


class _Waits(Closing):
    """Repeats the smallest question to lispd until it is closed."""

    def __init__(self, path: str) -> None:
        self._client = Client(path, timeout_s=30.0)
        self._longest_s = 0.0
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._ask)
        self._thread.start()

    def longest_s(self) -> float:
        """The longest wait so far."""
        return self._longest_s

    def close(self) -> None:
        """Stop asking. Idempotent."""
        self._is_over.set()
        self._thread.join()
        self._client.close()

    def _ask(self) -> None:
        while not self._is_over.wait(_ASK_EVERY_S):
            began = time.monotonic()
            self._client.call("version")
            self._longest_s = max(self._longest_s, time.monotonic() - began)

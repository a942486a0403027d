"""The cost of commands as processes: `lispctl status`, `peers`, the first answer of `lig`, `lispctl watch`.

Each is started many times. The minimum is its own cost; the median includes the load of the machine.
"""

from __future__ import annotations

import contextlib
import os
import pty
import signal
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from lispmob.lab.bench.traffic import Figures
from lispmob.lab.ping import ping
from lispmob.lab.process import ProcessFailed, module
from lispmob.lab.real.world import HUB_V4, A, B, World

RUNS: Final = 30
_WATCHED_S: Final = 20.0
_WARM_S: Final = 2.0  # its start is not measured


def sample(directory: Path) -> Figures:
    """Figures of one round. Raises ProcessFailed, KernelRefused."""
    directory.mkdir(parents=True, exist_ok=True)
    with World(directory, label="t") as world:
        world.attach("a", "eth0", ["198.51.100.2/24"], metric=100)
        world.start_hub((HUB_V4,))
        nodes = [world.start_node(identity) for identity in (A, B)]
        world.wait_registered()
        own = ("--socket", str(nodes[0].socket), "--config", str(directory / "a" / "lispd.conf"))
        lig = world["a"].argv(*module("lispmob.tools.lig", str(B.eid4), *own))
        figures = _process("python", [sys.executable, "-c", "pass"])
        figures |= _process("status", module("lispmob.lispctl.main", "--socket", str(nodes[0].socket), "status"))
        if ping(world["a"], B.eid4, A.eid4, count=2, timeout_s=3.0).lost == 2:
            raise ProcessFailed(f"nothing came back from {B.eid4}")
        figures |= _process("peers", module("lispmob.lispctl.main", "--socket", str(nodes[0].socket), "peers"))
        figures |= _process("lig-first-answer", lig)
        with world.stream():
            watch = module("lispmob.lispctl.main", "--socket", str(nodes[0].socket), "watch")
            figures["watch-processor"] = _watched(watch), "%"
        return figures


def _process(name: str, command: Sequence[str]) -> Figures:
    """How long a command takes from its start to its end, and its processor time, milliseconds."""
    walls, costs = [], []
    for _ in range(RUNS):
        began = time.monotonic()
        nowhere = [(os.POSIX_SPAWN_OPEN, number, os.devnull, os.O_WRONLY, 0) for number in (1, 2)]
        pid = os.posix_spawnp(command[0], list(command), os.environ, file_actions=nowhere)
        _, _, used = os.wait4(pid, 0)
        walls.append((time.monotonic() - began) * 1000)
        costs.append((used.ru_utime + used.ru_stime) * 1000)
    return {
        f"{name}-least": (min(walls), "ms"),
        f"{name}-median": (statistics.median(walls), "ms"),
        f"{name}-processor-least": (min(costs), "ms"),
        f"{name}-processor-median": (statistics.median(costs), "ms"),
    }


def _watched(command: Sequence[str]) -> float:
    """Processor time of a full screen, in percent of one processor."""
    pid, screen = pty.fork()
    if pid == 0:
        os.environ["TERM"] = "xterm-256color"
        os.execvp(command[0], list(command))  # noqa: S606 - a program of ours, on a terminal of its own
    try:
        os.set_blocking(screen, False)
        _look(screen, _WARM_S)
        before, began = _spent_s(pid), time.monotonic()
        _look(screen, _WATCHED_S)
        return 100 * (_spent_s(pid) - before) / (time.monotonic() - began)
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(screen)


def _look(screen: int, for_s: float) -> None:
    """Read what the program draws, so that it does not block."""
    until = time.monotonic() + for_s
    while time.monotonic() < until:
        with contextlib.suppress(BlockingIOError):
            os.read(screen, 1 << 16)
        time.sleep(0.05)


def _spent_s(pid: int) -> float:
    words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")

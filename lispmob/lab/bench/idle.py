"""What a node costs that has nothing to do, and what its forwarding table costs."""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path

from lispmob.lab.bench.traffic import Figures
from lispmob.lab.process import Daemon, ProcessFailed, module


def idle(daemon: Daemon, seconds: float) -> Figures:
    """Resident memory, and wake-ups of all its threads in a minute."""
    before = _switches(daemon.pid)
    time.sleep(seconds)
    woken = _switches(daemon.pid) - before
    return {
        "resident-memory": (daemon.resident_bytes() / 1e6, "MB"),
        "wakeups-per-minute": (woken * 60 / seconds, "1/min"),
    }


def table() -> Figures:
    """Lookups, memory and installation, by the number of entries. Raises ProcessFailed."""
    command = module("lispmob.datapath.measure")
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    if done.returncode:
        raise ProcessFailed(f"the forwarding table was not measured: {done.stderr.strip()[-500:]}")
    told = json.loads(done.stdout)
    figures: Figures = {f"lookup-ns-{entries}": (ns, "ns") for entries, ns in told["lookup-ns"].items()}
    figures["octets-per-entry"] = told["octets-per-entry"], "octets"
    figures["install-100k"] = told["install-s"], "s"
    return figures


def _switches(pid: int) -> int:
    """Voluntary context switches of all threads: each is a wake-up that ended."""
    total = 0
    for status in Path(f"/proc/{pid}/task").glob("*/status"):
        for line in status.read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith("voluntary_ctxt_switches:"):
                total += int(line.split()[1])
    return total

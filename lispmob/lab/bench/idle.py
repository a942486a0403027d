"""The cost of an idle node, and of its forwarding table."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

from lispmob.lab.bench.tiers import TierUnavailable
from lispmob.lab.bench.traffic import Figures
from lispmob.lab.process import Daemon, ProcessFailed, module

_TICKS_S: Final = os.sysconf("SC_CLK_TCK")
_LARGEST: Final = "1000000"

K = TypeVar("K", bound=Hashable)


def counted(daemons: Mapping[K, Daemon], seconds: float) -> dict[K, Figures]:
    """For each daemon, in one wait: resident memory, wake-ups of all threads in a minute, share of one processor."""
    before = {key: (_switches(daemon.pid), _busy_s(daemon.pid)) for key, daemon in daemons.items()}
    time.sleep(seconds)
    found: dict[K, Figures] = {}
    for key, daemon in daemons.items():
        woken, busy_s = _switches(daemon.pid) - before[key][0], _busy_s(daemon.pid) - before[key][1]
        found[key] = {
            "resident-memory": (daemon.resident_bytes() / 1e6, "MB"),
            "wakeups-per-minute": (woken * 60 / seconds, "1/min"),
            "idle-cpu": (100 * busy_s / seconds, "%"),
        }
    return found


def table() -> Figures:
    """Lookups, memory and installation, by the number of entries. Raises ProcessFailed."""
    told = _measured([*module("lispmob.datapath.bench.table")])
    figures: Figures = {f"lookup-ns-{entries}": (ns, "ns") for entries, ns in told["lookup-ns"].items()}
    figures["lookup-ns"] = figures[f"lookup-ns-{_LARGEST}"]
    figures["octets-per-entry"] = told["octets-per-entry"], "octets"
    figures["install-100k"] = told["install-s"], "s"
    return figures


def kernel_table() -> Figures:
    """The cost of the copy in the kernel (ebpf tier). Raises ProcessFailed, TierUnavailable."""
    told = _measured(["unshare", "--net", *module("lispmob.datapath.bench.table"), "--kernel"])
    if "unavailable" in told:
        raise TierUnavailable(told["unavailable"])
    return {
        "install-100k": (told["install-s-100000"], "s"),
        "install-1000k": (told[f"install-s-{_LARGEST}"], "s"),
        "switch-1000k": (told[f"switch-s-{_LARGEST}"], "s"),
        "octets-per-entry": (told[f"octets-per-entry-{_LARGEST}"], "octets"),
    }


def _measured(command: Sequence[str]) -> dict[str, Any]:
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    if done.returncode:
        raise ProcessFailed(f"the forwarding table was not measured: {done.stderr.strip()[-500:]}")
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def _switches(pid: int) -> int:
    """Voluntary context switches of all threads; each ends a wake-up."""
    total = 0
    for status in Path(f"/proc/{pid}/task").glob("*/status"):
        for line in status.read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith("voluntary_ctxt_switches:"):
                total += int(line.split()[1])
    return total


def _busy_s(pid: int) -> float:
    """Processor seconds of all threads (proc(5): utime and stime are the 14th and 15th field of stat)."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS_S

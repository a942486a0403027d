"""The cost of hubs with a shared registry: three of them on six servers, and how much the servers can hold.

hubs       three hubs, 3 + 3 servers, 300 nodes: how soon a move is visible everywhere, and registers a second
N          N registrations in three servers, and one client that commits as a hub does
"""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path
from typing import Final

from lispmob.lab.bench.results import Results
from lispmob.lab.cluster.scene import Scene
from lispmob.lab.process import ProcessFailed, module
from lispmob.lab.report import Report
from lispmob.lab.valkey import ValkeyCluster

MOVES: Final = 200
REGISTERS: Final = 10_000
_PLACES: Final = tuple((f"127.0.9.{number}", 7200) for number in range(1, 7))
_PATIENT_MS: Final = 60_000  # a server that is being filled may not answer for a while
_LIMIT_S: Final = 3600.0


def measure_hubs(results: Results, directory: Path) -> None:
    """Cases hub-visible and hub-refresh of path "hubs". Raises LispError."""
    with Scene(directory / "cluster", Report(time.monotonic(), results.machine)) as scene:
        times_ms = scene.visible(MOVES)
        results.add("cluster-visible-p50", "hubs", times_ms[len(times_ms) // 2], "ms")
        results.add("cluster-visible-p99", "hubs", times_ms[len(times_ms) * 99 // 100], "ms")
        before = scene.processors_s()
        results.add("cluster-register-rate", "hubs", scene.rate(REGISTERS), "1/s")
        hubs_s, servers_s = (after - start for after, start in zip(scene.processors_s(), before, strict=True))
        results.add("cluster-register-process", "hubs", 1e6 * hubs_s / REGISTERS, "us")
        results.add("cluster-register-servers", "hubs", 1e6 * servers_s / REGISTERS, "us")


def measure_size(results: Results, directory: Path, count: int, *, has_replicas: bool, seconds: float = 10.0) -> None:
    """The memory that `count` registrations take in the servers, and the servers' speed then. Raises LispError."""
    places = _PLACES if has_replicas else _PLACES[:3]
    with ValkeyCluster(directory / f"size-{count}", places, node_timeout_ms=_PATIENT_MS) as cluster:
        command = module(
            "lispmob.hub.bench.measure_registry",
            *(str(server) for server in cluster.servers[:3]),
            *("--registrations", str(count), "--seconds", str(seconds)),
        )
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_LIMIT_S)
        if done.returncode:
            raise ProcessFailed(f"the registry was not measured: {done.stderr.strip()[-500:]}")
        resident = sum(_resident_octets(server.pid) for server in cluster.servers)
    told: dict[str, float] = json.loads(done.stdout)
    units = {"per-s": "1/s", "cpu-us": "us", "p50-ms": "ms", "p99-ms": "ms"}
    path = f"{count}{' + replicas' if has_replicas else ''}"
    results.add("registry-octets-per-registration", path, told["octets-per-registration"], "octets")
    results.add("registry-resident", path, resident / 1e6, "MB")
    results.add("registry-fill", path, told["fill-s"], "s")
    for run in ("full", "paced"):
        for name, unit in units.items():
            results.add(f"registry-{run}-{name.rpartition('-')[0]}", path, told[f"{run}-{name}"], unit)


def _resident_octets(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))

"""The measurements of a path: iperf3, round trips, and their processor time."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import subprocess
import time
from pathlib import Path
from typing import Any, Final

from lispmob.lab.bench.wire import Pair, Way, whole_cpu_s
from lispmob.lab.ping import ping
from lispmob.lab.process import ProcessFailed

_PORT: Final = 5201
_GRACE_S: Final = 20.0
_SLOW_PPS: Final = 10_000  # ours: with 100 Mbit/s, the load of a phone
_PINGS: Final = 200

Figures = dict[str, tuple[float, str]]
"""Value and unit, by case."""


def tcp(pair: Pair, path: Way, streams: int, seconds: float) -> Figures:
    """Gbit/s received, and processor seconds for each gigabyte (whole machine, both ends)."""
    answer, busy_s = _iperf(pair, path, seconds, "-P", str(streams))
    received = answer["end"]["sum_received"]
    case = f"tcp{streams}"
    figures: Figures = {case: (received["bits_per_second"] / 1e9, "Gbit/s")}
    if streams == 1 and received["bytes"]:
        figures["cpu-per-gb"] = busy_s / (received["bytes"] / 1e9), "s/GB"
    return figures


def udp(pair: Pair, path: Way, octets: int, seconds: float) -> Figures:
    """Thousands of packets a second received, when one sender sends at full speed."""
    answer, busy_s = _iperf(pair, path, seconds, "-u", "-b", "0", "-l", str(octets))
    total = answer["end"]["sum"]
    arrived = total["packets"] - total["lost_packets"]
    figures: Figures = {f"udp{octets}": (arrived / total["seconds"] / 1e3, "kpps")}
    if octets == 64 and arrived:
        figures["cpu-per-mpps"] = busy_s / (arrived / 1e6), "s/Mpackets"
    return figures


def energy(pair: Pair, path: Way, seconds: float) -> Figures:
    """Processor seconds for each gigabyte at 100 Mbit/s of TCP, and for each million packets at 10 kpps of 64 octets.

    The time is that of the programs at both ends and of every daemon between them, including system calls. So other
    programs of the machine hardly count, and neither do kernel threads.
    """
    figures: Figures = {}
    with _OwnTime() as spent:
        answer, _ = _iperf(pair, path, seconds, "-b", "100M")
    if octets := answer["end"]["sum_received"]["bytes"]:
        figures["energy-per-gb"] = spent.seconds / (octets / 1e9), "s/GB"
    with _OwnTime() as spent:
        answer, _ = _iperf(pair, path, seconds, "-u", "-b", f"{_SLOW_PPS * 64 * 8}", "-l", "64")
    total = answer["end"]["sum"]
    if arrived := total["packets"] - total["lost_packets"]:
        figures["energy-per-mpackets"] = spent.seconds / (arrived / 1e6), "s/Mpackets"
    return figures


class _OwnTime:
    """Processor seconds of all processes that this process has started, including those that end meanwhile."""

    def __enter__(self) -> _OwnTime:
        self._before = _ended_s(), _living_s()
        self.seconds = 0.0
        return self

    def __exit__(self, *_: object) -> None:
        self.seconds = _ended_s() - self._before[0] + _living_s() - self._before[1]


def _ended_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _living_s() -> float:
    """Of all living descendants, by the scheduler's count (schedstat: nanoseconds on a processor)."""
    parents: dict[int, list[int]] = {}
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, IndexError, ValueError):
            parents.setdefault(int((entry / "stat").read_text().rpartition(")")[2].split()[1]), []).append(
                int(entry.name)
            )
    total, waiting = 0, list(parents.get(os.getpid(), ()))
    while waiting:
        pid = waiting.pop()
        waiting += parents.get(pid, ())
        for thread in Path(f"/proc/{pid}/task").glob("*/schedstat"):
            with contextlib.suppress(OSError, IndexError, ValueError):
                total += int(thread.read_text().split()[0])
    return total / 1e9


def round_trip(pair: Pair, path: Way) -> Figures:
    """The median round trip of an idle path; the caller subtracts that of the bare cable."""
    answers = ping(pair.a, path.far, path.near, count=_PINGS)
    if answers.median_s is None:
        raise ProcessFailed(f"{path.name}: nothing came back")
    return {"rtt": (answers.median_s * 1e6, "us")}


def round_trip_under_load(pair: Pair, path: Way, seconds: float) -> Figures:
    """The median round trip during a TCP stream."""
    with _Server(pair, path):
        load = _client(pair, path, seconds, "-P", "1")
        try:
            time.sleep(min(1.0, seconds / 2))
            answers = ping(pair.a, path.far, path.near, count=20)
        finally:
            load.communicate(timeout=seconds + _GRACE_S)
    return {"rtt-loaded": ((answers.median_s or float("nan")) * 1e6, "us")} if answers.rtts_s else {}


class _Server:
    """iperf3 that serves one client and ends."""

    def __init__(self, pair: Pair, path: Way) -> None:
        line = pair.b.argv("iperf3", "-s", "-1", "-B", str(path.far), "-p", str(_PORT))
        self._process = subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + _GRACE_S
        while not _listens(self._process.pid) and time.monotonic() < deadline:
            time.sleep(0.01)

    def __enter__(self) -> None:
        return None

    def __exit__(self, *_: object) -> None:
        try:
            self._process.wait(2.0)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def _listens(pid: int) -> bool:
    """True when a process listens on iperf3's port in the network namespace of `pid`."""
    tables = (Path(f"/proc/{pid}/net/{name}") for name in ("tcp", "tcp6"))
    lines = (line.split() for table in tables if table.exists() for line in table.read_text().splitlines()[1:])
    return any(line[1].endswith(f":{_PORT:04X}") and line[3] == "0A" for line in lines)


def _client(pair: Pair, path: Way, seconds: float, *options: str) -> subprocess.Popen[str]:
    line = ["iperf3", "-J", "-c", str(path.far), "-B", str(path.near), "-p", str(_PORT), "-t", f"{seconds:g}", *options]
    return subprocess.Popen(pair.a.argv(*line), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def _iperf(pair: Pair, path: Way, seconds: float, *options: str) -> tuple[dict[str, Any], float]:
    """iperf3's report, and how long all processors together were busy meanwhile."""
    with _Server(pair, path):
        before = whole_cpu_s()
        client = _client(pair, path, seconds, *options)
        try:
            text, _ = client.communicate(timeout=seconds + _GRACE_S)
        except subprocess.TimeoutExpired:
            client.kill()
            client.communicate()
            raise ProcessFailed(f"{path.name}: iperf3 {' '.join(options)} does not end") from None
        busy_s = whole_cpu_s() - before
    answer = json.loads(text or "{}")
    if "error" in answer or "end" not in answer:
        raise ProcessFailed(f"{path.name}: iperf3 {' '.join(options)}: {answer.get('error', 'no answer')}")
    return answer, busy_s

"""The long run: `make fuzz-night`, 100 million inputs to the C side and 10 million to the decoders, side by side.

    python -m tests.fuzz.night DIRECTORY [--minutes 0] [--share 1.0]

Two processes run at a time: the targets of the C side one after the other, and the decoders. Each target has a log in
DIRECTORY, and puts what it finds into found/ there. It runs at low priority. SIGINT and SIGTERM end it early, and it
prints how far it came.
"""

from __future__ import annotations

import argparse
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

import msgspec

from tests.fuzz import build, corpus

INPUTS: Final = {"fuzz_packets": 60_000_000, "fuzz_inbound": 40_000_000, "wire": 10_000_000}
C_SIDE: Final = ("fuzz_packets", "fuzz_inbound")
LANES: Final = (C_SIDE, ("wire",))
# A fifth of the time went to recording the stack of each allocation, and to caches that 256 MB of freed memory had
# emptied. A harmful input is tried again by itself, with the sanitizer's defaults.
SANITIZER: Final = "malloc_context_size=2:quarantine_size_mb=8"
CORPORA: Final = {"fuzz_packets": "data", "fuzz_inbound": "data", "wire": "control"}
NICE: Final = ("nice", "-n", "19")
EVERY_S: Final = 60.0
_UNITS: Final = re.compile(rb"stat::number_of_executed_units: (\d+)")
_PROGRESS: Final = re.compile(rb"^#(\d+)\t", re.MULTILINE)


class Target(msgspec.Struct):
    """One program and its log."""

    name: str
    log: Path
    process: subprocess.Popen[bytes]

    def inputs(self) -> int:
        """How many inputs it has tried, by its log: exact at its end. Before, as of the last power of two, or find."""
        text = self.log.read_bytes()
        found = _UNITS.findall(text) or _PROGRESS.findall(text)
        return int(found[-1]) if found else 0


class Night:
    """The targets that run, that have run, and that wait."""

    def __init__(self, directory: Path, share: float, minutes: int) -> None:
        self.targets: list[Target] = []
        self._directory = directory
        self._share = share
        self._began = time.monotonic()
        self._minutes = minutes
        self._waiting = [list(lane) for lane in LANES]
        self._running: list[Target | None] = [None for _ in LANES]
        self._programs = {name: [str(build.build(name, directory))] for name in C_SIDE}
        self._programs["wire"] = [sys.executable, "-m", "tests.fuzz.wire"]

    def is_over(self) -> bool:
        """Start what comes next in each lane; True when nothing runs and nothing waits."""
        for place, waiting in enumerate(self._waiting):
            running = self._running[place]
            if running is not None and running.process.poll() is None:
                continue
            self._running[place] = self._start(waiting.pop(0)) if waiting else None
        return not any(self._running)

    def end(self) -> None:
        """Make the running targets stop and report: libFuzzer does so on SIGUSR1."""
        for waiting in self._waiting:
            waiting.clear()
        for target in self._running:
            if target is not None and target.process.poll() is None:
                target.process.send_signal(signal.SIGUSR1)

    def totals(self) -> str:
        """One line: how many inputs each side has had, at least, so far."""
        inputs = {target.name: target.inputs() for target in self.targets}
        c_side = sum(inputs.get(name, 0) for name in C_SIDE)
        of_each = ", ".join(f"{name} {count:,}" for name, count in inputs.items())
        minutes = (time.monotonic() - self._began) / 60
        at_least = "at least, " if any(target.process.poll() is None for target in self.targets) else ""
        return f"{minutes:.0f} min: {at_least}C side {c_side:,}, decoders {inputs.get('wire', 0):,} ({of_each})"

    def minutes_left(self) -> float:
        """Until the run has to end; infinite without a limit."""
        return self._minutes - (time.monotonic() - self._began) / 60 if self._minutes else float("inf")

    def _start(self, name: str) -> Target:
        """Start a target with a corpus of its own, to which it adds."""
        found = self._directory / "found" / name
        grown = self._directory / "corpus" / name
        for place in (found, grown):
            place.mkdir(parents=True, exist_ok=True)
        inputs = int(INPUTS[name] * self._share)
        options = [
            f"-runs={inputs}",
            "-max_len=1600",
            f"-artifact_prefix={found}/",
            "-print_final_stats=1",
            "-reload=0",
        ]
        log = self._directory / f"{name}.log"
        command = [*NICE, *self._programs[name], str(grown), str(self._directory / CORPORA[name]), *options]
        environment = {**os.environ, "ASAN_OPTIONS": SANITIZER}
        with log.open("wb") as output:
            process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, env=environment)
        self.targets.append(Target(name, log, process))
        return self.targets[-1]


def main() -> int:
    """Run all targets, print their progress once a minute, and the result. Returns 1 when an input broke a promise."""
    parser = argparse.ArgumentParser(description="The long run of all fuzz targets.")
    parser.add_argument("directory", type=Path)
    parser.add_argument("--minutes", type=int, default=0, help="end then at the latest; 0: when all is tried")
    parser.add_argument("--share", type=float, default=1.0, help="of the inputs")
    chosen = parser.parse_args()
    directory: Path = chosen.directory
    corpus.write(directory)
    night = Night(directory, chosen.share, chosen.minutes)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda _number, _frame: night.end())
    said = time.monotonic()
    while not night.is_over():
        time.sleep(1)
        if night.minutes_left() <= 0:
            night.end()
        if time.monotonic() >= said + EVERY_S:
            said = time.monotonic()
            sys.stdout.write(f"{night.totals()}\n")
            sys.stdout.flush()
    failed = [target.name for target in night.targets if target.process.returncode]
    kept = sorted((directory / "found").rglob("*-*"))
    crashes = [str(path) for path in kept if not path.name.startswith("slow-unit")]
    sys.stdout.write(f"{night.totals()}\nfailed: {', '.join(failed) or 'none'}; found: {crashes or 'nothing'}\n")
    return 1 if failed or crashes else 0


if __name__ == "__main__":
    raise SystemExit(main())
